"""An action -> an entry in the same commit; entries and changes of configuration -> one log, newest first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, Row, Table, Text, and_, or_, select
from sqlalchemy.sql.selectable import FromClause

from pgw.core.ledger.engine.columns import Id, Json, When
from pgw.core.ledger.engine.phase import Columns, Item, Statement, put
from pgw.core.ledger.tables import audit_log, configurations

ENTRY: Columns = {
    "audit_id": Id,
    "audit_at": When(),
    "audit_actor": Text(),
    "audit_action": Text(),
    "audit_subject": Text(),
    "audit_reason": Text(),
    "audit_details": Json(),
}
"""An entry among the members of a phase's item; none is named like a column of what it goes with."""

CONFIGURE = "configure"
"""Action of every change of configuration, which is a log itself."""


def entry(
    entry_id: str, at: datetime, actor: str, action: str, subject: str, reason: str, details: object = None
) -> Item:
    """Lay an entry out for `note`: `subject` reads `kind:name`, `details` is a document without secrets."""
    return {
        "audit_id": entry_id,
        "audit_at": at,
        "audit_actor": actor,
        "audit_action": action,
        "audit_subject": subject,
        "audit_reason": reason,
        "audit_details": details,
    }


def note(won: FromClause) -> Statement:
    """Write the entries of those who won, as an effect of their phase."""
    members = {
        "entry_id": won.c.audit_id,
        "at": won.c.audit_at,
        "actor": won.c.audit_actor,
        "action": won.c.audit_action,
        "subject": won.c.audit_subject,
        "reason": won.c.audit_reason,
        "details": won.c.audit_details,
    }
    return put(audit_log, won, **members)  # type: ignore[no-any-return]


AuditKind = Literal["audit", "configuration"]


class AuditCursor(Struct, frozen=True):
    """Where an entry stands: `number` is its position, or the configuration's version."""

    at: datetime
    kind: AuditKind
    number: int


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One audited action."""

    place: AuditCursor
    actor: str
    action: str
    subject: str
    reason: str
    details: Any


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What the log is filtered by; `subject` is the beginning of one, `before` the last entry of the page before."""

    actor: str | None = None
    action: str | None = None
    subject: str | None = None
    since: datetime | None = None
    before: AuditCursor | None = None
    limit: int = 50


def read(connection: Connection, wanted: AuditFilter) -> Sequence[AuditEntry]:
    """List what was done, newest first; at equal times configuration before the rest, later numbers before earlier."""
    found = [_entry(row) for row in connection.execute(_query(audit_log, "at", "position", "audit", wanted))]
    if wanted.action in {None, CONFIGURE}:
        changes = _query(configurations, "changed_at", "version", "configuration", wanted)
        found += [_change(row) for row in connection.execute(changes)]
    found.sort(key=lambda each: (each.place.at, each.place.kind, each.place.number), reverse=True)
    return found[: wanted.limit]


def _query(table: Table, at: str, number: str, kind: AuditKind, wanted: AuditFilter) -> Any:
    query = select(table).order_by(table.c[at].desc(), table.c[number].desc()).limit(wanted.limit)
    if wanted.actor is not None:
        query = query.where(table.c.actor == wanted.actor)
    if wanted.action is not None and "action" in table.c:
        query = query.where(table.c.action == wanted.action)
    if wanted.subject is not None:
        query = query.where(table.c.subject.startswith(wanted.subject, autoescape=True))
    if wanted.since is not None:
        query = query.where(table.c[at] >= wanted.since)
    if wanted.before is not None:
        query = query.where(_older(table.c[at], table.c[number], kind, wanted.before))
    return query


def _older(
    at: ColumnElement[Any], number: ColumnElement[Any], kind: AuditKind, place: AuditCursor
) -> ColumnElement[bool]:
    if kind == place.kind:
        return or_(at < place.at, and_(at == place.at, number < place.number))
    return at <= place.at if kind < place.kind else at < place.at


def _entry(row: Row[Any]) -> AuditEntry:
    place = AuditCursor(row.at, "audit", row.position)
    return AuditEntry(place, row.actor, row.action, row.subject, row.reason, row.details)


def _change(row: Row[Any]) -> AuditEntry:
    place = AuditCursor(row.changed_at, "configuration", row.version)
    details = {"version": row.version, "document": row.document}
    return AuditEntry(place, row.actor, CONFIGURE, row.subject, row.reason, details)
