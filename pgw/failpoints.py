"""A failpoint -> the ports it lies on, wrapped: the process dies, or stands still, as it crosses there."""

import logging
import signal
import threading
from collections.abc import Sequence
from functools import cache

from pgw.core.failpoint import APPEND, Deed, Failpoint, Moment
from pgw.core.hot.on_redis import Server
from pgw.core.hot.stream import Stream
from pgw.core.ledger.engine.phase import Item, Phase
from pgw.core.ledger.engine.writer import Runner
from pgw.core.payment.outcome import Verdict
from pgw.core.ports import ChargeOrder, Gateway, Reference
from pgw.core.verification.enquiry import Finding, Reversal

log = logging.getLogger(__name__)

SIGNALS = {Deed.EXIT: signal.SIGKILL, Deed.STOP: signal.SIGSTOP}


class Trap:
    """An armed failpoint, shared by all that is wrapped with it; it goes off once."""

    def __init__(self, failpoint: Failpoint) -> None:
        self._failpoint = failpoint
        self._left = failpoint.nth

    def reach(self, moment: Moment, *crossings: str) -> None:
        """Do the deed if this is where it is to be done."""
        if moment is not self._failpoint.moment or self._failpoint.crossing not in crossings:
            return
        self._left -= 1
        if self._left == 0:
            # To this thread: it does not take another step, whichever of the others the kernel would have woken.
            signal.pthread_kill(threading.get_ident(), SIGNALS[self._failpoint.deed])


class TrappedRunner:
    """A ledger's runner with a trap at its batches."""

    def __init__(self, runner: Runner, trap: Trap) -> None:
        self._runner = runner
        self._trap = trap

    def run(self, groups: Sequence[tuple[Phase, Sequence[Item]]]) -> list[set[str]]:
        """Run a batch."""
        names = [phase.name for phase, _ in groups]
        self._trap.reach(Moment.BEFORE, *names)
        winners = self._runner.run(groups)
        self._trap.reach(Moment.AFTER, *names)
        return winners

    def recover(self) -> None:
        """Clear up after a failed run."""
        self._runner.recover()

    def close(self) -> None:
        """Give the connection up."""
        self._runner.close()


class TrappedGateway:
    """A gateway with a trap at its calls."""

    def __init__(self, gateway: Gateway, trap: Trap) -> None:
        self._gateway = gateway
        self._trap = trap

    @property
    def trouble(self) -> str | None:
        """Why an operator must look at it."""
        return self._gateway.trouble

    async def charge(self, order: ChargeOrder) -> Verdict:
        """Charge once."""
        self._trap.reach(Moment.BEFORE, "charge")
        verdict = await self._gateway.charge(order)
        self._trap.reach(Moment.AFTER, "charge")
        return verdict

    async def enquire(self, reference: Reference) -> Finding:
        """Ask what became of an attempt."""
        self._trap.reach(Moment.BEFORE, "enquire")
        finding = await self._gateway.enquire(reference)
        self._trap.reach(Moment.AFTER, "enquire")
        return finding

    async def capture(self, transaction_ref: str, amount_minor: int, currency: str) -> None:
        """Ask for the money of an authorised payment."""
        self._trap.reach(Moment.BEFORE, "capture")
        await self._gateway.capture(transaction_ref, amount_minor, currency)
        self._trap.reach(Moment.AFTER, "capture")

    async def reverse(self, transaction_ref: str, amount_minor: int, key: str) -> Reversal:
        """Give captured money back."""
        self._trap.reach(Moment.BEFORE, "reverse")
        reversal = await self._gateway.reverse(transaction_ref, amount_minor, key)
        self._trap.reach(Moment.AFTER, "reverse")
        return reversal

    async def close(self) -> None:
        """Give connections up."""
        await self._gateway.close()


class TrappedStream(Stream):
    """A stream with a trap where the relay appends."""

    def __init__(self, server: Server, key: str, group: str, trap: Trap) -> None:
        super().__init__(server, key, group)
        self._trap = trap

    async def append(self, after: int, entries: Sequence[tuple[int, bytes]]) -> int:
        """Append entries whose numbers follow `after` without a gap, if the stream's top is `after`."""
        self._trap.reach(Moment.BEFORE, APPEND)
        top = await super().append(after, entries)
        self._trap.reach(Moment.AFTER, APPEND)
        return top


@cache
def armed(failpoint: Failpoint) -> Trap:
    """Return this process's one trap, set the first time it is asked for."""
    log.warning("PGW_FAILPOINT %s is armed: this process is meant to fail there", failpoint)
    return Trap(failpoint)
