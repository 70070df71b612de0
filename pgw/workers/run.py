"""Settings -> a worker's process: its loops until SIGTERM or SIGINT, or its work once."""

import asyncio
import logging
import signal
import sys
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import uvloop

from pgw.assembly import open_hot, open_house, open_ledger, process_name
from pgw.core.errors import Code, PgwError
from pgw.core.flow.runtime.clock import SystemClock
from pgw.core.flow.runtime.snapshot import REFRESH_EVERY_S
from pgw.core.flow.verification.late_capture import watch_due
from pgw.core.flow.verification.verify import verify_due
from pgw.core.flow.verification.webhooks import HANDLE_EVERY_S, handle_waiting
from pgw.core.ledger.due import due, watched
from pgw.core.ledger.engine.ledger import CHECKPOINT_EVERY_S
from pgw.core.ledger.engine.store import identity
from pgw.core.ports import World
from pgw.settings import Settings, refusals
from pgw.workers.embedded import VERIFY_EVERY_S, pulse, verification
from pgw.workers.loop import Loop
from pgw.workers.metrics import Drained, open_line_back

T = TypeVar("T")

VERIFIES = "verify"
"""Role of a process that asks gateways what became of attempts."""

MAX_VERIFY_ROUNDS = 1_000
"""Rounds of one `--once`: some minutes, at the pace that gateways are asked at."""


def count_metrics(settings: Settings, *, once: bool) -> Drained | None:
    """Relay and count until told to stop; with `once`, what is there. Raises PgwError, HotUnavailable with `once`."""
    return _run(settings, _count_metrics(settings, once=once))


def verify(settings: Settings, *, once: bool) -> int | None:
    """Check attempts until told to stop; with `once`, those that are due: return how many. Raises PgwError."""
    return _run(settings, _verify(settings, once=once))


def _run(settings: Settings, work: Coroutine[Any, Any, T]) -> T:
    if found := refusals(settings):
        work.close()
        raise PgwError(Code.REFUSED_TO_START, "; ".join(found))
    logging.basicConfig(
        stream=sys.stderr, level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


async def _count_metrics(settings: Settings, *, once: bool) -> Drained | None:
    clock = SystemClock()
    ledger = open_ledger(settings)
    hot = open_hot(settings, clock)
    try:
        line = open_line_back(settings, ledger, await ledger.read(identity), hot, clock, process_name())
        try:
            if once:
                return await line.drain()
            _greet(f"metrics: counts {settings.stream_key} on {settings.redis_place} as {settings.consumer_name}")
            await _until_told(line.loops())
        finally:
            await line.close()
    finally:
        await hot.state.close()
        await ledger.close()
    return None


async def _verify(settings: Settings, *, once: bool) -> int | None:
    house = await open_house(settings, VERIFIES)
    clock = house.world.clock
    try:
        if once:
            return await _verify_once(house.world)
        _greet("verify: asks gateways what became of attempts nobody knows the end of")
        loops = [
            Loop("snapshot", REFRESH_EVERY_S, house.snapshots.refresh, clock),
            pulse(house),
            Loop("webhooks", HANDLE_EVERY_S, lambda: handle_waiting(house.world), clock),
            *verification(house),
        ]
        if settings.on_sqlite:
            loops.append(Loop("checkpoint", CHECKPOINT_EVERY_S, house.ledger.checkpoint, clock))
        await _until_told(loops)
    finally:
        await house.close(settings.drain_seconds)
    return None


async def _verify_once(world: World) -> int:
    checked = 0
    for _ in range(MAX_VERIFY_ROUNDS):
        checked += await verify_due(world) + await watch_due(world)
        now, resting = world.clock.now(), world.pace.resting(world.clock.elapsed())
        if not await world.ledger.read(due, now, 1, resting) and not await world.ledger.read(watched, now, 1, resting):
            break
        await world.clock.sleep(VERIFY_EVERY_S)
    return checked


async def _until_told(loops: Sequence[Loop]) -> None:
    """Run loops until a signal asks to stop; every step leaves what it did not finish to another."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    for each in loops:
        each.start()
    await stop.wait()
    for each in loops:
        await each.stop()


def _greet(words: str) -> None:
    sys.stderr.write(f"pgw worker {words}\n")
    sys.stderr.flush()
