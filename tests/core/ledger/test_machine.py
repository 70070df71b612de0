"""Owners, verifiers and repeated commits in any order: payments only move along their exits, and none is forgotten."""

import asyncio
import tempfile
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule
from sqlalchemy import Table

from pgw.core.ledger.due import due
from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.ledger.engine.phase import Phase
from pgw.core.ledger.payments import CLOSE, OPEN, TURN
from pgw.core.ledger.tables import attempts, outbox, payments, verification_checks
from pgw.core.ledger.verifications import CLAIM, RECORD, SETTLE
from pgw.core.payment.outcome import Captured, GatewayDecline, NotSent, Verdict
from pgw.core.payment.payment import EXITS, AttemptStatus, Status
from pgw.core.writes.attempts import Item
from tests.doubles import CAPTURED, CUSTOMER_DECLINE, GATEWAY_DECLINE, NOON, NOT_SENT, UNKNOWN
from tests.ledgers import claims, closes, id_of, new_file, opens, records, rows, settles, turns

WRONG_AMOUNT = Captured("ref-1", 999, "INR")
ATTEMPT_EXITS = {
    AttemptStatus.SENDING: set(AttemptStatus),
    AttemptStatus.TIMEOUT: {AttemptStatus.TIMEOUT, AttemptStatus.SUCCESS, AttemptStatus.FAILURE},
    AttemptStatus.SUCCESS: {AttemptStatus.SUCCESS},
    AttemptStatus.FAILURE: {AttemptStatus.FAILURE},
}

verdicts = st.sampled_from([CAPTURED, CUSTOMER_DECLINE, GATEWAY_DECLINE, NOT_SENT, UNKNOWN])
Rows = list[dict[str, Any]]


