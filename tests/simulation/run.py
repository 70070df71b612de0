"""A seed -> one run of the whole money path on virtual time: clients, processes, gateways, a ledger, and their ills.

Two processes take payments and look after what is open, on one ledger; gateways err, answers are lost, processes are
stopped and killed, clocks are wrong. A week later everything must have come out right.
"""

import asyncio
from random import Random
from typing import TYPE_CHECKING

from msgspec import structs

from pgw.core.errors import PgwError
from pgw.core.flow.payments.take import take
from pgw.core.hot.in_process import InProcessHotState
from pgw.core.ledger.audit_reads import NO_ID, payment_rows, payments_after
from pgw.core.money.invariants import check
from pgw.core.payment.payment import PaymentRequest, Upi
from tests.doubles import request_of
from tests.fake_gateway import Book
from tests.simulation.bugs import listening
from tests.simulation.ills import befall
from tests.simulation.scene import BUSY_S, Answer, Run, start
from tests.simulation.store import Store
from tests.simulation.virtual import Process, ProcessClock, VirtualLoop, moment, run_in
from tests.simulation.weather import DAY_S, Fates, Weather

if TYPE_CHECKING:
    from pgw.core.flow.payments.replay import Taken

PAYMENTS = 8
HEALED_S = 5.05 * DAY_S
"""From when on nothing goes wrong any more: the gateways' last word comes after it."""

END_S = 19 * DAY_S
"""A person's word comes by 6.6 days, is watched for five more, and for another five where its gateway comes to no end.

Watches are looked at once a day, and a reversal that was taken on late is made by the sixteenth."""

TRIES = 7
LOOKS = 2

BUG = "bug: "
"""How an answer begins that is nobody's refusal but a fault in pgw."""


def simulate(seed: int, weather: Weather | None = None, fates: Fates | None = None, payments: int = PAYMENTS) -> Run:
    """Live through one run; its weather and fates are drawn, unless told."""
    run = prepared(seed, weather, fates)
    with listening() as bugs:
        run_in(run.loop, lambda: _live(run, payments))
    run.wrong += bugs
    return run


def prepared(seed: int, weather: Weather | None = None, fates: Fates | None = None) -> Run:
    """Lay out what a run needs before it begins: time, an empty ledger, the gateways' book, and no process yet."""
    loop = VirtualLoop()
    rng = Random(f"simulation:{seed}")
    weather = weather or Weather.drawn(rng)
    fates = fates or Fates(weather, Random(f"fates:{seed}"))
    store = Store(loop, Random(f"store:{seed}"))
    store.draw = fates.of_commit
    book = Book(lambda: moment(loop))
    run = Run(seed, rng, loop, weather, fates, store, book, InProcessHotState(TrueClock(loop)))
    fates.story = run.publish
    run.publish(f"seed {seed}: {weather}")
    return run


async def _live(run: Run, payments: int) -> None:
    for name in ("a", "b"):
        start(run, name)
    clients = [asyncio.ensure_future(_client(run, number)) for number in range(payments)]
    befall(run)
    looks = [asyncio.ensure_future(_look(run, run.rng.uniform(0, 2 * BUSY_S))) for _ in range(LOOKS)]
    await asyncio.gather(*clients)
    await asyncio.sleep(max(0.0, HEALED_S - run.loop.time()))
    run.fates.healed = True
    run.publish("all is well again")
    await asyncio.sleep(END_S - run.loop.time())
    for key in run.asked:
        await ask(run, key, run.asked[key], "at the end")
    await asyncio.sleep(60)
    await asyncio.gather(*run.troubles, *looks)
    for runtime in run.houses.values():
        runtime.process.kill()


async def _look(run: Run, at: float) -> None:
    """Check in the middle of it all what must be true at every moment."""
    await asyncio.sleep(at)
    connection = run.store.memory.connection
    for case in payment_rows(connection, payments_after(connection, NO_ID)):
        run.wrong += [f"at {at:.3f} s: {each}" for each in check(case)]


class TrueClock(ProcessClock):
    """The clock of what is no process."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__(Process("world", loop), loop)


async def _client(run: Run, number: int) -> None:
    """Ask for one payment until there is an answer that ends it, or patience does; sometimes twice at once."""
    rng = Random(f"{run.seed}:client-{number}")
    key = f"key-{number}"
    request = request_of(
        amount_minor=rng.randint(2, 100_000), merchant_id=f"m_00{rng.randint(1, 2)}", instrument=Upi(vpa="p@okicici")
    )
    run.asked[key] = request
    await asyncio.sleep(rng.uniform(0, BUSY_S))
    both = 2 if rng.random() < 0.15 else 1
    await asyncio.gather(*(_insist(run, rng, key, request) for _ in range(both)))
    if rng.random() < 0.1:
        other = structs.replace(request, amount_minor=request.amount_minor + 1)
        await ask(run, key, other, "with another amount")


async def _insist(run: Run, rng: Random, key: str, request: PaymentRequest) -> None:
    for _ in range(TRIES):
        word = await ask(run, key, request, "", patience_s=rng.choice((30.0, 30.0, 1.0)))
        if word in {"SUCCESS", "FAILURE"} or rng.random() < 0.05:
            return
        await asyncio.sleep(rng.uniform(0.1, 6))


async def ask(run: Run, key: str, request: PaymentRequest, how: str, patience_s: float = 30.0) -> str:
    """Ask one process that is there, and note what it says."""
    there = [each for _, each in sorted(run.houses.items())]
    if not there:
        return "nobody"
    runtime = run.rng.choice(there)
    # As the server does it: a client that goes away does not take its payment with it.
    asking = asyncio.ensure_future(runtime.process.ask(lambda: take(runtime.deps, request, key)))
    try:
        taken: Taken = await asyncio.wait_for(asyncio.shield(asking), patience_s)
    except PgwError as fault:
        answer = Answer(key, None, str(fault.code))
    except (ConnectionResetError, TimeoutError) as fault:
        asking.add_done_callback(lambda done: done.exception())
        answer = Answer(key, None, type(fault).__name__)
    except Exception as fault:  # noqa: BLE001  # the checks will name it
        answer = Answer(key, None, f"{BUG}{fault!r}")
    else:
        answer = Answer(key, taken.payment.payment_id, str(taken.payment.status))
    run.publish(f"{key} {how} at {runtime.process.name}: {answer.word} {answer.payment_id or ''}")
    if how != "with another amount":
        run.answers.append(answer)
    return answer.word
