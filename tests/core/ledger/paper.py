"""A writer -> the batches it asks for, on a database that is one list and does what the test says."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from threading import Event
from typing import Any

from sqlalchemy import Text

from pgw.core.ledger.engine.phase import Phase
from pgw.core.ledger.engine.writer import LedgerUnavailable, Writer

ENTERS_WITHIN_S = 60.0
"""How long a test waits for the writer's thread: a thread that waited without end could not be ended by the test."""


def _nothing(_: Any) -> Any:
    raise NotImplementedError


NOTE, SEAL = (
    Phase(name=name, columns={"key": Text()}, key="key", order=("key",), guard=_nothing, effects=_nothing)
    for name in ("note", "seal")
)


class LostError(Exception):
    """What this database raises for everybody."""


class BadItemError(Exception):
    """What this database raises for one item."""


class Paper:
    """A database of one list; its first batch waits at the gate until told."""

    def __init__(self) -> None:
        self.entered = Event()
        self.gate = Event()
        self.written: list[str] = []
        self.batches: list[int] = []
        self.asked: list[list[tuple[str, str]]] = []
        self.faults: list[BaseException | None] = []
        self.recovered = 0
        self.closed = 0

    def run(self, groups: Sequence[tuple[Phase, Sequence[Mapping[str, Any]]]]) -> list[set[str]]:
        self.entered.set()
        assert self.gate.wait(60), "the test never opened the gate"
        keys = [item["key"] for _, items in groups for item in items]
        self.asked.append([(phase.name, item["key"]) for phase, items in groups for item in items])
        self.batches.append(len(keys))
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            raise fault
        if "bad" in keys:
            raise BadItemError
        fresh = [key for key in keys if key not in self.written]
        self.written += fresh
        return [{item["key"] for item in items if item["key"] in fresh} for _, items in groups]

    def recover(self) -> None:
        self.recovered += 1

    def close(self) -> None:
        self.closed += 1


@asynccontextmanager
async def writing(paper: Paper) -> AsyncIterator[Writer]:
    writer = Writer(paper, (LostError,))
    try:
        yield writer
    finally:
        paper.gate.set()
        await writer.close()


async def queued(writer: Writer, *keys: str) -> list["asyncio.Task[bool]"]:
    waiting = [asyncio.create_task(writer.commit(NOTE, {"key": key})) for key in keys]
    await asyncio.sleep(0)
    return waiting


async def taken_by(paper: Paper) -> None:
    """Wait until the writer's thread has taken a batch."""
    assert await asyncio.to_thread(paper.entered.wait, ENTERS_WITHIN_S), "the writer never took what was queued"


def lose_patience(writer: Writer) -> None:
    """Let all who wait be past their deadline at the next sweep."""
    for waiter in writer._waiting:
        waiter.deadline = 0.0


async def fate_of(task: "asyncio.Task[bool]") -> bool | LedgerUnavailable:
    (end,) = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(end, bool | LedgerUnavailable)
    return end
