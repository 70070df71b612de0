"""PostgreSQL refuses each commit of a payment once, for another session's sake: it is tried again, no gateway is."""

import asyncio
from collections.abc import Callable

import pytest

from pgw.core.flow.payments.take import take
from pgw.core.ledger.payment_reads import attempts_of
from pgw.core.money.audit_rows import CAPTURED as TAKEN
from pgw.core.money.audit_rows import SettlementLine
from tests.doubles import CAPTURED, GATEWAY_DECLINE, Scene, request_of, scene_of
from tests.faults.proof import violations
from tests.ledgers import administrator, gated, opened

COMMITS = 3
"""Open, turn, close."""

REFUSED_EACH_ONCE = (
    "CREATE SEQUENCE tries",
    # A number that was drawn stays drawn, whatever becomes of its transaction: rows 1, 4 and 7 are the first of an
    # open, the second of a turn and the only one of a close.
    """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF nextval('tries') % 3 = 1 THEN RAISE {condition}; END IF; RETURN NEW; END $$""",
    "CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON attempts FOR EACH ROW EXECUTE FUNCTION refuse()",
)


@pytest.mark.parametrize("condition", ["deadlock_detected", "serialization_failure"])
@pytest.mark.parametrize("empty_database", ["postgres"], indirect=True)
def test_a_commit_that_is_refused_is_tried_again_and_no_gateway_is(
    own_database: str, condition: str, saw: Callable[..., None]
) -> None:
    with administrator(own_database) as session:
        for statement in REFUSED_EACH_ONCE:
            session.execute(statement.replace("{condition}", condition))

    async def scenario() -> tuple[Scene, str, str, int]:
        async with opened(own_database) as ledger:
            runner = gated(ledger)
            runner.gate.set()
            scene = scene_of(ledger, {"g1": [GATEWAY_DECLINE], "g2": [CAPTURED]})
            payment = (await take(scene.deps, request_of(), "key")).payment
            tried = await ledger.read(attempts_of, payment.payment_id)
            words = ", ".join(f"{each.gateway_id} {each.status}" for each in tried)
            return scene, f"{payment.status}; {words}", payment.payment_id, len(runner.batches)

    scene, words, payment_id, batches = asyncio.run(scenario())
    assert (scene.charges, words) == ([("g1", 1), ("g2", 2)], "SUCCESS; g1 FAILURE, g2 SUCCESS")
    assert batches == 2 * COMMITS
    line = SettlementLine(
        gateway_id="g2", payment_id=payment_id, attempt_number=2, amount_minor=1000, currency="INR", kind=TAKEN
    )
    found = violations(own_database, [line], ("g1", "g2"))
    assert found == ()
    words = (
        f"{COMMITS} commits, each refused once: {batches} tries; {words}; {len(scene.charges)} charging calls; "
        f"{len(found)} violations"
    )
    saw(30, words, case=condition.replace("_", " "))
