"""`POST /payments/{id}/resolve` over HTTP: the admin's alone, checked, once; readiness tells the money at risk."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, select

from pgw.core.ids import uuid7
from pgw.core.ledger.payment_reads import decision_of
from pgw.core.ledger.tables import audit_log
from pgw.core.ledger.verifications import SETTLE
from pgw.core.payment.outcome import Blame, Captured
from pgw.core.verification.enquiry import GaveUp, ending_of
from pgw.core.writes.attempts import Ended, subject_of
from pgw.core.writes.verification import settling
from tests.server.serving import Inside, inside
from tests.server.wire import ADMIN, Answer, payment
from tests.services import fresh_database

NOBODY = "01980c5e-7f4a-7cc2-9a5c-6b3f7d2e1a90"
JANE = {**ADMIN, "X-Actor": "jane"}
OTHER_AMOUNT = Captured("ref-1", 999, "INR")


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """Run the app in this process, on either ledger."""
    home = tmp_path_factory.mktemp("home")
    if request.param == "sqlite":
        with inside(home) as found:
            found.api.set_gateways(is_enabled=True)
            yield found
        return
    with fresh_database(request.getfixturevalue("postgres_url")) as url, inside(home, {"DATABASE_URL": url}) as found:
        found.api.set_gateways(is_enabled=True)
        yield found


def unknown(running: Inside) -> str:
    """Leave a payment whose outcome nobody knows."""
    answer = running.api.pay(payment("timeout@sandbox"))
    assert answer.document["status"] == "PENDING_VERIFICATION"
    payment_id: str = answer.document["payment_id"]
    return payment_id


def in_review(running: Inside, found: Any = None) -> str:
    """Leave a payment to a person, as a verifier does that was told this."""
    payment_id = unknown(running)
    runtime = running.runtime
    now = runtime.clock.now()
    stored = running.within(running.runtime.ledger.read(decision_of, payment_id))
    assert stored is not None
    settlement = ending_of(found or GaveUp(Blame.GATEWAY, None), 1000, "INR")
    item = settling(
        subject_of(payment_id, stored[0]),
        Ended(1, "hdfc", settlement.end, now, None),
        settlement,
        1,
        56,
        {"check_number": 1, "checked_at": now, "result": "PENDING", "error_code": None},
        None,
        (uuid7(now, runtime.rng), uuid7(now, runtime.rng)),
    )
    assert running.within(running.runtime.ledger.commit(SETTLE, item)) is True
    return payment_id


def say(running: Inside, payment_id: str, outcome: str = "SUCCESS", **members: Any) -> Answer:
    """Say what became of a payment."""
    body = {"as": outcome, "reason": "INC-7", **members}
    return running.api.call("POST", f"/payments/{payment_id}/resolve", body, JANE)


def kept(running: Inside, payment_id: str) -> list[Any]:
    """List what the audit log has of a payment."""

    def look(connection: Connection) -> list[Any]:
        query = select(audit_log).where(audit_log.c.subject == f"payment:{payment_id}")
        return list(connection.execute(query).all())

    return running.within(running.runtime.ledger.read(look))


def test_a_payment_in_review_is_ended_and_everybody_sees_it(running: Inside) -> None:
    payment_id = in_review(running)
    answer = say(running, payment_id, "SUCCESS", evidence={"utr": "1234"})
    assert (answer.status, answer.document["status"], answer.document["failure_code"]) == (200, "SUCCESS", None)
    assert running.api.get(f"/payments/{payment_id}").document == answer.document
    (attempt,) = running.api.get(f"/payments/{payment_id}/attempts").document["attempts"]
    assert attempt["status"] == "SUCCESS"
    assert running.api.get(f"/payments/{payment_id}/status-verification").document["state"] == "done"
    (noted,) = kept(running, payment_id)
    assert (noted.actor, noted.reason, noted.details["evidence"]) == ("jane", "INC-7", {"utr": "1234"})


def test_said_again_it_is_so_already_and_the_contrary_is_a_conflict(running: Inside) -> None:
    payment_id = in_review(running, OTHER_AMOUNT)
    first, again = say(running, payment_id, "FAILURE"), say(running, payment_id, "FAILURE", reason="once more")
    assert (first.status, first.document) == (200, again.document)
    refused = say(running, payment_id, "SUCCESS")
    assert (refused.refusal, "FAILURE" in refused.document["detail"]) == ((409, "CONFLICT"), True)
    assert len(kept(running, payment_id)) == 1


def test_the_conflict_names_the_status_of_what_waits_for_nobody(running: Inside) -> None:
    refused = say(running, unknown(running), "FAILURE")
    assert (refused.refusal, "PENDING_VERIFICATION" in refused.document["detail"]) == ((409, "CONFLICT"), True)


@pytest.mark.parametrize("payment_id", [NOBODY, "none", NOBODY.upper()])
def test_what_is_not_there_is_not_found(running: Inside, payment_id: str) -> None:
    assert say(running, payment_id).refusal == (404, "NOT_FOUND")


def test_an_attempt_under_no_watch_is_not_found_and_an_open_payment_comes_first(running: Inside) -> None:
    payment_id = in_review(running)
    assert say(running, payment_id, "FAILURE", attempt_number=1).refusal == (409, "CONFLICT")
    assert say(running, payment_id).status == 200
    assert say(running, payment_id, "FAILURE", attempt_number=1).refusal == (404, "NOT_FOUND")


def test_only_the_admin_has_a_word(running: Inside) -> None:
    payment_id = in_review(running)
    path, body = f"/payments/{payment_id}/resolve", {"as": "SUCCESS", "reason": "INC-7"}
    assert running.api.call("POST", path, body).refusal == (401, "UNAUTHORIZED")
    wrong = running.api.call("POST", path, body, {"X-Internal-Api-Key": "wrong"})
    assert wrong.refusal == (403, "FORBIDDEN")
    assert running.api.get(f"/payments/{payment_id}").document["status"] == "MANUAL_REVIEW"


@pytest.mark.parametrize(
    ("members", "pointers"),
    [
        ({"as": "PENDING_VERIFICATION"}, ["/as"]),
        ({"as": None}, ["/as"]),
        ({"reason": ""}, ["/reason"]),
        ({"reason": " "}, ["/reason"]),
        ({"reason": "a\nb"}, ["/reason"]),
        ({"reason": None}, ["/reason"]),
        ({"evidence": ""}, ["/evidence"]),
        ({"evidence": "a\x00b"}, ["/evidence"]),
        ({"evidence": {}}, ["/evidence"]),
        ({"evidence": {"utr": 1234}}, ["/evidence"]),
        ({"evidence": {"utr": "\x07"}}, ["/evidence"]),
        ({"evidence": {str(number): "x" for number in range(16)}}, ["/evidence"]),
        ({"evidence": ["x"]}, ["/evidence"]),
        ({"attempt_number": 0, "as": "FAILURE"}, ["/attempt_number"]),
        ({"attempt_number": 1, "as": "SUCCESS"}, ["/as"]),
        ({"amount_minor": 1}, ["/amount_minor"]),
    ],
    ids=str,
)
def test_a_word_that_breaks_a_rule_is_not_taken(
    running: Inside, members: dict[str, object], pointers: list[str]
) -> None:
    body = {"as": "SUCCESS", "reason": "INC-7", **members}
    refused = running.api.call("POST", f"/payments/{NOBODY}/resolve", body, JANE)
    assert (refused.status, refused.pointers) == (400, pointers)


@pytest.mark.parametrize("member", [{"reason": "card 4111111111111111"}, {"evidence": {"cvv": "123"}}], ids=str)
def test_card_data_is_no_reason_and_no_evidence(running: Inside, member: dict[str, Any]) -> None:
    payment_id = in_review(running)
    assert say(running, payment_id, **member).refusal == (400, "CARD_DATA_NOT_ACCEPTED")
    assert kept(running, payment_id) == []


class TestReadiness:
    """Money at risk, as readiness tells it."""

    @staticmethod
    def looks(running: Inside) -> dict[str, tuple[str, str]]:
        """Return status and detail of the two checks."""
        ready = running.api.get("/ops/readiness")
        assert ready.status == 200
        checks = {each["name"]: (each["status"], each["detail"]) for each in ready.document["checks"]}
        return {name: checks[name] for name in ("unknown", "manual-review")}

    def test_without_unsettled_money_both_are_well(self, within: Inside) -> None:
        within.api.pay()
        assert self.looks(within) == {"unknown": ("ok", "none"), "manual-review": ("ok", "none")}

    def test_what_is_unknown_for_long_degrades(self, within: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
        for _ in range(2):
            unknown(within)
        status, told = self.looks(within)["unknown"]
        assert (status, told.startswith("2 payments, INR 20.00 at risk, oldest ")) == ("ok", True)
        clock = within.runtime.clock
        later = clock.now() + timedelta(minutes=31)
        monkeypatch.setattr(clock, "now", lambda: later)
        assert self.looks(within)["unknown"] == ("degraded", "2 payments, INR 20.00 at risk, oldest 31 min")

    def test_what_waits_for_a_person_degrades_until_he_has_spoken(self, within: Inside) -> None:
        payment_id = in_review(within, OTHER_AMOUNT)
        status, told = self.looks(within)["manual-review"]
        assert (status, told.startswith("1 payment, INR 10.00 at risk")) == ("degraded", True)
        assert within.api.get("/ops/readiness").document["status"] == "degraded"
        assert say(within, payment_id, "FAILURE").status == 200
        found = self.looks(within)
        assert found["manual-review"] == ("ok", "none")
        assert found["unknown"][1].startswith("1 reversal, INR 9.99 at risk")
