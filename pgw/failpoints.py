"""A failpoint -> the ports it lies on, wrapped: the process exits or stops as it passes there; for tests only.

A failpoint reads `charge:after:exit`: injection point, side, action, and which passage of it, the first unless said.
"""

import importlib
import logging
import pkgutil
import re
import signal
import threading
from collections.abc import Sequence
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
        """Write it as it is parsed."""
        return f"{self.injection_point}:{self.side}:{self.action}" + (f":{self.nth}" if self.nth > 1 else "")


@cache
def phases() -> tuple[str, ...]:
    """Name every phase of the ledger. Before: nothing is written; after: it is committed, and no waiter knows."""
    modules = [importlib.import_module(each.name) for each in pkgutil.iter_modules(_LEDGER, "pgw.core.ledger.")]
    found = {each.name for module in modules for each in vars(module).values() if isinstance(each, Phase)}
    return tuple(sorted(found))


_LEDGER = pgw.core.ledger.__path__


def injection_points() -> tuple[str, ...]:
    """Name every place a failpoint may lie at."""
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

    def reach(self, side: Side, *points: str) -> None:
        """Act if this is the passage it waits for."""
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
        names = [phase.name for phase, _ in groups]
        self._armed.reach(Side.BEFORE, *names)
        winners = self._runner.run(groups)
        self._armed.reach(Side.AFTER, *names)
        return winners

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
        self._armed.reach(Side.BEFORE, "charge")
        verdict = await self._gateway.charge(order)
        self._armed.reach(Side.AFTER, "charge")
        return verdict

    async def enquire(self, reference: Reference) -> Finding:
        """Ask what became of an attempt."""
        self._armed.reach(Side.BEFORE, "enquire")
        finding = await self._gateway.enquire(reference)
        self._armed.reach(Side.AFTER, "enquire")
        return finding

    async def capture(self, transaction_ref: str, amount_minor: int, currency: str) -> None:
        """Capture an authorised payment."""
        self._armed.reach(Side.BEFORE, "capture")
        await self._gateway.capture(transaction_ref, amount_minor, currency)
        self._armed.reach(Side.AFTER, "capture")

    async def reverse(self, transaction_ref: str, amount_minor: int, key: str) -> Reversal:
        """Refund captured money."""
        self._armed.reach(Side.BEFORE, "reverse")
        reversal = await self._gateway.reverse(transaction_ref, amount_minor, key)
        self._armed.reach(Side.AFTER, "reverse")
        return reversal

    async def close(self) -> None:
        """Close its connections."""
        await self._gateway.close()


class StreamWrapper(Stream):
    """A stream whose appends are injection points."""

    def __init__(self, server: Server, key: str, group: str, armed: ArmedFailpoint) -> None:
        super().__init__(server, key, group)
        self._armed = armed

    async def append(self, after: int, entries: Sequence[tuple[int, bytes]]) -> int:
        """Append entries whose numbers follow `after` without a gap, if the stream's top is `after`."""
        self._armed.reach(Side.BEFORE, APPEND)
        top = await super().append(after, entries)
        self._armed.reach(Side.AFTER, APPEND)
        return top


@cache
def arm(failpoint: Failpoint) -> ArmedFailpoint:
    """Arm a failpoint in this process; the same one again is the one armed already."""
    log.warning("PGW_FAILPOINT %s is armed: this process is meant to fail there", failpoint)
    return ArmedFailpoint(failpoint)
