"""What a server says of breakers, orders, pauses and the scoring configuration, built from the server's own shapes."""

from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace

from pgw.core.breakers.breaker import State
from pgw.core.payment.payment import Method
from pgw.core.routing.preview import Preview
from pgw.core.routing.score import SEED_SCORING
from pgw.core.routing.traffic_shift import Action, Expected, GatewayGain
from pgw.server.routes.breakers import BreakerList, BreakerResponse, History, HistoryEntry, OverrideResponse
from pgw.server.routes.operator_commands import CommandReach, FleetReach
from pgw.server.routes.overrides import CommandResponse, PreviewResponse
from pgw.server.routes.pause import PauseResponse
from tests.cli.documents import NOW, sent

WELL = BreakerResponse(
    gateway_id="hdfc",
    payment_method="UPI",
    state=State.CLOSED,
    automatic_state=State.CLOSED,
    cause=None,
    since=None,
    until=None,
    epoch=0,
    probes=None,
    admission=1.0,
    calls_2m=412,
    failure_rate_2m=0.021,
    timeout_rate_5m=0.004,
    consecutive_failures=0,
    in_flight=3,
    override=None,
    seen_by=FleetReach(4, 4),
    note=None,
)


def order(state: State, actor: str, reason: str, forced_at: datetime, minutes: float) -> OverrideResponse:
    """Make an operator's word."""
    return OverrideResponse(state, reason, actor, forced_at, forced_at + timedelta(minutes=minutes))


def breakers(at: datetime = NOW) -> list[BreakerResponse]:
    """Make one breaker of every kind, as they stand at a moment."""
    ago = at - timedelta(minutes=3)
    return [
        WELL,
        replace(
            WELL,
            gateway_id="razorpay",
            state=State.FORCED_OPEN,
            since=ago,
            failure_rate_2m=0.612,
            timeout_rate_5m=0.12,
            consecutive_failures=14,
            override=order(State.FORCED_OPEN, "asha", "INC-4412", ago, 30),
            seen_by=FleetReach(3, 4),
        ),
        replace(
            WELL,
            payment_method="CARD",
            state=State.FORCED_CLOSED,
            automatic_state=State.OPEN,
            cause="failure_rate",
            since=ago,
            override=order(State.FORCED_CLOSED, "ravi", "bank says fixed", ago, 7),
        ),
        replace(
            WELL,
            gateway_id="icici",
            state=State.HALF_OPEN,
            automatic_state=State.HALF_OPEN,
            cause="not_sent_in_a_row",
            since=at - timedelta(seconds=40),
            probes="2/3",
            admission=0.0,
            calls_2m=0,
            failure_rate_2m=None,
            timeout_rate_5m=None,
        ),
        replace(WELL, gateway_id="icici", payment_method="CARD", since=at - timedelta(seconds=10), admission=0.4),
        *(
            replace(WELL, gateway_id="axis", payment_method=method, note="takes no payments: it is switched off")
            for method in ("UPI", "CARD")
        ),
    ]


def status(*items: BreakerResponse) -> Any:
    """Answer of GET /circuit-breaker/status."""
    return sent(BreakerList(items=items or tuple(breakers())))


def preview(action: Action = Action.FORCE_OPEN, **more: Any) -> Preview:
    """Foretell an order for razorpay/UPI, with members of the test's own."""
    foretold = Preview(
        environment="development",
        action=action,
        gateway_id="razorpay",
        payment_method=Method.UPI,
        window_s=300,
        share=0.583,
        payments_per_s=82.04,
        moves_to=(GatewayGain("hdfc", 0.51), GatewayGain("icici", 0.073)),
        remaining=("hdfc", "icici"),
        in_flight=11,
        pending_verification=3,
        expected=Expected(0.871, 0.944, 0.936, 0.951),
        expires_at=NOW + timedelta(minutes=30),
        then="HALF_OPEN",
        warnings=(),
    )
    return replace(foretold, **more)


def foretold(action: Action = Action.FORCE_OPEN, **more: Any) -> Any:
    """Answer of a dry run."""
    return sent(PreviewResponse(preview(action, **more)))


def ordered(action: Action = Action.FORCE_OPEN, **more: Any) -> Any:
    """Answer of an order that was given."""
    state = {
        Action.FORCE_OPEN: State.FORCED_OPEN,
        Action.FORCE_CLOSE: State.FORCED_CLOSED,
        Action.CLEAR: State.HALF_OPEN,
    }
    given = CommandResponse(
        gateway_id="razorpay",
        payment_method=Method.UPI,
        state=state[action],
        reason="INC-4412",
        actor="asha",
        expires_at=None if action is Action.CLEAR else NOW + timedelta(minutes=30),
        preview=preview(action),
        seen_by=CommandReach(4, 4, 312),
    )
    return sent(replace(given, **more))


def history(cursor: str | None = None) -> Any:
    """Answer of GET /circuit-breaker/history: a trip, an order and its end."""
    moved = HistoryEntry(
        occurred_at=NOW,
        kind="transition",
        gateway_id="razorpay",
        payment_method="UPI",
        scope="shared",
        actor="host-17-a1b2c3",
        was=State.CLOSED,
        state="OPEN",
        cause="failure_rate",
        expires_at=None,
        epoch=4,
    )
    forced = replace(
        moved,
        kind="override",
        scope=None,
        actor="asha",
        was=None,
        state="FORCED_OPEN",
        cause="INC-4412",
        expires_at=NOW + timedelta(minutes=30),
        epoch=None,
    )
    cleared = replace(forced, was=State.FORCED_CLOSED, state="AUTOMATIC", cause="mended", expires_at=None)
    return sent(History(items=(cleared, forced, moved), next=cursor))


def paused(*, is_paused: bool = True) -> Any:
    """Answer of POST /ops/pause and /ops/resume."""
    return sent(
        PauseResponse(
            paused=is_paused,
            reason="INC-4412",
            actor="asha",
            paused_at=NOW,
            expires_at=NOW + timedelta(minutes=15),
            seen_by=CommandReach(4, 4, 312),
        )
    )


def scoring() -> Any:
    """Answer of GET /scoring/config."""
    return sent(replace(SEED_SCORING, method_affinity={"hdfc": {"UPI": 0.9}}))
