"""Two writers on one ledger never wait for each other for ever, whatever each of them holds."""

import asyncio

import pytest
from psycopg import sql

from pgw.core.ledger.payments import CLOSE, OPEN
from pgw.core.ledger.tables import attempts, payments
from pgw.core.ledger.verifications import CLAIM
from tests.ledgers import (
    administrator,
    all_of,
    at_once,
    claims,
    closes,
    gated,
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


@pytest.mark.parametrize("empty_database", ["postgres"], indirect=True)
def test_two_writers_that_do_deadlock_both_finish(own_database: str) -> None:
    """Phases of one batch run one after another, so two writers can each hold what the other needs next."""
    half = 50
    with administrator(own_database) as session:
        name = sql.Identifier(session.info.dbname)
        session.execute(sql.SQL("ALTER DATABASE {} SET deadlock_timeout = '50ms'").format(name))
        session.execute(
            "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_sleep(0.001); RETURN NEW; END $$"
        )
        session.execute("CREATE TRIGGER dawdle BEFORE UPDATE ON attempts FOR EACH ROW EXECUTE FUNCTION dawdle()")

    async def scenario() -> None:
        async with opened(own_database) as one, opened(own_database) as other:
            await all_of(one, [(OPEN, opens(n)) for n in range(1, 2 * half + 1)])
            due_at = opens(1)["next_check_at"]
            low, high = range(1, half + 1), range(half + 1, 2 * half + 1)
            writes = [
                [(CLAIM, claims(n, due_at)) for n in mine] + [(CLOSE, closes(n)) for n in theirs]
                for mine, theirs in ((low, high), (high, low))
            ]
            runners = gated(one), gated(other)
            fates = await asyncio.gather(
                at_once(one, runners[0], writes[0], busy_with=1000), at_once(other, runners[1], writes[1], 1001)
            )
            assert sum(len(each.batches) for each in runners) > 4, "they did not deadlock"
            assert [each[half:] for each in fates] == [[True] * half] * 2
            assert {fate for each in fates for fate in each[:half]} <= {True, False}
            statuses = [row["status"] for row in await rows(one, payments)]
            assert statuses == ["SUCCESS"] * 2 * half + ["PROCESSING"] * 2

    asyncio.run(scenario())
