"""A snapshot holds operators' orders, which the ledger keeps, and what is seen of the hot state, which nothing does."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from msgspec.structs import replace

from pgw.core.breakers.breaker import State
from pgw.core.breakers.override import Override, Pause
from pgw.core.flow.payments.recompute import recomputed
from pgw.core.flow.payments.take import take
from pgw.core.flow.runtime.snapshot import Snapshots, fold, replayed
from pgw.core.ledger.configuration import (
    GATEWAY,
    PAUSE,
    RETRY_POLICY,
    SEED,
    as_of,
    breaker_subject,
    changes_since,
)
from pgw.core.ledger.payment_reads import decision_of
from pgw.core.routing.plan import Snapshot
from pgw.core.routing.policy import RetryPolicy
from pgw.core.routing.score import ALL, Health
from tests.doors import METHOD, order_of, pause_of, ranked, returning, view_of
from tests.doubles import NOON, VirtualClock, request_of, scene_of
from tests.ledgers import Stage
from tests.troubled import Troubled

HDFC = ("hdfc", METHOD)
FIRST = len(SEED) + 1
HOUR = timedelta(hours=1)
VIEWS = {HDFC: view_of(State.HALF_OPEN)}
HEALTH = {("hdfc", METHOD, ALL): Health(0.9, 300.0, 40.0)}


def _snapshots(ledger: Any, clock: VirtualClock | None = None) -> Snapshots:
    return Snapshots(ledger, clock or VirtualClock(), lambda _: None)


def _to(document: Override | Pause) -> Callable[[Snapshot], Override | Pause]:
    return lambda _: document


def test_an_order_for_a_breaker_is_known_with_the_version_that_holds_it(stage: Stage) -> None:
    """Clearing is a version of its own, with its end set to now; it stays known, for its end has to be noticed."""

    async def scenario() -> None:
        mine, theirs = _snapshots(stage.ledger), _snapshots(stage.ledger)
        order = order_of("hdfc", State.FORCED_OPEN)
        await mine.configure(breaker_subject(*HDFC), _to(order), "ann", "drill")
        assert mine.current.overrides == {HDFC: replace(order, version=FIRST)}
        assert (await theirs.refresh()).overrides == mine.current.overrides
        cleared = replace(order, expires_at=NOON)
        await theirs.configure(breaker_subject(*HDFC), _to(cleared), "bob", "over")
        other = order_of("axis", State.FORCED_CLOSED)
        await theirs.configure(breaker_subject("axis", METHOD), _to(other), "bob", "another")
        assert (await mine.refresh()).overrides == {
            HDFC: replace(cleared, version=FIRST + 1),
            ("axis", METHOD): replace(other, version=FIRST + 2),
        }

    stage.run(scenario())


def test_the_version_of_an_order_is_the_ledgers_and_not_the_documents(stage: Stage) -> None:
    """An order computed from the one before carries that one's version along; the breaker must not believe it."""

    async def scenario() -> None:
        snapshots = _snapshots(stage.ledger)
        await snapshots.configure(breaker_subject(*HDFC), _to(order_of("hdfc", State.FORCED_OPEN)), "ann", "drill")

        def longer(snapshot: Snapshot) -> Override:
            return replace(snapshot.overrides[HDFC], expires_at=NOON + 2 * HOUR)

        await snapshots.configure(breaker_subject(*HDFC), longer, "ann", "longer")
        assert snapshots.current.overrides[HDFC].version == FIRST + 1

    stage.run(scenario())


def test_a_pause_is_known_and_so_is_its_end(stage: Stage) -> None:
    async def scenario() -> None:
        mine, theirs = _snapshots(stage.ledger), _snapshots(stage.ledger)
        assert (await theirs.refresh()).paused is None
        await mine.configure(PAUSE, _to(pause_of(NOON + HOUR)), "ann", "maintenance")
        assert (await theirs.refresh()).paused == pause_of(NOON + HOUR)
        await theirs.configure(PAUSE, _to(pause_of(NOON)), "bob", "done")
        assert (await mine.refresh()).paused == pause_of(NOON)

    stage.run(scenario())


def test_the_orders_of_any_version_can_be_had_again(stage: Stage) -> None:
    async def scenario() -> None:
        snapshots = _snapshots(stage.ledger)
        known = [await snapshots.refresh()]
        for state, until in ((State.FORCED_OPEN, NOON + HOUR), (State.FORCED_CLOSED, NOON), (State.FORCED_OPEN, NOON)):
            subject = breaker_subject(*HDFC)
            known.append(await snapshots.configure(subject, _to(order_of("hdfc", state, until)), "ann", "again"))
            known.append(await snapshots.configure(PAUSE, _to(pause_of(until)), "ann", "again"))
        for snapshot in known:
            assert replayed(await stage.ledger.read(as_of, snapshot.config_version), snapshot.as_of) == snapshot
        news = await stage.ledger.read(changes_since, known[0].config_version)
        assert fold(known[0], news, known[-1].as_of) == known[-1]

    stage.run(scenario())


