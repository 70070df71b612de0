"""Configuration -> an append-only log: each change is a version with its actor, the newest of a subject holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from msgspec import to_builtins
from sqlalchemy import Connection, Text, and_, func, select

from pgw.core.ledger.engine.columns import Json, When, Whole
from pgw.core.ledger.engine.phase import Phase, put
from pgw.core.ledger.tables import configurations
from pgw.core.payment.payment import Document, Method
from pgw.core.routing.context import SEED_BANKS
from pgw.core.routing.gateway import GatewayConfig
from pgw.core.routing.score import SEED_SCORING

GATEWAY = "gateway:"
RETRY_POLICY = "retry-policy:"
SCORING = "scoring"
BANKS = "banks"
BREAKER = "breaker:"
PAUSE = "pause"


def breaker_subject(gateway_id: str, payment_method: str) -> str:
    """Name the override of one breaker."""
    return f"{BREAKER}{gateway_id}:{payment_method}"


CONFIGURE = Phase(
    name="configure",
    columns={
        "version": Whole,
        "subject": Text(),
        "document": Json(),
        "actor": Text(),
        "reason": Text(),
        "changed_at": When(),
    },
    key="version",
    order=("version",),
    guard=lambda item: (
        put(configurations, item).on_conflict_do_nothing(index_elements=["version"]).returning(configurations.c.version)
    ),
    effects=lambda _: (),
)
"""Appends one change under the version its author expected to be free; who comes second reads again and tries anew."""


@dataclass(frozen=True, slots=True)
class Change:
    """One row of the log."""

    version: int
    subject: str
    document: Document
    actor: str
    reason: str
    changed_at: datetime


def head(connection: Connection) -> int:
    """Return the newest version."""
    return connection.execute(select(func.max(configurations.c.version))).scalar_one() or 0


def changes_since(connection: Connection, version: int) -> Sequence[Change]:
    """List the newest row of each subject changed after `version`, in order."""
    return _newest(connection, after=version, until=None)


def as_of(connection: Connection, version: int) -> Sequence[Change]:
    """List what held at `version`: the newest row of each subject up to it."""
    return _newest(connection, after=0, until=version)


def _newest(connection: Connection, after: int, until: int | None) -> Sequence[Change]:
    span = configurations.c.version > after
    if until is not None:
        span = and_(span, configurations.c.version <= until)
    newest = select(func.max(configurations.c.version)).where(span).group_by(configurations.c.subject)
    query = select(configurations).where(configurations.c.version.in_(newest)).order_by(configurations.c.version)
    return [Change(**row._mapping) for row in connection.execute(query)]  # noqa: SLF001  # the public accessor


def _sandbox(gateway_id: str, name: str, priority: int) -> GatewayConfig:
    return GatewayConfig(
        gateway_id=gateway_id,
        display_name=f"{name} (sandbox)",
        is_sandbox=True,
        is_enabled=False,
        priority=priority,
        supported_methods=tuple(Method),
        supported_currencies=("INR", "USD", "EUR"),
        bank=name,
    )


SANDBOX_GATEWAYS = (_sandbox("hdfc", "HDFC", 20), _sandbox("icici", "ICICI", 30), _sandbox("axis", "AXIS", 40))

RAZORPAY = GatewayConfig(
    gateway_id="razorpay",
    display_name="Razorpay",
    is_sandbox=False,
    is_enabled=True,
    priority=10,
    supported_methods=tuple(Method),
    supported_currencies=("INR",),
    required_fields=("customer.email", "customer.contact", "client.ip", "client.user_agent", "client.referer"),
    min_amount_minor=100,
)
"""Enabled from the start, unavailable until it has keys; the fields are those its payment calls name as mandatory."""

SEED: tuple[tuple[str, Document], ...] = (
    (SCORING, to_builtins(SEED_SCORING)),
    (BANKS, to_builtins(SEED_BANKS)),
    *((GATEWAY + gateway.gateway_id, to_builtins(gateway)) for gateway in (RAZORPAY, *SANDBOX_GATEWAYS)),
)
"""What a new ledger begins with, one version each; sandbox gateways are off until a development server starts."""
