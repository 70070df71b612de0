"""A test's wishes -> stand-ins for the world: a clock that only moves when told, gateways that play a script."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random

from pgw.core.breakers.admission import Admission
from pgw.core.breakers.breaker import CallOutcome, Key, Permit
from pgw.core.flow.runtime.tasks import BackgroundTasks
from pgw.core.payment.outcome import (
    ActionRequired,
    Blame,
    Captured,
    FinalDecline,
    GatewayDecline,
    NotSent,
    Unknown,
    Verdict,
)
from pgw.core.payment.payment import Instrument, Method, NextAction, PaymentRequest, Upi
from pgw.core.ports import NOT_SENT_LEASE, ChargeOrder, Circuit, Clock, Dependencies, Gateway, Ledger, Reference
from pgw.core.routing.gateway import GatewayConfig
from pgw.core.routing.plan import Snapshot
from pgw.core.routing.policy import RetryPolicy
from pgw.core.verification.enquiry import Finding, Pending, Reversal, ReversalRefused, Reversed, Undecided

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
LEDGER_ID = "5f0c2a52-8d4e-4a31-9f1e-0f2d7b6c1a00"

NOT_SENT = NotSent("NOT_SENT_REFUSED", Blame.NETWORK)
GATEWAY_DECLINE = GatewayDecline("GATEWAY_TECHNICAL_ERROR", Blame.GATEWAY)
CUSTOMER_DECLINE = FinalDecline("INSUFFICIENT_FUNDS")
UNKNOWN = Unknown("TIMEOUT", Blame.GATEWAY)
CAPTURED = Captured("ref-1", 1000, "INR")
ACTION = ActionRequired("ref-1", NextAction(type="redirect", url="upi://pay?pa=x"))
"""One verdict of each kind, for the payment of `request_of`."""


class VirtualClock:
    """Stands still until `advance`; who sleeps wakes when it has passed the moment."""

    def __init__(self, start: datetime = NOON) -> None:
        self._start = start
        self._elapsed = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed)

    def elapsed(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        wakes: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._elapsed + seconds, wakes))
        await wakes

    @property
    def sleeping(self) -> int:
        """How many wait for this clock."""
        return sum(not wakes.done() for _, wakes in self._sleepers)

    def advance(self, seconds: float) -> None:
        """Let time pass, at once."""
        self._elapsed += seconds
        for until, wakes in self._sleepers:
            if until <= self._elapsed and not wakes.done():
                wakes.set_result(None)
        self._sleepers = [each for each in self._sleepers if not each[1].done()]


class OpenDoors:
    """Breakers that never trip, for tests of everything else; it remembers what it was told."""

    def __init__(self) -> None:
        self.recorded: list[tuple[Permit, CallOutcome]] = []

    async def admit(self, key: Key, standing: Admission, lease_s: float) -> Permit | None:
        return Permit(key, standing.state, 0)

    def record(self, admission: Permit, sign: CallOutcome, latency_ms: int) -> None:
        self.recorded.append((admission, sign))

    def deposit(self, key: Key) -> None:
        """Count nothing."""

    def withdraw(self, key: Key) -> bool:
        return True


Money = tuple[int, str]


@dataclass
class Entry:
    """What one gateway knows of one attempt: money it moved, or the reason it gave."""

    moved: Money | None = None
    declined: FinalDecline | GatewayDecline | None = None


@dataclass
class Act:
    """One answer to a charge: how long it takes, and whether money moves (as the verdict says, unless told).

    `fault` is raised instead of the answer, once the gateway's own book has it.
    """

    verdict: Verdict
    takes_s: float = 0.0
    moves_money: bool | None = None
    fault: type[BaseException] | None = None


Hook = Callable[[ChargeOrder], Awaitable[None]]


class ScriptedGateway:
    """A gateway that answers by its script and keeps a book of its own; when the script ends it approves."""

    def __init__(self, gateway_id: str, clock: VirtualClock, acts: Iterable[Act | Verdict] = ()) -> None:
        self.gateway_id = gateway_id
        self.orders: list[ChargeOrder] = []
        self.asked: list[Reference] = []
        self.captured: list[str] = []
        self.trouble: str | None = None
        self.book: dict[Reference, Entry] = {}
        self.answers: deque[Finding | BaseException] = deque()
        self.reversal_keys: list[str] = []
        self.reversed: dict[str, tuple[str, int]] = {}
        self.reversal_answers: deque[ReversalRefused | Undecided | BaseException] = deque()
        self.when_called: Hook | None = None
        self._clock = clock
        self._acts = deque(act if isinstance(act, Act) else Act(act) for act in acts)

    async def charge(self, order: ChargeOrder) -> Verdict:
        if not order.may_send():
            return NOT_SENT_LEASE
        self.orders.append(order)
        if self.when_called is not None:
            await self.when_called(order)
        act = self.next_act(order)
        self.book[order.reference] = self._entry(act, (order.amount_minor, order.currency))
        self._clock.advance(act.takes_s)
        if act.fault is not None:
            raise act.fault
        return act.verdict

    def next_act(self, order: ChargeOrder) -> Act:
        """Return what this call does."""
        if self._acts:
            return self._acts.popleft()
        return Act(Captured(f"{self.gateway_id}-ref", order.amount_minor, order.currency))

    @staticmethod
    def _entry(act: Act, asked: Money) -> Entry:
        match act.verdict:
            case Captured(amount_minor=amount, currency=currency) if act.moves_money is not False:
                return Entry(moved=(amount, currency))
            case FinalDecline() | GatewayDecline():
                return Entry(declined=act.verdict)
            case _:
                return Entry(moved=asked if act.moves_money else None)

    async def capture(self, transaction_ref: str, amount_minor: int, currency: str) -> None:
        self.captured.append(transaction_ref)

    async def reverse(self, transaction_ref: str, amount_minor: int, key: str) -> Reversal:
        """Give money back once for each key; a scripted fault comes after that, a scripted answer instead of it."""
        self.reversal_keys.append(key)
        told = self.reversal_answers.popleft() if self.reversal_answers else None
        if isinstance(told, ReversalRefused | Undecided):
            return told
        self.reversed.setdefault(key, (transaction_ref, amount_minor))
        if told is not None:
            raise told
        return Reversed(f"{self.gateway_id}-back")

    async def close(self) -> None:
        """Hold nothing."""

    async def enquire(self, reference: Reference) -> Finding:
        self.asked.append(reference)
        if self.answers:
            answer = self.answers.popleft()
            if isinstance(answer, BaseException):
                raise answer
            return answer
        entry = self.book.get(reference)
        if entry is None or (entry.moved is None and entry.declined is None):
            return Undecided(Pending.ABSENT)
        if entry.moved is not None:
            return Captured(f"{self.gateway_id}-ref", *entry.moved)
        assert entry.declined is not None
        return entry.declined


def gateway_config(gateway_id: str, priority: int = 0, timeout_ms: int | None = None) -> GatewayConfig:
    """Configure a gateway that takes every payment of these tests."""
    return GatewayConfig(
        gateway_id=gateway_id,
        display_name=gateway_id.upper(),
        is_sandbox=True,
        is_enabled=True,
        priority=priority,
        supported_methods=tuple(Method),
        supported_currencies=("INR", "USD"),
        timeout_ms=timeout_ms,
    )


def request_of(
    amount_minor: int = 1000,
    merchant_id: str = "m_001",
    instrument: Instrument | None = None,
    metadata: Mapping[str, str] | None = None,
) -> PaymentRequest:
    """Ask for a payment."""
    return PaymentRequest(
        amount_minor=amount_minor,
        currency="INR",
        payment_method=Method.UPI,
        merchant_id=merchant_id,
        customer_id="cust_001",
        instrument=instrument or Upi(vpa="test@okhdfcbank"),
        metadata=dict(metadata or {}),
    )


def snapshot_of(gateway_ids: Iterable[str], at: datetime, policy: RetryPolicy | None = None) -> Snapshot:
    """Know these gateways, in this order of preference, and one merchant's policy."""
    return Snapshot(
        config_version=0,
        as_of=at,
        gateways=tuple(gateway_config(name, priority) for priority, name in enumerate(gateway_ids)),
        policies={} if policy is None else {policy.merchant_id: policy},
    )


