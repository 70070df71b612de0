"""A failpoint -> wrappers of its ports, in which the process exits or stops; for tests only.

A failpoint reads `charge:after:exit`: injection point, side, action, and at which passage, the first by default.
"""

import importlib
import logging
import pkgutil
import re
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

import pgw.core.ledger
from pgw.core.hot.on_redis import Server
from pgw.core.hot.stream import Stream
from pgw.core.ledger.engine.phase import Item, Phase
from pgw.core.ledger.engine.writer import Runner
from pgw.core.payment.outcome import Verdict
from pgw.core.ports import ChargeOrder, Gateway, Reference
from pgw.core.verification.enquiry import Finding, Reversal

log = logging.getLogger(__name__)

CALLS = ("charge", "enquire", "capture", "reverse")
"""Every call of a gateway. Before: it has not been called; after: it has answered, and the answer is not read."""

APPEND = "append"
"""Events onto the stream. After: they are on it, and the relay does not know."""


class Side(StrEnum):
    """On which side of an injection point."""

    BEFORE = "before"
    AFTER = "after"


class FailpointAction(StrEnum):
    """What happens there: SIGKILL, which cleans up nothing, or SIGSTOP, which lasts until SIGCONT."""

    EXIT = "exit"
    STOP = "stop"


SIGNALS = {FailpointAction.EXIT: signal.SIGKILL, FailpointAction.STOP: signal.SIGSTOP}


@dataclass(frozen=True, slots=True)
class Failpoint:
    """One action, taken once: at the `nth` passage of the injection point in a process."""

    injection_point: str
    side: Side
    action: FailpointAction
    nth: int = 1

    def __str__(self) -> str:
        """Write it in the form that `parse` reads."""
        return f"{self.injection_point}:{self.side}:{self.action}" + (f":{self.nth}" if self.nth > 1 else "")


@cache
def phases() -> tuple[str, ...]:
    """Name every phase of the ledger. Before: nothing is written; after: it is committed, and no waiter knows."""
    names = [each.name for each in pkgutil.iter_modules(pgw.core.ledger.__path__, "pgw.core.ledger.")]
    members = [each for name in names for each in vars(importlib.import_module(name)).values()]
    return tuple(sorted({each.name for each in members if isinstance(each, Phase)}))


def injection_points() -> tuple[str, ...]:
    """Name every place where a failpoint can act."""
    return (*phases(), *CALLS, APPEND)


def parse(text: str) -> Failpoint:
    """Parse a failpoint. Raises ValueError, whose text names the form and every injection point."""
    known = ", ".join(injection_points())
    matched = re.fullmatch(r"([a-z_]+):(before|after):(exit|stop)(?::([1-9][0-9]{0,5}))?", text)
    if matched is None:
        raise ValueError(
            "must read INJECTION_POINT:before|after:exit|stop, such as charge:after:exit, with :2 appended for the "
            f"second passage: the injection points are {known}"
        )
    point, side, action, nth = matched.groups()
    if point not in injection_points():
        raise ValueError(f"names an injection point that does not exist: the injection points are {known}")
    return Failpoint(point, Side(side), FailpointAction(action), int(nth or 1))


class ArmedFailpoint:
    """A failpoint of this process, shared by all that is wrapped with it; it acts once."""

    def __init__(self, failpoint: Failpoint) -> None:
        self._failpoint = failpoint
        self._left = failpoint.nth

    @contextmanager
    def around(self, *points: str) -> Iterator[None]:
        """Act at the nth passage of its injection point, before the block or after it; never after a raised error."""
        self._pass(Side.BEFORE, points)
        yield
        self._pass(Side.AFTER, points)

    def _pass(self, side: Side, points: Sequence[str]) -> None:
        if side is not self._failpoint.side or self._failpoint.injection_point not in points:
            return
        self._left -= 1
        if self._left == 0:
            # To this thread: it does not take another step, whichever of the others the kernel would have woken.
            signal.pthread_kill(threading.get_ident(), SIGNALS[self._failpoint.action])


class RunnerWrapper:
    """A ledger's runner whose batches are injection points."""

    def __init__(self, runner: Runner, armed: ArmedFailpoint) -> None:
        self._runner = runner
        self._armed = armed

    def run(self, groups: Sequence[tuple[Phase, Sequence[Item]]]) -> list[set[str]]:
        """Run a batch."""
        with self._armed.around(*(phase.name for phase, _ in groups)):
            return self._runner.run(groups)

    def recover(self) -> None:
        """Clear up after a failed run."""
        self._runner.recover()

    def close(self) -> None:
        """Close its connection."""
        self._runner.close()


class GatewayWrapper:
    """A gateway whose calls are injection points."""

    def __init__(self, gateway: Gateway, armed: ArmedFailpoint) -> None:
        self._gateway = gateway
        self._armed = armed

    @property
    def trouble(self) -> str | None:
        """Why an operator must check it."""
        return self._gateway.trouble

    async def charge(self, order: ChargeOrder) -> Verdict:
        """Charge once."""
        with self._armed.around("charge"):
            return await self._gateway.charge(order)

    async def enquire(self, reference: Reference) -> Finding:
        """Ask what became of an attempt."""
        with self._armed.around("enquire"):
            return await self._gateway.enquire(reference)

    async def capture(self, transaction_ref: str, amount_minor: int, currency: str) -> None:
        """Capture an authorised payment."""
        with self._armed.around("capture"):
            await self._gateway.capture(transaction_ref, amount_minor, currency)

    async def reverse(self, transaction_ref: str, amount_minor: int, key: str) -> Reversal:
        """Refund captured money."""
        with self._armed.around("reverse"):
            return await self._gateway.reverse(transaction_ref, amount_minor, key)

    async def close(self) -> None:
        """Close its connections."""
        await self._gateway.close()


class StreamWrapper(Stream):
    """A stream whose appends are injection points."""

    def __init__(self, server: Server, key: str, group: str, armed: ArmedFailpoint) -> None:
        super().__init__(server, key, group)
        self._armed = armed

    async def append(self, after: int, entries: Sequence[tuple[int, bytes]]) -> int:
        """Append entries; see Stream."""
        with self._armed.around(APPEND):
            return await super().append(after, entries)


@cache
def arm(failpoint: Failpoint) -> ArmedFailpoint:
    """Arm a failpoint in this process; the same one again is the one armed already."""
    log.warning("PGW_FAILPOINT %s is armed: this process is meant to fail there", failpoint)
    return ArmedFailpoint(failpoint)
