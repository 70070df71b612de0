"""A real ledger -> the same ledger, failing as a test says, seen from the tasks that wait for their commits."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from pgw.core.ledger.engine.phase import Phase
from pgw.core.ledger.engine.writer import LedgerUnavailable, WriteRefused
from pgw.core.ports import Ledger

T = TypeVar("T")


class Trouble(StrEnum):
    """What may befall one commit."""

    AWAY = "nothing was written"
    UNSEEN = "it was written, and nobody knows"
    LATE = "it is written only when the test says so"
    TWICE = "it was written unseen, run again, and lost to itself"
    REFUSED = "the database refused the item"


class Troubled:
    """A real ledger that fails as the test says: `trouble` names what befalls the next commit of a phase."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.trouble: dict[str, Trouble] = {}
        self.before: dict[str, Callable[[], Awaitable[None]]] = {}
        self.after: dict[str, Callable[[], None]] = {}
        self.unreadable = False
        self.late: list[tuple[Phase, Mapping[str, Any], asyncio.Future[bool]]] = []

    async def commit(self, phase: Phase, item: Mapping[str, Any]) -> bool:
        if phase.name in self.before:
            await self.before.pop(phase.name)()
        match self.befalls(phase, item):
            case Trouble.AWAY:
                raise LedgerUnavailable("away", written=False)
            case Trouble.UNSEEN:
                await self._ledger.commit(phase, item)
                raise LedgerUnavailable("not known", written=None)
            case Trouble.LATE:
                self.late.append((phase, item, asyncio.get_running_loop().create_future()))
                raise LedgerUnavailable("not in time", written=None, late=self.late[-1][2])
            case Trouble.TWICE:
                await self._ledger.commit(phase, item)
            case Trouble.REFUSED:
                raise WriteRefused(phase, ValueError("refused"))
            case None:
                pass
        won = await self._ledger.commit(phase, item)
        if phase.name in self.after:
            self.after.pop(phase.name)()
        return won

    def befalls(self, phase: Phase, item: Mapping[str, Any]) -> Trouble | None:
        """Say what befalls this commit."""
        return self.trouble.pop(phase.name, None)

    async def read(self, query: Callable[..., T], *args: Any) -> T:
        if self.unreadable:
            raise LedgerUnavailable("cannot be read", written=False)
        return await self._ledger.read(query, *args)

    async def arrive(self) -> None:
        """Write what is late, and tell whoever waits."""
        while self.late:
            phase, item, told = self.late.pop(0)
            told.set_result(await self._ledger.commit(phase, item))
