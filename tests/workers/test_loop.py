"""A loop repeats its step, whatever a step does, and ends when stopped."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from pgw.core.errors import Code, PgwError
from pgw.core.ports import HotUnavailable
from pgw.workers.loop import AFTER_FAULT_S, Loop
from tests.doubles import VirtualClock

EVERY_S = 0.5


async def _settle() -> None:
    """Let the loop's task run until it waits for the clock again."""
    for _ in range(5):
        await asyncio.sleep(0)


class Steps:
    """Counts steps, and fails as scripted."""

    def __init__(self, *faults: Exception | None) -> None:
        self.taken = 0
        self._faults = list(faults)

    async def __call__(self) -> None:
        self.taken += 1
        fault = self._faults.pop(0) if self._faults else None
        if fault is not None:
            raise fault


def _run(scenario: Callable[[VirtualClock], Awaitable[None]]) -> None:
    async def run() -> None:
        await scenario(VirtualClock())

    asyncio.run(run())


def test_a_step_is_taken_at_once_and_then_after_each_pause() -> None:
    async def scenario(clock: VirtualClock) -> None:
        steps = Steps()
        loop = Loop("test", EVERY_S, steps, clock)
        loop.start()
        await _settle()
        assert steps.taken == 1
        for number in range(2, 6):
            clock.advance(EVERY_S - 0.001)
            await _settle()
            assert steps.taken == number - 1
            clock.advance(0.001)
            await _settle()
            assert steps.taken == number
        await loop.stop()

    _run(scenario)


@pytest.mark.parametrize(
    ("fault", "levels"),
    [
        (PgwError(Code.LEDGER_UNAVAILABLE, "the ledger is away"), ["WARNING"]),
        (HotUnavailable("the hot state is away"), ["WARNING"]),
        (RuntimeError("a bug"), ["ERROR", "ERROR"]),
        (TimeoutError(), ["ERROR", "ERROR"]),
    ],
    ids=lambda each: getattr(each, "code", None) or str(each) or type(each).__name__,
)
def test_a_step_that_fails_is_logged_and_tried_again_on_time(
    fault: Exception, levels: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """What is out of reach is said once, however often it is tried; a bug each time."""

    async def scenario(clock: VirtualClock) -> None:
        steps = Steps(fault, fault)
        loop = Loop("test", EVERY_S, steps, clock)
        loop.start()
        for _ in range(2):
            await _settle()
            clock.advance(EVERY_S)
        await _settle()
        assert steps.taken == 3
        await loop.stop()

    _run(scenario)
    assert [record.levelname for record in caplog.records] == levels


def test_one_that_hardly_pauses_does_after_a_fault() -> None:
    """It waits for work within its step: what is away ends the step at once."""

    async def scenario(clock: VirtualClock) -> None:
        steps = Steps(HotUnavailable("the hot state is away"), None)
        loop = Loop("test", EVERY_S / 100, steps, clock)
        loop.start()
        await _settle()
        taken = []
        for pause_s in (AFTER_FAULT_S / 2, AFTER_FAULT_S / 2, EVERY_S / 100, EVERY_S / 100):
            clock.advance(pause_s)
            await _settle()
            taken.append(steps.taken)
        assert taken == [1, 2, 3, 4]
        await loop.stop()

    _run(scenario)


def test_its_silence_is_the_time_since_a_step_ended_well() -> None:
    async def scenario(clock: VirtualClock) -> None:
        loop = Loop("test", EVERY_S, Steps(None, *[RuntimeError("a bug")] * 3), clock)
        loop.start()
        silences = []
        for _ in range(6):
            await _settle()
            silences.append(loop.idle_s())
            clock.advance(EVERY_S)
        assert silences == [0.0, 0.5, 1.0, 1.5, 0.0, 0.0]
        await loop.stop()

    _run(scenario)


def test_it_stops_in_the_middle_of_a_step() -> None:
    async def scenario(clock: VirtualClock) -> None:
        cut = []

        async def hang() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cut.append(True)
                raise

        loop = Loop("test", EVERY_S, hang, clock)
        loop.start()
        await _settle()
        await loop.stop()
        assert cut == [True]

    _run(scenario)


def test_it_stops_in_the_middle_of_a_pause_and_takes_no_step_after() -> None:
    async def scenario(clock: VirtualClock) -> None:
        steps = Steps()
        loop = Loop("test", EVERY_S, steps, clock)
        loop.start()
        await _settle()
        await loop.stop()
        clock.advance(10 * EVERY_S)
        await _settle()
        assert steps.taken == 1

    _run(scenario)


def test_one_that_never_started_stops() -> None:
    async def scenario(clock: VirtualClock) -> None:
        await Loop("test", EVERY_S, Steps(), clock).stop()

    _run(scenario)
