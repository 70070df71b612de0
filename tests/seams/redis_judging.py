"""What customers were answered, a ledger -> how payments were answered with and without a Redis, and how they ended."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from tests.ledgers import administrator
from tests.seams.fleet import Told

BUDGET_MS = 2_000
SLACK_S = 2.0
"""How much longer than its merchant's budget a payment may take to be answered."""

FROM_ONE_POINT = 0.01

HEALTHY, FAULTY = "m_healthy", "m_faulty"
"""Two merchants pay under the same keys: what the sandbox draws for a payment goes by its key."""

DEAD, FORCED, WELL = "hdfc", "axis", "icici"
ENDED = "SELECT merchant_id, status, count(*)::int FROM payments GROUP BY 1, 2"
CALLED = """
SELECT p.merchant_id, a.gateway_id, a.circuit_breaker_state, count(*)::int
FROM attempts a JOIN payments p USING (payment_id) WHERE a.status <> 'SKIPPED' GROUP BY 1, 2, 3
"""


def rates(database: str) -> dict[str, tuple[float, Counter[str]]]:
    """Return each merchant's share of payments that succeeded, and how all of them ended."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    with administrator(database) as session:
        for merchant_id, status, count in session.execute(ENDED).fetchall():
            found[merchant_id][status] += count
    return {name: (ends["SUCCESS"] / ends.total(), ends) for name, ends in found.items()}


def is_late(told: Told) -> bool:
    """Whether a payment took longer than it may."""
    return told.took_s > BUDGET_MS / 1000 + SLACK_S


def judge_answers(name: str, told: Sequence[Told]) -> None:
    """Every payment was taken, and answered within its budget and a little."""
    codes = Counter(each.code for each in told)
    took = sorted(each.took_s for each in told)
    print(
        f"{name}: {len(told)} payments, answers {dict(codes)}, p50 {1000 * took[len(took) // 2]:.0f} ms,"
        f" p99 {1000 * took[int(len(took) * 0.99)]:.0f} ms, longest {1000 * took[-1]:.0f} ms (budget {BUDGET_MS} ms)"
    )
    assert codes.keys() <= {201, 202}
    assert not any(map(is_late, told))


def judge_ends(database: str) -> None:
    """Both runs ended alike; the forced gateway was never called, the dead one only to probe it."""
    found = rates(database)
    with administrator(database) as session:
        called = session.execute(CALLED).fetchall()
    for name, (rate, ends) in ((each, found[each]) for each in (HEALTHY, FAULTY)):
        mine = {
            f"{gateway_id} {state}": count for merchant_id, gateway_id, state, count in called if merchant_id == name
        }
        print(f"{name}: {rate:.2%} succeeded, {dict(ends)}, calls {mine}")
        assert f"{DEAD} CLOSED" not in mine
    assert FORCED not in {gateway_id for _, gateway_id, _, _ in called}
    assert abs(found[HEALTHY][0] - found[FAULTY][0]) <= FROM_ONE_POINT
