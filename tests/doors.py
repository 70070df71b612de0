"""A test's wishes -> breakers: leave to call that can be found again, what decisions know, payments that meet both."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace

from pgw.core.breakers.admission import Admission
from pgw.core.breakers.breaker import CallOutcome, Key, Permit, State, View
from pgw.core.breakers.override import Override, Pause
from pgw.core.flow.payments.replay import Taken
from pgw.core.flow.payments.take import take
from pgw.core.flow.verification.verify import verify_due
from pgw.core.ledger.payment_reads import attempts_of, by_id, by_key, decision_of
from pgw.core.payment.outcome import Verdict
from pgw.core.payment.payment import Attempt, Payment
from pgw.core.ports import ChargeOrder, Ledger
from pgw.core.routing.plan import Plan, Snapshot, recompute
from pgw.core.routing.policy import RetryPolicy
from tests.doubles import NOON, Act, OpenDoors, Scene, request_of, scene_of

CHECKED_WITHIN_S = 3600.0 * 1.2
"""After so long every lease is over and every check of a young payment due."""

METHOD = str(request_of().payment_method)

Known = Mapping[str, View | State | Override]
"""Breakers by gateway: a view, an automatic state, or an operator's order."""

Scripts = Mapping[str, Iterable[Act | Verdict]]
"""What each gateway plays, in the order of preference."""


class ScriptedDoors(OpenDoors):
    """Breakers as a test says; every leave has a name of its own.

    `denied`: gateways whose half-open breaker has no probe left. `tokens`: fallbacks left at a gateway (absent: any
    number). `when_asked` runs before each answer.
    """

    def __init__(self, denied: Iterable[str] = (), tokens: Mapping[str, int] | None = None) -> None:
        super().__init__()
        self.denied = set(denied)
        self.tokens = Counter(tokens)
        self.given: list[Permit] = []
        self.leases: list[float] = []
        self.latencies: list[int] = []
        self.deposited: list[str] = []
        self.withdrawn: list[str] = []
        self.when_asked: Callable[[str], None] = lambda _: None

    async def admit(self, key: Key, standing: Admission, lease_s: float) -> Permit | None:
        assert standing.state not in {State.OPEN, State.FORCED_OPEN}, "an open breaker is not asked"
        self.when_asked(key[0])
        if key[0] in self.denied and standing.state is State.HALF_OPEN:
            return None
        self.given.append(Permit(key, standing.state, 0, f"lease-{len(self.given)}"))
        self.leases.append(lease_s)
        return self.given[-1]

    def record(self, admission: Permit, sign: CallOutcome, latency_ms: int) -> None:
        super().record(admission, sign, latency_ms)
        self.latencies.append(latency_ms)

    def deposit(self, key: Key) -> None:
        self.deposited.append(key[0])

    def withdraw(self, key: Key) -> bool:
        if key[0] in self.tokens:
            if self.tokens[key[0]] == 0:
                return False
            self.tokens[key[0]] -= 1
        self.withdrawn.append(key[0])
        return True

    @property
    def signs(self) -> list[tuple[str, CallOutcome]]:
        """What came of each call: (gateway, sign), in the order it was told."""
        return [(admission.key[0], sign) for admission, sign in self.recorded]


def view_of(state: State, at: datetime = NOON) -> View:
    """See a breaker; an open one stays so for half a minute."""
    return View(state=state, epoch=1, since=at, until=at + timedelta(seconds=30) if state is State.OPEN else None)


def returning(closed_at: datetime = NOON) -> View:
    """See a breaker that has just closed: its slow start is under way."""
    return View(state=State.CLOSED, epoch=3, since=closed_at, closed_at=closed_at)


def order_of(gateway_id: str, state: State, expires_at: datetime = NOON + timedelta(hours=1)) -> Override:
    """Force a breaker."""
    return Override(
        gateway_id=gateway_id,
        payment_method=METHOD,
        state=state,
        reason="a test",
        actor="ann",
        forced_at=NOON,
        expires_at=expires_at,
        version=1,
    )


