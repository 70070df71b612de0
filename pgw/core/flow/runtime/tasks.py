"""Coroutines -> background tasks: the work ends, also when its caller stops waiting."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class BackgroundTasks:
    """The tasks of one process; `drain` waits for them within a budget."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        """Return how many are running."""
        return len(self._tasks)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run in a task of its own and wait for it; cancelling the wait does not cancel the work."""
        return await asyncio.shield(self._start(work))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run without a caller that waits."""
        self._start(work)

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Read here, so that a refusal whose caller has left is not reported as a lost exception.
            task.exception()

    async def drain(self, within_s: float) -> int:
        """Wait for all tasks, at most `within_s`; cancel and count the rest, whose attempts verification ends."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within_s)
        left = tuple(self._tasks)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
        return len(left)
