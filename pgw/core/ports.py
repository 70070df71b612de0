"""What the flow needs from outside -> narrow interfaces, each with a real adapter and an embedded or virtual one."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any, Protocol, TypeVar

from msgspec import Struct

from pgw.core.breakers.admission import Admission
from pgw.core.breakers.breaker import Breaker, CallOutcome, Key, Permit
from pgw.core.payment.outcome import Blame, NotSent, Verdict
from pgw.core.payment.payment import Client, Customer, Instrument
from pgw.core.routing.plan import Snapshot
from pgw.core.verification.enquiry import Finding, Reversal
from pgw.core.verification.rate_limit import EnquiryRateLimit

T = TypeVar("T")

NOT_SENT_LEASE = NotSent("NOT_SENT_LEASE_EXPIRED", Blame.NONE)
"""The sender was held up until its lease no longer covered the call: it did not send."""


class Reference(Struct, frozen=True):
    """How a gateway knows one attempt: our own names for it, so that it can be found when its answer was lost."""

    payment_id: str
    attempt_number: int


class ChargeOrder(Struct, frozen=True):
    """One attempt to move money.

    `may_send` is asked right before the first byte of the charging call leaves. `timeout_s` is the time of the whole
    attempt, all its calls together.
    """

    reference: Reference
    idempotency_key: str
    amount_minor: int
    currency: str
    instrument: Instrument
    may_send: Callable[[], bool]
    timeout_s: float
    customer: Customer | None = None
    client: Client | None = None
    return_url: str | None = None


class Gateway(Protocol):
    """One payment gateway. Every call is bounded from outside by a deadline; none retries."""

    @property
    def trouble(self) -> str | None:
        """Why an operator must act (`AUTH`: its keys are refused); None while nothing is known to be wrong."""

    async def charge(self, order: ChargeOrder) -> Verdict:
        """Charge once. NOT_SENT only by proof; what is not known is UNKNOWN; an exception counts as UNKNOWN."""

    async def enquire(self, reference: Reference) -> Finding:
        """Ask what became of an attempt; never charges."""

    async def capture(self, transaction_ref: str, amount_minor: int, currency: str) -> None:
        """Capture an authorised payment. Whether it was captured, the next enquiry reports."""

    async def reverse(self, transaction_ref: str, amount_minor: int, key: str) -> Reversal:
        """Refund captured money. `key`, the same at each try of one reversal, makes it happen once."""

    async def close(self) -> None:
        """Close its connections."""


class Clock(Protocol):
    """Time: `now` for what people read, `elapsed` (seconds, counting suspended time) for leases and deadlines."""

    def now(self) -> datetime:
        """Return the time in UTC."""

    def elapsed(self) -> float:
        """Return seconds since some fixed time; never jumps back, goes on while the machine or process is stopped."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class Ledger(Protocol):
    """The only truth. Writes go through `commit`, one item at a time, and are durable when it returns."""

    async def commit(self, phase: Any, item: Mapping[str, Any]) -> bool:
        """Return whether the item won its guard. Raises LedgerUnavailable when that is not known in time."""

    async def read(self, query: Callable[..., T], *args: Any) -> T:
        """Run a plain function `query(connection, *args)` on a connection of its own."""


class Circuit(Protocol):
    """The breakers of this process: permits to call, and each call's outcome. No method but `admit` ever waits."""

    async def admit(self, key: Key, admission: Admission, lease_s: float) -> Permit | None:
        """Permit a call; None: denied. A half-open breaker asks its store for a probe's lease of `lease_s`."""

    def record(self, permit: Permit, outcome: CallOutcome, latency_ms: int) -> None:
        """Take one call's outcome; a local trip holds from the next decision on. Every permit is recorded once."""

    def deposit(self, key: Key) -> None:
        """Count one first attempt towards the gateway's retry budget."""

    def withdraw(self, key: Key) -> bool:
        """Spend one fallback away from this gateway; False: its retry budget is used up."""


class HotUnavailable(Exception):
    """The hot state cannot be reached, was lost, or did not answer in time; decisions go on with what they know."""


class StoredBreaker(Struct, frozen=True):
    """A stored breaker as it was read; `raw` is what a swap must still find there (None: nothing)."""

    value: Breaker
    raw: bytes | None


class Heartbeat(Struct, frozen=True, kw_only=True):
    """What one live process says of itself; `at` is filled in by the store's clock, seconds."""

    process: str
    role: str
    config_version: int
    in_flight: int = 0
    at: float = 0.0


class Slices(Struct, frozen=True):
    """Metric slices that changed. `counts`: slice number -> (revision, field -> count); see `metrics.field_of`.

    `generation` names the state they belong to: another one than before means that everything was rebuilt.
    """

    generation: int
    now: float
    counts: Mapping[int, tuple[int, Mapping[str, int]]]


class HotState(Protocol):
    """State that many processes share and that may be lost at any time. Every method may raise HotUnavailable."""

    async def read_breakers(self, keys: Sequence[Key]) -> tuple[float, Mapping[Key, StoredBreaker]]:
        """Return the store's time and each breaker; one never stored is the default with `raw` None."""

    async def swap_breaker(self, key: Key, held: StoredBreaker, value: Breaker) -> bool:
        """Store `value` if no process changed the breaker since it was read."""

    async def changed_slices(self, generation: int, seen: Mapping[int, int]) -> Slices:
        """Return the slices whose revision differs from the one seen; all of them when the generation differs."""

    async def beat(self, heartbeat: Heartbeat) -> tuple[Heartbeat, ...]:
        """Say that this process lives; return who else does (this one included)."""

    async def close(self) -> None:
        """Close its connections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """All that the flow needs from outside.

    `snapshot` returns the newest configuration and health. `timeout_ms` is the time of one attempt where a gateway
    names none. `ledger_id` keys the fingerprints of requests. `spawn` runs what must end even if no caller awaits it.
    `pace` limits how often gateways are enquired at; enquiries are no payments and move no breaker.
    """

    ledger: Ledger
    gateways: Mapping[str, Gateway]
    clock: Clock
    rng: Random
    snapshot: Callable[[], Snapshot]
    timeout_ms: int
    ledger_id: str
    spawn: Callable[[Coroutine[Any, Any, None]], None]
    circuit: Circuit
    pace: EnquiryRateLimit = field(default_factory=EnquiryRateLimit)
