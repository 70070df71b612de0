"""What decisions know is the newest configuration, changed by one author at a time, and its age is no secret."""

import asyncio
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from pgw.core.errors import Code, PgwError
from pgw.core.flow.payments.take import take
from pgw.core.flow.runtime.snapshot import Snapshots, fold, replayed
from pgw.core.ledger.configuration import CONFIGURE, GATEWAY, RETRY_POLICY, SCORING, SEED, as_of, changes_since, head
from pgw.core.ledger.engine.writer import LedgerUnavailable
from pgw.core.ledger.payment_reads import decision_of
from pgw.core.ledger.tables import configurations
from pgw.core.routing.gateway import GatewayConfig
from pgw.core.routing.plan import SNAPSHOT_LIMIT, Snapshot
from pgw.core.routing.policy import RetryPolicy
from tests.doubles import VirtualClock, request_of, scene_of
from tests.ledgers import Stage, opened, rows
from tests.troubled import Trouble, Troubled

POLICY = RETRY_POLICY + "m_001"


def _policy(most: int) -> Any:
    return lambda _: RetryPolicy(merchant_id="m_001", max_attempts=most)


def _snapshots(ledger: Any, clock: VirtualClock | None = None) -> Snapshots:
    return Snapshots(ledger, clock or VirtualClock(), lambda _: None)


def _enabled(snapshot: Snapshot) -> GatewayConfig:
    gateway = snapshot.gateway("hdfc")
    assert gateway is not None
    return msgspec.structs.replace(gateway, is_enabled=True)


def test_a_new_ledger_knows_its_seed(stage: Stage) -> None:
    async def scenario() -> None:
        snapshot = await _snapshots(stage.ledger).refresh()
        assert snapshot.config_version == len(SEED)
        assert [each.gateway_id for each in snapshot.gateways] == ["razorpay", "hdfc", "icici", "axis"]
        assert [each.is_enabled for each in snapshot.gateways] == [True, False, False, False]
        assert snapshot.versions == {subject: version for version, (subject, _) in enumerate(SEED, start=1)}

    stage.run(scenario())


def test_a_change_is_one_version_with_its_author_and_reaches_the_others(stage: Stage) -> None:
    async def scenario() -> None:
        mine, theirs = _snapshots(stage.ledger), _snapshots(stage.ledger)
        await theirs.refresh()
        changed = await mine.configure(POLICY, _policy(5), "ann", "a calm shop")
        assert changed.policy_of("m_001").max_attempts == 5
        assert changed.versions[POLICY] == changed.config_version == len(SEED) + 1
        assert theirs.current.policy_of("m_001").max_attempts == 3
        assert (await theirs.refresh()).policy_of("m_001").max_attempts == 5
        row = (await rows(stage.ledger, configurations))[-1]
        assert (row["subject"], row["actor"], row["reason"]) == (POLICY, "ann", "a calm shop")

    stage.run(scenario())


def test_many_authors_at_once_lose_no_change_and_leave_no_gap(stage: Stage, database: str) -> None:
    """Each change is computed from the one before: eight additions by eight authors add up."""

    async def scenario() -> None:
        async with opened(database) as other:

            def more(snapshot: Snapshot) -> RetryPolicy:
                return RetryPolicy(merchant_id="m_001", max_attempts=snapshot.policy_of("m_001").max_attempts + 1)

            authors = [_snapshots(ledger) for ledger in (stage.ledger, other) for _ in range(3)]
            await asyncio.gather(*(each.configure(POLICY, more, f"a{n}", "more") for n, each in enumerate(authors)))
        versions = [row["version"] for row in await rows(stage.ledger, configurations)]
        assert versions == list(range(1, len(SEED) + 7))
        assert (await _snapshots(stage.ledger).refresh()).policy_of("m_001").max_attempts == 3 + 6

    stage.run(scenario())


def test_a_change_based_on_an_old_version_is_refused(stage: Stage) -> None:
    async def scenario() -> None:
        snapshots = _snapshots(stage.ledger)
        seen = (await snapshots.refresh()).versions[GATEWAY + "hdfc"]
        await snapshots.configure(POLICY, _policy(2), "ann", "another subject", None)
        await snapshots.configure(GATEWAY + "hdfc", _enabled, "ann", "on", seen)
        with pytest.raises(PgwError) as refusal:
            await snapshots.configure(GATEWAY + "hdfc", _enabled, "bob", "on", seen)
        assert refusal.value.code is Code.PRECONDITION_FAILED
        assert await stage.ledger.read(head) == len(SEED) + 2

    stage.run(scenario())


def test_a_first_change_may_ask_for_a_subject_nobody_has_configured(stage: Stage) -> None:
    async def scenario() -> None:
        snapshots = _snapshots(stage.ledger)
        await snapshots.configure(POLICY, _policy(2), "ann", "first", 0)
        with pytest.raises(PgwError):
            await snapshots.configure(POLICY, _policy(2), "ann", "first", 0)

    stage.run(scenario())


def test_a_refusal_of_the_change_writes_nothing(stage: Stage) -> None:
    async def scenario() -> None:
        def refuse(_: Snapshot) -> None:
            raise PgwError(Code.NOT_FOUND, "there is no such gateway")

        with pytest.raises(PgwError, match="no such gateway"):
            await _snapshots(stage.ledger).configure(GATEWAY + "nobody", refuse, "ann", "on")
        assert await stage.ledger.read(head) == len(SEED)

    stage.run(scenario())