def test_what_is_seen_of_the_hot_state_stays_through_a_change_of_configuration(stage: Stage) -> None:
    async def scenario() -> None:
        clock = VirtualClock()
        snapshots = _snapshots(stage.ledger, clock)
        await snapshots.refresh()
        snapshots.update_hot(VIEWS, HEALTH, NOON)
        clock.advance(3)
        order = order_of("hdfc", State.FORCED_OPEN)
        now = await snapshots.configure(breaker_subject(*HDFC), _to(order), "ann", "drill")
        assert (now.views, now.health, now.hot_as_of) == (VIEWS, HEALTH, NOON)
        assert (now.as_of, now.config_version) == (clock.now(), FIRST)
        snapshots.update_hot({}, {}, None)
        assert (await snapshots.refresh()).overrides == {HDFC: replace(order, version=FIRST)}
        assert (snapshots.current.views, snapshots.current.health, snapshots.current.hot_as_of) == ({}, {}, None)

    stage.run(scenario())


def test_what_is_seen_while_a_refresh_is_under_way_is_not_undone_by_it(stage: Stage) -> None:
    """It read before, stood still, and brings the configuration; breakers and health have moved on meanwhile."""
    reached, gate = asyncio.Event(), asyncio.Event()

    class Held(Troubled):
        hold = False

        async def read(self, query: Any, *args: Any) -> Any:
            found = await super().read(query, *args)
            if self.hold:
                self.hold = False
                reached.set()
                await gate.wait()
            return found

    async def scenario() -> None:
        ledger = Held(stage.ledger)
        snapshots = _snapshots(ledger)
        await snapshots.refresh()
        snapshots.update_hot({}, {}, NOON - HOUR)
        await _snapshots(stage.ledger).configure(
            RETRY_POLICY + "m_001", lambda _: RetryPolicy(merchant_id="m_001", max_attempts=7), "ann", "meanwhile"
        )
        ledger.hold = True
        under_way = asyncio.create_task(snapshots.refresh())
        await reached.wait()
        snapshots.update_hot(VIEWS, HEALTH, NOON)
        snapshots.update_views({HDFC: view_of(State.OPEN)})
        gate.set()
        seen = await under_way
        assert seen == snapshots.current
        assert seen.policy_of("m_001").max_attempts == 7
        assert (seen.views, seen.health, seen.hot_as_of) == ({HDFC: view_of(State.OPEN)}, HEALTH, NOON)

    stage.run(scenario())


def test_a_breakers_change_is_known_at_once_and_leaves_the_rest_as_it_was(stage: Stage) -> None:
    async def scenario() -> None:
        snapshots = _snapshots(stage.ledger)
        await snapshots.refresh()
        snapshots.update_hot({}, HEALTH, NOON)
        before = snapshots.current
        snapshots.update_views(VIEWS)
        assert snapshots.current == replace(before, views=VIEWS)

    stage.run(scenario())


def test_a_decision_by_orders_and_breakers_is_made_again_when_both_have_gone(stage: Stage) -> None:
    """From the ledger alone: the plan keeps each breaker's admission, so the hot state need not be kept."""

    async def scenario() -> None:
        scene = scene_of(stage.ledger, {"hdfc": [], "icici": [], "axis": []})
        snapshots = _snapshots(stage.ledger, scene.clock)
        for name in ("hdfc", "icici", "axis"):
            await snapshots.configure(GATEWAY + name, _enabled(name), "test", "on")
        order = order_of("icici", State.FORCED_OPEN)
        await snapshots.configure(breaker_subject("icici", METHOD), _to(order), "ann", "drill")
        snapshots.update_hot({("axis", METHOD): returning(), HDFC: view_of(State.HALF_OPEN)}, HEALTH, NOON)
        scene.snapshots = lambda: snapshots.current
        taken = await take(scene.deps, request_of(), "key")
        await snapshots.configure(breaker_subject("icici", METHOD), _to(replace(order, expires_at=NOON)), "ann", "over")
        snapshots.update_hot({}, {}, None)
        stored = await stage.ledger.read(decision_of, taken.payment.payment_id)
        assert stored is not None
        assert {name: each.state for name, each in stored[0].admissions.items()} == {
            "hdfc": State.HALF_OPEN,
            "icici": State.FORCED_OPEN,
            "axis": State.CLOSED,
        }
        assert ranked(stored[0]) == ["hdfc", "axis"]
        assert (await recomputed(scene.deps, stored[0])).identical

    stage.run(scenario())


def _enabled(name: str) -> Callable[[Snapshot], Any]:
    def enabled(snapshot: Snapshot) -> Any:
        gateway = snapshot.gateway(name)
        assert gateway is not None
        return replace(gateway, is_enabled=True)

    return enabled
