"""Two writers on one ledger never wait for each other for ever, whatever each of them holds."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest
from psycopg import sql

from pgw.core.ledger.late_captures import CLAIM_MONITOR, MOVE_MONITOR
from pgw.core.ledger.payments import CLOSE, OPEN
from pgw.core.ledger.tables import attempts, payments, watches
from pgw.core.ledger.verifications import CLAIM
from pgw.core.verification.late_capture import MonitorState
from pgw.core.writes.attempts import Item
from tests.doubles import CUSTOMER_DECLINE
from tests.ledgers import (
    Fates,
    Write,
    administrator,
    all_of,
    at_once,
    claims,
    closes,
    gated,
    id_of,
    opened,
    opens,
    rows,
)


def test_two_writers_with_the_same_keys_in_opposite_order_both_finish(database: str) -> None:
    """Each batch is sorted by key before it is written, so that one of two writers waits for the other."""
    count, rounds = 100, 5

    async def scenario() -> None:
        async with opened(database) as one, opened(database) as other:
            for turn in range(rounds):
                keys = range(turn * count, (turn + 1) * count)
                writes = [(OPEN, opens(n, key=f"key-{n}")) for n in keys]
                rivals = [(OPEN, opens(n + 10_000, key=f"key-{n}")) for n in reversed(keys)]
                mine, theirs = await asyncio.gather(all_of(one, writes), all_of(other, rivals))
                assert [{m, t} for m, t in zip(mine, reversed(theirs), strict=True)] == [{True, False}] * count
            assert len(await rows(one, payments)) == len(await rows(one, attempts)) == count * rounds

    asyncio.run(scenario())


HALF = 50
LOW, HIGH = range(1, HALF + 1), range(HALF + 1, 2 * HALF + 1)


def _dawdle(database: str, table: str) -> None:
    """Let each change of a table's row take a while, and deadlocks be found at once."""
    with administrator(database) as session:
        name = sql.Identifier(session.info.dbname)
        session.execute(sql.SQL("ALTER DATABASE {} SET deadlock_timeout = '50ms'").format(name))
        session.execute(
            "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_sleep(0.001); RETURN NEW; END $$"
        )
        trigger = sql.SQL("CREATE TRIGGER dawdle BEFORE UPDATE ON {} FOR EACH ROW EXECUTE FUNCTION dawdle()")
        session.execute(trigger.format(sql.Identifier(table)))


async def _rivals(database: str, writes: Sequence[Sequence[Write]]) -> tuple[list[Fates], int]:
    """Let two writers write one batch each at once; return the fates, and how often a batch was run."""
    async with opened(database) as one, opened(database) as other:
        runners = gated(one), gated(other)
        fates = await asyncio.gather(
            at_once(one, runners[0], writes[0], busy_with=1000), at_once(other, runners[1], writes[1], 1001)
        )
    return list(fates), sum(len(each.batches) for each in runners)


@pytest.mark.parametrize("empty_database", ["postgres"], indirect=True)
def test_two_writers_that_do_deadlock_both_finish(own_database: str) -> None:
    """Phases of one batch run one after another, so two writers can each hold what the other needs next."""
    due_at = closes(1, CUSTOMER_DECLINE)["watch_next_check_at"]

    def claim(n: int) -> Item:
        named = {"payment_id": id_of(n), "attempt_number": 1, "gateway_id": "g1"}
        return {**named, "due_at": due_at, "claimed_until": due_at + timedelta(minutes=1)}

    def move(n: int) -> Item:
        step = {"was": MonitorState.WATCHING, "state": MonitorState.WATCHING, "check_number": 1, "evidence": None}
        later = {"claimed_until": due_at, "next_check_at": due_at + timedelta(hours=1), "at": due_at}
        return {**claim(n), **step, **later}

    async def scenario() -> None:
        async with opened(own_database) as ledger:
            await all_of(ledger, [(OPEN, opens(n)) for n in (*LOW, *HIGH)])
            await all_of(ledger, [(CLOSE, closes(n, CUSTOMER_DECLINE)) for n in (*LOW, *HIGH)])
            _dawdle(own_database, watches.name)
            writes = [
                [(CLAIM_MONITOR, claim(n)) for n in mine] + [(MOVE_MONITOR, move(n)) for n in theirs]
                for mine, theirs in ((LOW, HIGH), (HIGH, LOW))
            ]
            fates, runs = await _rivals(own_database, writes)
            assert runs > 4, "they did not deadlock"
            (low_claims, high_moves), (high_claims, low_moves) = ((each[:HALF], each[HALF:]) for each in fates)
            pairs = zip(low_claims + high_claims, low_moves + high_moves, strict=True)
            assert [set(pair) for pair in pairs] == [{True, False}] * 2 * HALF
            assert {row["next_check_at"] > due_at for row in await rows(ledger, watches)} == {True}

    asyncio.run(scenario())


@pytest.mark.parametrize("empty_database", ["postgres"], indirect=True)
def test_two_writers_of_the_same_payments_do_not_deadlock(own_database: str) -> None:
    """Whatever phases they write, each locks the payments of its whole batch first, in one order."""
    due_at = opens(1)["next_check_at"]

    async def scenario() -> None:
        async with opened(own_database) as ledger:
            await all_of(ledger, [(OPEN, opens(n)) for n in (*LOW, *HIGH)])
            _dawdle(own_database, attempts.name)
            writes = [
                [(CLAIM, claims(n, due_at)) for n in mine] + [(CLOSE, closes(n)) for n in theirs]
                for mine, theirs in ((LOW, HIGH), (HIGH, LOW))
            ]
            fates, runs = await _rivals(own_database, writes)
            assert runs == 4, "they deadlocked"
            assert [each[HALF:] for each in fates] == [[True] * HALF] * 2
            assert {fate for each in fates for fate in each[:HALF]} <= {True, False}
            statuses = [row["status"] for row in await rows(ledger, payments)]
            assert statuses == ["SUCCESS"] * 2 * HALF + ["PROCESSING"] * 2

    asyncio.run(scenario())
