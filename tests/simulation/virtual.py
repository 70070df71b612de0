"""An event loop without a world -> time that passes only when nobody has anything to do, and processes that can die.

A process is a context: whatever is scheduled in it waits while the process is stopped, and never runs once it is dead,
as after SIGSTOP and `kill -9`. What is scheduled outside any process is the rest of the world, which goes on.
"""

import asyncio
import contextlib
import contextvars
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, TypeVar

from tests.doubles import NOON

T = TypeVar("T")

PROCESS: contextvars.ContextVar["Process | None"] = contextvars.ContextVar("process", default=None)


class StuckError(Exception):
    """Everybody waits, and nothing is on its way."""


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop whose clock jumps to the next timer. The same program runs the same way every time."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = self
        self._passed = 0.0

    def time(self) -> float:
        return self._passed

    def select(self, timeout: float | None) -> list[Any]:
        """Let the time pass that nobody uses."""
        if timeout is None:
            raise StuckError
        self._passed += timeout
        return []

    def call_soon(  # type: ignore[override]  # without the callback's type, which says nothing here
        self, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        ran_by = PROCESS.get() if context is None else context.get(PROCESS)
        if ran_by is None:
            return super().call_soon(callback, *args, context=context)
        step = _Step(ran_by, context or contextvars.copy_context(), callback, args)
        step.handle = super().call_soon(step, context=step.context)
        return step.handle

    def call_at(  # type: ignore[override]  # as above
        self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        ran_by = PROCESS.get() if context is None else context.get(PROCESS)
        if ran_by is None:
            return super().call_at(when, callback, *args, context=context)
        step = _Step(ran_by, context or contextvars.copy_context(), callback, args)
        handle = super().call_at(when, step, context=step.context)
        step.handle = handle
        return handle

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody sleeps in here."""


class _Step:
    """One callback of one process."""

    __slots__ = ("args", "callback", "context", "handle", "process")

    def __init__(self, process: "Process", context: contextvars.Context, callback: Any, args: tuple[Any, ...]) -> None:
        self.process = process
        self.context = context
        self.callback = callback
        self.args = args
        self.handle: asyncio.Handle | None = None

    def __call__(self) -> None:
        if self.process.alive:
            if self.process.stopped:
                self.process.backlog.append(self)
            else:
                self.callback(*self.args)


class Process:
    """One process of the simulation: it may be stopped, continued, and killed; its clock may be wrong."""

    def __init__(self, name: str, loop: VirtualLoop) -> None:
        self.name = name
        self.alive = True
        self.stopped = False
        self.skew = timedelta()
        self.backlog: list[_Step] = []
        self._loop = loop
        self._under_way: set[asyncio.Task[Any]] = set()
        self._awaited: set[asyncio.Future[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run something in this process; what it raises is looked at by itself."""
        context = contextvars.copy_context()
        context.run(PROCESS.set, self)
        # The loop knows it by a weak reference alone.
        self._under_way.add(task := self._loop.create_task(work, context=context))
        task.add_done_callback(self._under_way.discard, context=contextvars.copy_context())

    async def ask(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run something in this process and wait for it from outside; a process that dies hangs up."""
        answer: asyncio.Future[T] = self._loop.create_future()
        self._awaited.add(answer)
        self.spawn(_answered(work, answer))
        try:
            return await answer
        finally:
            self._awaited.discard(answer)

    def stop(self) -> None:
        """Stand still, as after SIGSTOP."""
        self.stopped = True

    def go_on(self) -> None:
        """Go on; what came meanwhile is seen now."""
        self.stopped = False
        waiting, self.backlog = self.backlog, []
        for step in waiting:
            if step.handle is None or not step.handle.cancelled():
                self._loop.call_soon(step.callback, *step.args, context=step.context)

    def kill(self) -> None:
        """Be gone, from one instruction to the next."""
        self.alive = False
        for answer in [each for each in self._awaited if not each.done()]:
            answer.set_exception(ConnectionResetError())


async def _answered(work: Callable[[], Coroutine[Any, Any, T]], answer: "asyncio.Future[T]") -> None:
    try:
        found = await work()
    except Exception as fault:  # noqa: BLE001  # whoever asked gets it
        if not answer.done():
            answer.set_exception(fault)
            answer.exception()
    else:
        if not answer.done():
            answer.set_result(found)


class ProcessClock:
    """The Clock port as one process has it."""

    def __init__(self, process: Process, loop: VirtualLoop) -> None:
        self._process = process
        self._loop = loop

    def now(self) -> datetime:
        return moment(self._loop) + self._process.skew

    def elapsed(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def moment(loop: VirtualLoop) -> datetime:
    """Tell the true time."""
    return NOON + timedelta(seconds=loop.time())


def run_in(loop: VirtualLoop, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run to the end, and close the loop; what is still under way is let go of, as when a machine is switched off."""
    try:
        return loop.run_until_complete(work())
    finally:
        let_go(loop)


def let_go(loop: VirtualLoop) -> None:
    """Close the loop; what is under way is never heard of again."""
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        with contextlib.suppress(RuntimeError):
            coroutine = task.get_coro()
            assert coroutine is not None
            coroutine.close()
    loop.close()
