"""A run's own things -> its houses: each one life of one process, taking payments and looking after what is open."""

import asyncio
import contextlib
import contextvars
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import Any

from msgspec import structs

from pgw.core.errors import PgwError
from pgw.core.flow.breakers.circuit import Breakers
from pgw.core.flow.runtime.tasks import BackgroundTasks
from pgw.core.flow.verification.late_capture import monitor_due
from pgw.core.flow.verification.verify import verify_due
from pgw.core.flow.verification.webhooks import handle_waiting
from pgw.core.hot.in_process import InProcessHotState
from pgw.core.payment.payment import PaymentRequest
from pgw.core.ports import Dependencies, Gateway
from tests.doubles import LEDGER_ID, snapshot_of
from tests.fake_gateway import Book, FakeGateway
from tests.simulation.store import Due, Store, StoreLedger
from tests.simulation.virtual import Process, ProcessClock, VirtualLoop
from tests.simulation.weather import DAY_S, Fates, Weather, pick

GATEWAYS = ("g1", "g2", "g3")
BUSY_S = 40.0
"""How long clients come; what goes wrong with processes goes wrong from then until twice as long."""

WATCHED_S = 3600.0
"""How long the workers look as soon as something is due; later they look rarely."""

Step = Callable[[Dependencies], Any]
STEPS: dict[Due, Step] = {Due.WEBHOOK: handle_waiting, Due.CHECK: verify_due, Due.WATCH: monitor_due}


@dataclass(frozen=True)
class Answer:
    """What one client was told: the payment, or the refusal's code; None: the line went dead."""

    key: str
    payment_id: str | None
    word: str


@dataclass
class House:
    """One life of one process."""

    process: Process
    deps: Dependencies
    tasks: BackgroundTasks
    circuit: Breakers


@dataclass
class Run:
    """Everything of one run, for the checks that follow it."""

    seed: int
    rng: Random
    loop: VirtualLoop
    weather: Weather
    fates: Fates
    store: Store
    book: Book
    hot: InProcessHotState
    houses: dict[str, House] = field(default_factory=dict)
    dead: list[House] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    asked: dict[str, PaymentRequest] = field(default_factory=dict)
    troubles: list[asyncio.Future[None]] = field(default_factory=list)
    outside: contextvars.Context = field(default_factory=contextvars.copy_context)
    """What runs in here belongs to no process."""
    wrong: list[str] = field(default_factory=list)
    """What was found to be wrong while it ran."""
    story: list[str] = field(default_factory=list)

    def let_loose(self, trouble: Coroutine[Any, Any, None]) -> None:
        """Let something happen beside everything; the run does not end before it."""
        self.troubles.append(asyncio.ensure_future(trouble))

    def publish(self, words: str) -> None:
        """Write one line of the story."""
        passed = self.loop.time()
        self.story.append(f"{passed:12.3f}  {words}" if passed < DAY_S else f"{passed / DAY_S:10.4f} d  {words}")

    def house_of(self, process: Process) -> House | None:
        """Find the house that a living process is."""
        return next((each for each in self.houses.values() if each.process is process), None)


def start(run: Run, place: str) -> None:
    """Start a process on what the ones before it left; it takes payments, and looks after what is open."""
    runtime = build(run, place)
    runtime.process.spawn(_work(run, runtime))
    runtime.process.spawn(_turn_breakers(run, runtime))


def build(run: Run, place: str) -> House:
    """Put a process there that does nothing by itself."""
    name = f"{place}.{len(run.dead) + len(run.houses) + 1}"
    process = Process(name, run.loop)
    rng = Random(f"{run.seed}:{name}")
    clock = ProcessClock(process, run.loop)
    tasks = BackgroundTasks()
    base = snapshot_of(GATEWAYS, clock.now())
    gateways: dict[str, Gateway] = {each: FakeGateway(each, run.book, run.fates, clock.sleep) for each in GATEWAYS}
    circuit = Breakers(name, clock, rng, run.hot, lambda: base.scoring.breaker, lambda: None, shared=True)
    deps = Dependencies(
        ledger=StoreLedger(run.store, process, run.loop, rng),
        gateways=gateways,
        clock=clock,
        rng=rng,
        snapshot=lambda: structs.replace(base, as_of=clock.now(), views=circuit.views()),
        timeout_ms=2500,
        ledger_id=LEDGER_ID,
        spawn=tasks.spawn,
        circuit=circuit,
    )
    runtime = House(process, deps, tasks, circuit)
    run.publish(f"{name} starts")
    run.houses[place] = runtime
    return runtime


async def _work(run: Run, runtime: House) -> None:
    """Look after what is open, as the worker's loops do, but only when something is due."""
    deps = runtime.deps
    lazy_s = pick(runtime.deps.rng, ((2, 3600.0), (2, 4 * 3600.0), (1, 11 * 3600.0)))
    while True:
        done = 0
        # A look that finds nothing changes nothing: the simulation need not make it.
        for due, step in STEPS.items():
            if run.store.due_in(deps.clock.now(), due) <= 0:
                with contextlib.suppress(PgwError):
                    done += await step(deps)
        await deps.clock.sleep(_rest_s(run, deps, lazy_s) if done else max(2.0, _rest_s(run, deps, lazy_s)))


def _rest_s(run: Run, deps: Dependencies, lazy_s: float) -> float:
    if run.loop.time() > WATCHED_S:
        return lazy_s * deps.rng.uniform(0.8, 1.2)
    most_s = 2.0 if run.loop.time() < 2 * BUSY_S else 600.0
    return min(max(0.5, min(run.store.due_in(deps.clock.now(), each) for each in Due)), most_s)


async def _turn_breakers(run: Run, runtime: House) -> None:
    keys = [(name, "UPI") for name in GATEWAYS]
    while run.loop.time() < 2 * BUSY_S:
        alive = frozenset(each.process.name for each in run.houses.values())
        await runtime.circuit.step(keys, {}, alive)
        await runtime.deps.clock.sleep(2.0)
