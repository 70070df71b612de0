"""Work that is owned ends by itself, whoever goes away; at the end of a process it is waited for, within its budget."""

import asyncio

import pytest

from pgw.core.flow.runtime.tasks import BackgroundTasks


def test_cancelling_the_wait_does_not_cancel_the_work() -> None:
    async def scenario() -> None:
        tasks, gate, ended = BackgroundTasks(), asyncio.Event(), []

        async def work() -> None:
            await gate.wait()
            ended.append(True)

        waiting = asyncio.create_task(tasks.run(work()))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate.set()
        assert await tasks.drain(10) == 0
        assert ended == [True]

    asyncio.run(scenario())


def test_the_waiter_gets_the_result_or_the_refusal() -> None:
    async def scenario() -> None:
        tasks = BackgroundTasks()

        async def answer() -> int:
            return 42

        async def refuse() -> None:
            raise LookupError("no")

        assert await tasks.run(answer()) == 42
        with pytest.raises(LookupError):
            await tasks.run(refuse())

    asyncio.run(scenario())


def test_a_refusal_nobody_waits_for_is_no_lost_exception(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        tasks = BackgroundTasks()

        async def refuse() -> None:
            raise LookupError("no")

        tasks.spawn(refuse())
        assert await tasks.drain(10) == 0

    asyncio.run(scenario())
    assert caplog.records == []


def test_what_does_not_end_within_the_budget_is_cut_and_counted() -> None:
    async def scenario() -> None:
        tasks, ends = BackgroundTasks(), []

        async def hang() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ends.append("cut")

        for _ in range(3):
            tasks.spawn(hang())
        await asyncio.sleep(0)
        assert await tasks.drain(0.0) == 3
        await asyncio.sleep(0)
        assert ends == ["cut"] * 3

    asyncio.run(scenario())
