"""Settings -> a worker's process: its loops until SIGTERM or SIGINT, or its work once."""

import asyncio
import logging
import signal
import sys
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import uvloop

from pgw.assembly import open_hot, open_ledger, open_runtime, process_name
from pgw.core.errors import Code, PgwError
from pgw.core.flow.runtime.clock import SystemClock
from pgw.core.flow.runtime.snapshot import CONFIGURATION_EVERY_S
from pgw.core.flow.verification.late_capture import monitor_due
from pgw.core.flow.verification.verify import verify_due
from pgw.core.flow.verification.webhooks import HANDLE_EVERY_S, handle_waiting
from pgw.core.ledger.due import due, due_monitors
from pgw.core.ledger.engine.ledger import CHECKPOINT_EVERY_S
from pgw.core.ledger.engine.store import identity
from pgw.core.ports import Dependencies
from pgw.settings import Settings, refusals
from pgw.workers.embedded import VERIFY_EVERY_S, refresher, verification
from pgw.workers.loop import Loop
from pgw.workers.metrics import Drained, open_pipeline

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
        line = open_pipeline(settings, ledger, await ledger.read(identity), hot, clock, process_name())
        try:
            if once:
                return await line.drain()
            _greet(f"metrics: counts {settings.stream_key} on {settings.redis_place} as {settings.consumer_name}")
            await _until_stopped(line.loops())
        finally:
            await line.close()
    finally:
        await hot.state.close()
        await ledger.close()
    return None


async def _verify(settings: Settings, *, once: bool) -> int | None:
    runtime = await open_runtime(settings, VERIFIES)
    clock = runtime.deps.clock
    try:
        if once:
            return await _verify_once(runtime.deps)
        _greet("verify: asks gateways what became of attempts nobody knows the end of")
        loops = [
            Loop("snapshot", CONFIGURATION_EVERY_S, runtime.snapshots.refresh, clock),
            refresher(runtime),
            Loop("webhooks", HANDLE_EVERY_S, lambda: handle_waiting(runtime.deps), clock),
            *verification(runtime),
        ]
        if settings.on_sqlite:
            loops.append(Loop("checkpoint", CHECKPOINT_EVERY_S, runtime.ledger.checkpoint, clock))
        await _until_stopped(loops)
    finally:
        await runtime.close(settings.drain_seconds)
    return None


async def _verify_once(deps: Dependencies) -> int:
    checked = 0
    for _ in range(MAX_VERIFY_ROUNDS):
        checked += await verify_due(deps) + await monitor_due(deps)
        now, resting = deps.clock.now(), deps.pace.backing_off(deps.clock.elapsed())
        if not await deps.ledger.read(due, now, 1, resting) and not await deps.ledger.read(
            due_monitors, now, 1, resting
        ):
            break
        await deps.clock.sleep(VERIFY_EVERY_S)
    return checked


async def _until_stopped(loops: Sequence[Loop]) -> None:
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