@dataclass
class Scene:
    """One world with all its stand-ins in reach; the ledger is real."""

    deps: Dependencies
    clock: VirtualClock
    gateways: dict[str, ScriptedGateway]
    tasks: BackgroundTasks
    snapshots: Callable[[], Snapshot]
    """What the world's decisions know; a test may put another in its place."""

    @property
    def charges(self) -> list[tuple[str, int]]:
        """Every call that left for a gateway: (gateway, attempt number), in order of gateways."""
        return [(name, o.reference.attempt_number) for name, each in self.gateways.items() for o in each.orders]


def scene_of(
    ledger: Ledger,
    scripts: Mapping[str, Iterable[Act | Verdict]],
    policy: RetryPolicy | None = None,
    seed: int = 0,
    clock: VirtualClock | None = None,
    circuit: Circuit | None = None,
) -> Scene:
    """Build a world whose gateways stand in the order of `scripts`, each playing its own."""
    time = clock or VirtualClock()
    played = {name: ScriptedGateway(name, time, acts) for name, acts in scripts.items()}
    snapshot = snapshot_of(scripts, time.now(), policy)
    tasks = BackgroundTasks()
    gateways: dict[str, Gateway] = {**played}
    system: Clock = time
    deps = Dependencies(
        ledger=ledger,
        gateways=gateways,
        clock=system,
        rng=Random(seed),
        snapshot=lambda: scene.snapshots(),  # noqa: PLW0108  # a test may put other snapshots in the scene later
        timeout_ms=2500,
        ledger_id=LEDGER_ID,
        spawn=tasks.spawn,
        circuit=circuit or OpenDoors(),
    )
    scene = Scene(deps, time, played, tasks, lambda: snapshot)
    return scene