def test_an_author_who_always_comes_second_is_told(stage: Stage) -> None:
    async def scenario() -> None:
        ledger = Troubled(stage.ledger)
        rival = _snapshots(stage.ledger)

        class Overtaken(Troubled):
            async def commit(self, phase: Any, item: Any) -> bool:
                await rival.configure(SCORING, lambda each: each.scoring, "rival", "busy")
                return await super().commit(phase, item)

        with pytest.raises(PgwError) as refusal:
            await _snapshots(Overtaken(stage.ledger)).configure(POLICY, _policy(2), "ann", "never")
        assert refusal.value.code is Code.CONFLICT
        assert (await _snapshots(ledger).refresh()).policy_of("m_001").max_attempts == 3

    stage.run(scenario())


def test_without_its_ledger_a_snapshot_stays_and_grows_old(stage: Stage) -> None:
    """Payments go on with what is known; after five seconds every decision says that it is degraded."""

    async def scenario() -> None:
        clock = VirtualClock()
        ledger = Troubled(stage.ledger)
        snapshots = _snapshots(ledger, clock)
        await snapshots.configure(GATEWAY + "hdfc", _enabled, "ann", "on")
        ledger.unreadable = True
        clock.advance(60)
        with pytest.raises(LedgerUnavailable):
            await snapshots.refresh()
        assert snapshots.current.gateway("hdfc") is not None
        assert clock.now() - snapshots.current.as_of == timedelta(seconds=60)

    stage.run(scenario())


@pytest.mark.parametrize(("age", "degraded"), [(SNAPSHOT_LIMIT, False), (SNAPSHOT_LIMIT * 1.001, True)])
def test_a_decision_on_an_old_snapshot_is_degraded(stage: Stage, age: timedelta, degraded: bool) -> None:
    async def scenario() -> None:
        scene = scene_of(stage.ledger, {"g1": []})
        scene.clock.advance(age.total_seconds())
        taken = await take(scene.deps, request_of(), "key")
        stored = await stage.ledger.read(decision_of, taken.payment.payment_id)
        assert stored is not None
        assert (stored[0].degraded, stored[1]) == (degraded, scene.clock.now())

    stage.run(scenario())


def test_a_gateway_this_process_cannot_use_is_known_with_its_reason(stage: Stage) -> None:
    async def scenario() -> None:
        snapshots = Snapshots(
            stage.ledger, VirtualClock(), lambda each: "no key" if each.gateway_id == "icici" else None
        )
        assert (await snapshots.refresh()).unavailable == {"icici": "no key"}

    stage.run(scenario())


def test_the_configuration_of_any_version_can_be_had_again(stage: Stage) -> None:
    """Folding the newest rows of a version gives what every snapshot of that version knew."""

    async def scenario() -> None:
        snapshots = _snapshots(stage.ledger)
        known = [await snapshots.refresh()]
        for most in (1, 2, 7):
            known.append(await snapshots.configure(POLICY, _policy(most), "ann", "again"))
            known.append(await snapshots.configure(GATEWAY + "hdfc", _enabled, "ann", "on"))
        for snapshot in known:
            changes = await stage.ledger.read(as_of, snapshot.config_version)
            again = replayed(changes, snapshot.as_of)
            assert again == snapshot
        news = await stage.ledger.read(changes_since, known[0].config_version)
        assert fold(known[0], news, known[-1].as_of) == known[-1]

    stage.run(scenario())


def test_a_subject_of_a_newer_program_is_refused_not_ignored(stage: Stage) -> None:
    async def scenario() -> None:
        item = {
            "version": len(SEED) + 1,
            "subject": "taxes",
            "document": {},
            "actor": "newer",
            "reason": "new",
            "changed_at": VirtualClock().now(),
        }
        assert await stage.ledger.commit(CONFIGURE, item) is True
        with pytest.raises(PgwError, match="taxes") as refusal:
            await _snapshots(stage.ledger).refresh()
        assert refusal.value.code is Code.OLD_SCHEMA

    stage.run(scenario())


def test_two_refreshes_at_once_never_go_back(stage: Stage) -> None:
    async def scenario() -> None:
        snapshots = _snapshots(stage.ledger)
        author = _snapshots(stage.ledger)
        for most in range(1, 6):
            await author.configure(POLICY, _policy(most), "ann", "again")
            seen = await asyncio.gather(*(snapshots.refresh() for _ in range(5)))
            assert snapshots.current.policy_of("m_001").max_attempts == most
            assert max(each.config_version for each in seen) == snapshots.current.config_version

    stage.run(scenario())


def test_a_refresh_that_was_overtaken_does_not_undo_the_newer_one(stage: Stage) -> None:
    """It read the head, stood still while a change was made and taken over, and only then went on."""

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
        ledger.hold = True
        overtaken = asyncio.create_task(snapshots.refresh())
        await reached.wait()
        newer = await snapshots.configure(POLICY, _policy(7), "ann", "meanwhile")
        gate.set()
        assert await overtaken == snapshots.current == newer

    stage.run(scenario())


def test_a_change_whose_commit_was_not_seen_is_not_refused_as_another_authors(stage: Stage) -> None:
    """It was already written by an earlier try: the version in its way is its own."""

    async def scenario() -> None:
        ledger = Troubled(stage.ledger)
        ledger.trouble = {"configure": Trouble.TWICE}
        snapshots = _snapshots(ledger)
        seen = (await snapshots.refresh()).versions[GATEWAY + "hdfc"]
        changed = await snapshots.configure(GATEWAY + "hdfc", _enabled, "ann", "on", seen)
        assert changed.versions[GATEWAY + "hdfc"] == await stage.ledger.read(head) == len(SEED) + 1

    stage.run(scenario())