def pause_of(expires_at: datetime) -> Pause:
    """Keep new payments out."""
    return Pause(reason="maintenance", actor="ann", paused_at=NOON, expires_at=expires_at)


def knowing(snapshot: Snapshot, known: Known, **more: Any) -> Snapshot:
    """Let decisions know these breakers."""
    views = {
        (name, METHOD): view_of(each, snapshot.as_of) if isinstance(each, State) else each
        for name, each in known.items()
        if not isinstance(each, Override)
    }
    overrides = {(name, METHOD): each for name, each in known.items() if isinstance(each, Override)}
    return replace(snapshot, views=views, overrides=overrides, **more)


def let_know(scene: Scene, known: Known, **more: Any) -> Snapshot:
    """Put these breakers into what a scene's decisions know from now on."""
    snapshot = knowing(scene.snapshots(), known, **more)
    scene.snapshots = lambda: snapshot
    return snapshot


def without_hot_state(snapshot: Snapshot) -> Snapshot:
    """Leave only what the ledger keeps by version: the configuration a stored plan is made again with."""
    return replace(snapshot, hot_as_of=None, unavailable={}, health={}, views={}, overrides={})


FIVE = RetryPolicy(merchant_id="m_001", max_attempts=5)


class Play:
    """A scene with breakers, and what its payments left in the ledger."""

    def __init__(
        self,
        ledger: Ledger,
        scripts: Scripts,
        known: Known | None = None,
        *,
        denied: Iterable[str] = (),
        tokens: Mapping[str, int] | None = None,
        policy: RetryPolicy = FIVE,
        seed: int = 0,
        **more: Any,
    ) -> None:
        self.ledger = ledger
        self.doors = ScriptedDoors(denied, tokens)
        self.scene: Scene = scene_of(ledger, scripts, policy, seed, circuit=self.doors)
        self.snapshot = let_know(self.scene, known or {}, **more)

    async def pay(self, key: str = "key") -> Taken:
        return await take(self.scene.deps, request_of(), key)

    def when_called(self, gateway_id: str, known: Known) -> None:
        """Let these breakers be known as soon as a gateway is called, after the plan was made."""

        async def learn(_: ChargeOrder) -> None:
            let_know(self.scene, known)

        self.scene.gateways[gateway_id].when_called = learn

    async def attempts(self, taken: Taken) -> Sequence[Attempt]:
        return await self.ledger.read(attempts_of, taken.payment.payment_id)

    async def plan(self, taken: Taken) -> Plan:
        """Read the stored plan, which must come out the same from the configuration alone."""
        stored = await self.ledger.read(decision_of, taken.payment.payment_id)
        assert stored is not None
        assert recompute(stored[0], without_hot_state(self.snapshot)) == stored[0]
        return stored[0]

    async def is_as_answered(self, taken: Taken) -> bool:
        stored = await self.ledger.read(by_id, taken.payment.payment_id)
        return stored is not None and stored.payment == taken.payment


def seen(shown: Sequence[Attempt]) -> list[tuple[int, str, str, str | None]]:
    """Reduce attempts to number, gateway, status and error code."""
    return [(each.attempt_number, each.gateway_id, each.status, each.error_code) for each in shown]


def ranked(plan: Plan) -> list[str]:
    """Name a plan's gateways in order."""
    return [each.gateway_id for each in plan.ranked]


async def verified(play: Play, key: str = "key") -> Payment | None:
    """Let every lease pass and every check fall due, and ask: once to find it over, twice for an absence."""
    for _ in range(3):
        play.scene.clock.advance(CHECKED_WITHIN_S)
        await verify_due(play.scene.deps)
    stored = await play.ledger.read(by_key, "m_001", key)
    return None if stored is None else stored.payment
