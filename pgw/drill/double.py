"""ChargeOrder -> Verdict, by a double that stands in for a configured gateway and misbehaves on command."""

from pgw.core.gateways.book import SandboxBook
from pgw.core.gateways.sandbox import FOREVER_S, OUT, SandboxGateway
from pgw.core.payment.outcome import Blame, Unknown, Verdict
from pgw.core.payment.payment import Method
from pgw.core.ports import NOT_SENT_LEASE, ChargeOrder, Clock, Reference
from pgw.core.routing.gateway import SandboxBehaviour
from pgw.core.verification.enquiry import Finding, Pending, Reversal, Undecided
from pgw.drill.scenario import DrillKind

QUICK_MS, SLOWER_MS = 20, 80
"""How long the drilled double and the others take: by so little it is the better one, and is returned to."""

BROWNED_OUT = SandboxBehaviour(success_rate=0.4, latency_ms=400)
CONNECTION_LOST = Unknown("CONNECTION_LOST", Blame.GATEWAY)
SILENT = frozenset({DrillKind.OUTAGE, DrillKind.TIMEOUT})
"""Faults during which a gateway cannot be asked either."""


class Double:
    """One gateway without money. `fault`: what is wrong with it now."""

    def __init__(self, gateway_id: str, book: SandboxBook, clock: Clock, latency_ms: int, seed: str) -> None:
        self._clock = clock
        self._well = SandboxBehaviour(latency_ms=latency_ms)
        self._sandbox = SandboxGateway(gateway_id, book, clock, self._published, seed)
        self.fault: DrillKind | None = None
        self.trouble: str | None = None

    async def charge(self, order: ChargeOrder) -> Verdict:
        """Charge as the fault lets it: what moves money is in the book before anything can be lost."""
        match self.fault:
            case DrillKind.OUTAGE:
                return OUT
            case DrillKind.TIMEOUT:
                if not order.may_send():
                    return NOT_SENT_LEASE
                if _arrives(order.reference.payment_id):
                    await self._sandbox.charge(order)
                await self._clock.sleep(FOREVER_S)
                return CONNECTION_LOST
            case DrillKind.LOST_RESPONSE:
                verdict = await self._sandbox.charge(order)
                return verdict if verdict is NOT_SENT_LEASE else CONNECTION_LOST
            case _:
                return await self._sandbox.charge(order)

    async def enquire(self, reference: Reference) -> Finding:
        """Look into the book, if there is anybody to look."""
        if self.fault in SILENT:
            return Undecided(Pending.UNREACHABLE, "TIMEOUT")
        return await self._sandbox.enquire(reference)

    async def capture(self, transaction_ref: str, amount_minor: int, currency: str) -> None:
        """Do nothing: the double captures as it charges."""

    async def reverse(self, transaction_ref: str, amount_minor: int, key: str) -> Reversal:
        """Give the whole charge back, once."""
        if self.fault in SILENT:
            return Undecided(Pending.UNREACHABLE, "TIMEOUT")
        return await self._sandbox.reverse(transaction_ref, amount_minor, key)

    async def close(self) -> None:
        """Do nothing: there is no connection."""

    def _published(self, _gateway_id: str, _method: Method) -> SandboxBehaviour:
        return BROWNED_OUT if self.fault is DrillKind.BROWNOUT else self._well


def _arrives(payment_id: str) -> bool:
    """Draw whether a charge that is not answered has arrived: the ends of payment ids are random."""
    return int(payment_id[-1], 16) % 2 == 0