class Ledger(RuleBasedStateMachine):
    """Real writes on a real file; every number of a payment is an owner that believes it is still at work."""

    owners = Bundle("owners")
    taken = Bundle("taken")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.ledger = self.runner.run(self._open(new_file(Path(self.folder.name))))
        self.now = NOON
        self.opened = 0
        self.at_attempt: dict[int, int] = {}
        self.written: list[tuple[Phase, Item]] = []
        self.known: dict[Table, Rows] = {}
        self.seen: tuple[Rows, Rows] = ([], [])

    @staticmethod
    async def _open(database: str) -> OpenLedger:
        return OpenLedger(database)

    def teardown(self) -> None:
        self.runner.run(self.ledger.close())
        self.runner.close()
        self.folder.cleanup()

    def commit(self, phase: Phase, item: Item) -> bool:
        self.written.append((phase, item))
        self.known = {}
        return self.runner.run(self.ledger.commit(phase, item))

    def read(self, table: Table) -> Rows:
        """Read a table; nothing but a commit changes what is there."""
        if not self.known:
            self.known = self.runner.run(self._all())
        return self.known[table]

    async def _all(self) -> dict[Table, Rows]:
        return {table: await rows(self.ledger, table) for table in (payments, attempts, outbox, verification_checks)}

    @rule(target=owners, key=st.integers(0, 5))
    def open(self, key: int) -> Any:
        self.opened += 1
        known = {row["idempotency_key"] for row in self.read(payments)}
        won = self.commit(OPEN, opens(self.opened, key=f"key-{key}", at=self.now))
        assert won is (f"key-{key}" not in known)
        if not won:
            return multiple()
        self.at_attempt[self.opened] = 1
        return self.opened

    @rule(seconds=st.sampled_from([0.5, 2, 5, 31, 4000]))
    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(owner=owners, verdict=st.sampled_from([GATEWAY_DECLINE, NOT_SENT]))
    def turn(self, owner: int, verdict: GatewayDecline | NotSent) -> None:
        number = self.at_attempt[owner]
        status = self.attempt(owner, number)["status"]
        won = self.commit(TURN, turns(owner, verdict, number, self.now))
        assert won is (status == AttemptStatus.SENDING)
        self.at_attempt[owner] += bool(won)

    @rule(owner=owners, verdict=verdicts)
    def close(self, owner: int, verdict: Verdict) -> None:
        number = self.at_attempt[owner]
        status = self.attempt(owner, number)["status"]
        won = self.commit(CLOSE, closes(owner, verdict, number, self.now))
        definitive = verdict is not UNKNOWN
        assert won is (status == AttemptStatus.SENDING or (status == AttemptStatus.TIMEOUT and definitive))

    @rule(target=taken, limit=st.integers(1, 3))
    def claim(self, limit: int) -> Any:
        found = self.runner.run(self.ledger.read(due, self.now, limit))
        claimed = []
        for each in found:
            number = next(n for n in self.at_attempt if id_of(n) == each.payment_id)
            item = claims(number, each.due_at, each.attempt_number, self.now)
            assert self.commit(CLAIM, item) is True
            assert self.commit(CLAIM, item | {"claimed_until": self.now + timedelta(seconds=77)}) is False
            claimed.append((number, item, each.checks_made + 1))
        return multiple(*claimed)

    @rule(claim=taken, seconds=st.sampled_from([2, 40, 3600]))
    def record(self, claim: tuple[int, Item, int], seconds: float) -> None:
        owner, item, check_number = claim
        holds = self.attempt(owner, item["attempt_number"])["next_check_at"] == item["claimed_until"]
        again = records(item, self.now + timedelta(seconds=seconds), check_number)
        assert self.commit(RECORD, again) is holds

    @rule(claim=consumes(taken), found=st.sampled_from([CAPTURED, CUSTOMER_DECLINE, GATEWAY_DECLINE, WRONG_AMOUNT]))
    def settle(self, claim: tuple[int, Item, int], found: Any) -> None:
        owner, item, check_number = claim
        attempt = self.attempt(owner, item["attempt_number"])
        won = self.commit(SETTLE, settles(item | {"claimed_at": self.now}, found, owner, check_number))
        # A worker that was away too long may find the number of its check taken: it changes nothing.
        is_next = attempt["checks_made"] == check_number - 1
        assert won is (is_next and attempt["status"] == AttemptStatus.TIMEOUT)

    @rule(chooses=st.randoms(use_true_random=False))
    def repeat(self, chooses: Any) -> None:
        """A commit whose outcome was not seen is run again, at any later time."""
        if self.written:
            phase, item = chooses.choice(self.written)
            before = [self.read(table) for table in (payments, attempts, outbox)]
            assert not self.commit(phase, item), phase.name
            assert [self.read(table) for table in (payments, attempts, outbox)] == before

    def attempt(self, owner: int, number: int) -> dict[str, Any]:
        key = (id_of(owner), number)
        return next(row for row in self.read(attempts) if (row["payment_id"], row["attempt_number"]) == key)

    @invariant()
    def payments_move_along_their_exits(self) -> None:
        before, now = {row["payment_id"]: row for row in self.seen[0]}, self.read(payments)
        assert before.keys() <= {row["payment_id"] for row in now}
        for row in now:
            was = before.get(row["payment_id"])
            if was is not None and was != row:
                assert row["status"] == was["status"] or Status(row["status"]) in EXITS[Status(was["status"])]
                assert not Status(was["status"]).is_final
                assert row["version"] == was["version"] + 1
        self.seen = (now, self.seen[1])

    @invariant()
    def attempts_end_once(self) -> None:
        before, now = {_key(row): row for row in self.seen[1]}, self.read(attempts)
        assert before.keys() <= {_key(row) for row in now}
        for row in now:
            was = before.get(_key(row))
            if was is not None and was["status"] != row["status"]:
                assert row["status"] in ATTEMPT_EXITS[was["status"]]
        self.seen = (self.seen[0], now)

    @invariant()
    def only_the_last_attempt_is_open_and_the_others_failed(self) -> None:
        for each in _by_payment(self.read(attempts)).values():
            assert [row["attempt_number"] for row in each] == list(range(1, len(each) + 1))
            assert {row["status"] for row in each[:-1]} <= {AttemptStatus.FAILURE}
            assert {row["next_check_at"] for row in each[:-1]} <= {None}

    @invariant()
    def whatever_is_not_ended_will_be_asked_about(self) -> None:
        last = {key: each[-1] for key, each in _by_payment(self.read(attempts)).items()}
        for row in self.read(payments):
            attempt = last[row["payment_id"]]
            if row["status"] in {Status.PROCESSING, Status.PENDING_VERIFICATION}:
                assert attempt["next_check_at"] is not None
                assert attempt["status"] in {AttemptStatus.SENDING, AttemptStatus.TIMEOUT}
            elif Status(row["status"]).is_final:
                assert attempt["next_check_at"] is None
                assert attempt["status"] == row["status"]

    @invariant()
    def every_end_has_its_events_once(self) -> None:
        events = [row["event"] for row in self.read(outbox)]
        assert max(Counter((e["payment_id"], e["type"], e["attempt_number"]) for e in events).values(), default=1) <= 2
        final = {row["payment_id"] for row in self.read(payments) if Status(row["status"]).is_final}
        completed = Counter(e["payment_id"] for e in events if e["type"] == "payment.completed")
        assert final <= completed.keys()
        assert set(completed.values()) <= {1}
        checks = Counter((row["payment_id"], row["attempt_number"]) for row in self.read(verification_checks))
        assert {_key(row): row["checks_made"] for row in self.read(attempts) if row["checks_made"]} == dict(checks)


def _key(row: dict[str, Any]) -> tuple[str, int]:
    return row["payment_id"], row["attempt_number"]


def _by_payment(found: Rows) -> dict[str, Rows]:
    grouped: dict[str, Rows] = {}
    for row in found:
        grouped.setdefault(row["payment_id"], []).append(row)
    return grouped


Ledger.TestCase.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
TestLedger = Ledger.TestCase
