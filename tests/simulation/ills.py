"""A run -> what befalls its processes, its ledger and its messages, and when."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from random import Random
from typing import Any

from pgw.core.errors import PgwError
from pgw.core.ledger.webhooks import RECEIVE, receiving
from pgw.core.verification.webhook import WebhookNotice, digest_of
from tests.doubles import NOON
from tests.fake_gateway import Charge, Stand
from tests.simulation.people import called
from tests.simulation.scene import BUSY_S, House, Run, start
from tests.simulation.virtual import PROCESS, Process
from tests.simulation.weather import DAY_S, pick

Ill = Coroutine[Any, Any, None]


def befall(run: Run) -> None:
    """Let loose all that this run's weather holds; runs outside every process."""
    run.store.struck = lambda process, phase: _strike(run, process, phase.name)
    run.fates.struck = lambda what: _strike(run, PROCESS.get(), what)
    run.store.reviewed = lambda payment_id: _outside(run, lambda: called(run, payment_id))
    run.book.tells = lambda charge: _outside(run, lambda: _tell_of(run, charge))
    for each in _evils(run):
        run.let_loose(each)


def _outside(run: Run, act: Callable[[], None]) -> None:
    """Do something that belongs to no process, soon."""
    run.outside.run(run.loop.call_soon, act)


def _strike(run: Run, process: Process | None, what: str) -> None:
    """Draw whether a process is struck at the very thing it just did."""
    if run.fates.healed or process is None or run.rng.random() >= run.weather.strikes or run.loop.time() > DAY_S:
        return
    runtime = run.house_of(process)
    if runtime is None or process.stopped:
        return
    run.publish(f"  {process.name} is struck at its {what}")
    # At once: what it was told by then, it has not heard yet.
    after = _killed(run, runtime) if run.rng.random() < 0.5 else _stopped(run, runtime, _held_for_s(run.rng))
    _outside(run, lambda: run.let_loose(after))


def _evils(run: Run) -> list[Ill]:
    """Draw what befalls the processes and the ledger, and when."""
    rng, weather = run.rng, run.weather
    kills = [_kill(run, rng.uniform(0, 2 * BUSY_S), rng.choice("ab")) for _ in range(weather.kills)]
    stops = [_stop(run, rng.uniform(0, BUSY_S), rng.choice("ab"), _stopped_for_s(rng)) for _ in range(weather.stops)]
    jumps = [
        _set_clock(run, rng.uniform(0, 2 * BUSY_S), rng.choice("ab"), _wrong_by_s(rng))
        for _ in range(weather.clock_jumps)
    ]
    outages = [_lose_ledger(run, rng.uniform(0, BUSY_S), rng.uniform(0.5, 20)) for _ in range(weather.outages)]
    return [*kills, *stops, *jumps, *outages]


def _stopped_for_s(rng: Random) -> float:
    return float(pick(rng, ((2, rng.uniform(0.1, 6)), (2, rng.uniform(5, 90)), (1, rng.uniform(600, 7200)))))


def _held_for_s(rng: Random) -> float:
    return float(pick(rng, ((1, rng.uniform(0.1, 6)), (1, rng.uniform(5, 90)))))


def _wrong_by_s(rng: Random) -> float:
    return float(pick(rng, ((2, rng.uniform(-5, 5)), (1, rng.choice((-3600.0, 3600.0))))))


async def _kill(run: Run, at: float, name: str) -> None:
    await asyncio.sleep(at)
    runtime = run.houses.get(name)
    if runtime is not None:
        await _killed(run, runtime)


def _killed(run: Run, runtime: House) -> Ill:
    """Kill now; what is returned starts the next one."""
    name = runtime.process.name.partition(".")[0]
    run.publish(f"{runtime.process.name} is killed")
    del run.houses[name]
    run.dead.append(runtime)
    runtime.process.kill()
    run.store.forget(runtime.process)
    return _started(run, name, run.rng.uniform(0.1, 30))


async def _started(run: Run, name: str, after_s: float) -> None:
    await asyncio.sleep(after_s)
    start(run, name)


async def _stop(run: Run, at: float, name: str, for_s: float) -> None:
    await asyncio.sleep(at)
    runtime = run.houses.get(name)
    if runtime is not None and not runtime.process.stopped:
        await _stopped(run, runtime, for_s)


def _stopped(run: Run, runtime: House, for_s: float) -> Ill:
    """Stop now; what is returned lets it go on."""
    run.publish(f"{runtime.process.name} is stopped for {for_s:.1f} s")
    runtime.process.stop()
    return _continued(run, runtime, for_s)


async def _continued(run: Run, runtime: House, after_s: float) -> None:
    await asyncio.sleep(after_s)
    run.publish(f"{runtime.process.name} goes on")
    runtime.process.go_on()


async def _set_clock(run: Run, at: float, name: str, by_s: float) -> None:
    await asyncio.sleep(at)
    runtime = run.houses.get(name)
    if runtime is not None:
        run.publish(f"the clock of {runtime.process.name} is wrong by {by_s:.1f} s")
        runtime.process.skew = timedelta(seconds=by_s)


async def _lose_ledger(run: Run, at: float, for_s: float) -> None:
    await asyncio.sleep(at)
    run.publish(f"the ledger is away for {for_s:.1f} s")
    run.store.is_away = True
    await asyncio.sleep(for_s)
    run.store.is_away = False


def _tell_of(run: Run, charge: Charge) -> None:
    """Let the gateway send its webhooks: some never, some more than once, late and in any order."""
    for since, stand in charge.stands:
        for _ in range(run.rng.choice((1, 1, 2, 3)) if run.rng.random() < run.weather.hints else 0):
            late_s = pick(
                run.rng, ((3, run.rng.uniform(0, 2)), (2, run.rng.uniform(0, 120)), (1, run.rng.uniform(0, DAY_S)))
            )
            run.let_loose(_hint(run, charge, since, stand, (since - NOON).total_seconds() + late_s))


async def _hint(run: Run, charge: Charge, since: datetime, stand: Stand, at_s: float) -> None:
    """Deliver one webhook, and again when it was not taken."""
    await asyncio.sleep(at_s - run.loop.time())
    notice = WebhookNotice(
        event=f"payment.{stand.name.lower()}",
        occurred_at=since,
        payment_id=charge.reference.payment_id,
        attempt_number=charge.reference.attempt_number,
        transaction_ref=charge.transaction_ref,
    )
    digest = digest_of(f"{charge.transaction_ref} {stand}".encode())
    for again_s in (5.0, 60.0, 3600.0):
        there = [each for _, each in sorted(run.houses.items())]
        with contextlib.suppress(PgwError, ConnectionResetError):
            if there and await _heard(charge, digest, notice, run.rng.choice(there)):
                run.publish(f"  a webhook of {charge.transaction_ref}: {stand.name}")
                return
        await asyncio.sleep(again_s)


async def _heard(charge: Charge, digest: str, notice: WebhookNotice, runtime: House) -> bool:
    item = receiving(charge.gateway_id, digest, notice, runtime.deps.clock.now())
    await runtime.process.ask(lambda: runtime.deps.ledger.commit(RECEIVE, item))
    return True
