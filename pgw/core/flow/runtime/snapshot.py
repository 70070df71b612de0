"""The configuration log -> Snapshot: what a decision reads, refreshed in the background."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from pgw.core.breakers.breaker import Key, View
from pgw.core.breakers.override import Override, Pause
from pgw.core.errors import Code, PgwError
from pgw.core.ledger.configuration import (
    BANKS,
    BREAKER,
    CONFIGURE,
    GATEWAY,
    PAUSE,
    RETRY_POLICY,
    SCORING,
    Change,
    changes_since,
    head,
)
from pgw.core.ports import Clock, Ledger
from pgw.core.routing.context import Banks
from pgw.core.routing.gateway import GatewayConfig
from pgw.core.routing.plan import Snapshot
from pgw.core.routing.policy import RetryPolicy
from pgw.core.routing.score import Health, Scoring

CONFIGURATION_EVERY_S = 0.25

MAX_CLAIMS = 10
"""Tries to append a change while others append too; operators are few, so a tenth means something is wrong."""


def fold(snapshot: Snapshot, changes: Sequence[Change], now: datetime) -> Snapshot:
    """Apply changes, oldest first. Raises OLD_SCHEMA for a subject that only a newer program knows."""
    gateways = {each.gateway_id: each for each in snapshot.gateways}
    policies = dict(snapshot.policies)
    overrides = dict(snapshot.overrides)
    paused = snapshot.paused
    versions = dict(snapshot.versions)
    scoring, banks = snapshot.scoring, snapshot.banks
    for change in changes:
        versions[change.subject] = change.version
        if change.subject.startswith(GATEWAY):
            gateway = msgspec.convert(change.document, GatewayConfig)
            gateways[gateway.gateway_id] = gateway
        elif change.subject.startswith(RETRY_POLICY):
            policy = msgspec.convert(change.document, RetryPolicy)
            policies[policy.merchant_id] = policy
        elif change.subject.startswith(BREAKER):
            override = msgspec.convert({**change.document, "version": change.version}, Override)
            overrides[override.gateway_id, override.payment_method] = override
        elif change.subject == PAUSE:
            paused = msgspec.convert(change.document, Pause)
        elif change.subject == SCORING:
            scoring = msgspec.convert(change.document, Scoring)
        elif change.subject == BANKS:
            banks = msgspec.convert(change.document, Banks)
        else:
            raise PgwError(Code.OLD_SCHEMA, f"the ledger configures {change.subject!r}, which this version cannot read")
    return msgspec.structs.replace(
        snapshot,
        config_version=changes[-1].version if changes else snapshot.config_version,
        as_of=now,
        gateways=tuple(sorted(gateways.values(), key=lambda each: (each.priority, each.gateway_id))),
        scoring=scoring,
        banks=banks,
        policies=policies,
        overrides=overrides,
        paused=paused,
        versions=versions,
    )


class Snapshots:
    """Holds the current snapshot; `unavailable` are gateways this process cannot use, and why."""

    def __init__(self, ledger: Ledger, clock: Clock, unavailable: Callable[[GatewayConfig], str | None]) -> None:
        self._ledger = ledger
        self._clock = clock
        self._unavailable = unavailable
        self.current = Snapshot(config_version=0, as_of=clock.now())

    async def refresh(self) -> Snapshot:
        """Apply newer configuration, if any; raises LedgerUnavailable and keeps what it has."""
        current = self.current
        version = await self._ledger.read(head)
        changes = (
            await self._ledger.read(changes_since, current.config_version) if version > current.config_version else ()
        )
        fresh = fold(current, changes, self._clock.now())
        if changes:
            reasons = {each.gateway_id: self._unavailable(each) for each in fresh.gateways}
            missing = {name: reason for name, reason in reasons.items() if reason is not None}
            fresh = msgspec.structs.replace(fresh, unavailable=missing)
        # Two refreshes may overlap: the older must not undo the newer, nor what was read of the hot state since.
        now = self.current
        if fresh.config_version >= now.config_version:
            hot = {"views": now.views, "health": now.health, "hot_as_of": now.hot_as_of}
            self.current = msgspec.structs.replace(fresh, **hot)
        return self.current

    def update_hot(
        self, views: Mapping[Key, View], health: Mapping[tuple[str, str, str], Health], hot_as_of: datetime | None
    ) -> None:
        """Replace breakers and health; `hot_as_of` is when they were current, None: never."""
        self.current = msgspec.structs.replace(self.current, views=views, health=health, hot_as_of=hot_as_of)

    def update_views(self, views: Mapping[Key, View]) -> None:
        """Replace the breakers at once: the next decision must know of a transition."""
        self.current = msgspec.structs.replace(self.current, views=views)

    async def configure(
        self,
        subject: str,
        change: Callable[[Snapshot], Any],
        actor: str,
        reason: str,
        if_version: int | None = None,
    ) -> Snapshot:
        """Append one change, computed from the newest configuration, and return the configuration with it.

        `change` returns the subject's new value, or raises a refusal. `if_version`: the subject's version the caller
        has read; another one now is PRECONDITION_FAILED.
        """
        for _ in range(MAX_CLAIMS):
            current = await self.refresh()
            if if_version is not None and current.versions.get(subject, 0) != if_version:
                raise PgwError(
                    Code.PRECONDITION_FAILED, "it was changed since you read it: read it again, then change it"
                )
            write: Mapping[str, Any] = {
                "version": current.config_version + 1,
                "subject": subject,
                "document": change(current),
                "actor": actor,
                "reason": reason,
                "changed_at": self._clock.now(),
            }
            if await self._ledger.commit(CONFIGURE, write) or await self._ledger.read(_is_written, write):
                return await self.refresh()
        raise PgwError(Code.CONFLICT, "others keep changing the configuration: try again", retry_after_s=1)


def _is_written(connection: Any, write: Mapping[str, Any]) -> bool:
    """Whether a refused change was already written by an earlier try, whose answer was lost."""
    newest = changes_since(connection, write["version"] - 1)
    ours = (write["version"], write["subject"], write["actor"], write["changed_at"])
    return any((each.version, each.subject, each.actor, each.changed_at) == ours for each in newest)


def replayed(changes: Sequence[Change], now: datetime) -> Snapshot:
    """Build the configuration of one past version, to recompute a decision with it."""
    return fold(Snapshot(config_version=0, as_of=now), changes, now)
