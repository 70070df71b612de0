"""`pgw payment resolve` and the money at risk: in production nothing without a yes; lists tell age and amount."""

import json
import shlex
from datetime import timedelta
from typing import Any

import pytest

from pgw.cli.exits import Exit
from pgw.core.payment.payment import Status
from tests.cli import documents
from tests.cli.conftest import Pgw
from tests.cli.documents import NOW, OTHER_ID, PAYMENT_ID, problem
from tests.cli.stub import Stub
from tests.cli.terminal import on_terminal

ORDER = ("payment", "resolve", "ord-17", "--as", "success", "--reason", "INC-7")
PATH = f"/payments/{PAYMENT_ID}/resolve"


@pytest.fixture
def waiting(stub: Stub) -> Stub:
    """Let the payment wait for a person."""
    document = {**documents.payment(status=Status.MANUAL_REVIEW), "failure_code": "GAVE_UP", "gateway_used": "icici"}
    stub.answer("GET /payments", {"items": [document], "next": None})
    stub.answer(f"GET /payments/{PAYMENT_ID}", document)
    return stub


@pytest.fixture
def production(waiting: Stub) -> Stub:
    """Let the answering server be a production one."""
    waiting.answer("GET /ops/readiness", {"status": "ready", "environment": "production", "checks": []})
    return waiting


def _written(stub: Stub) -> list[Any]:
    return [each.body for each in stub.asked if each.path == PATH]


def test_in_development_it_is_done_as_typed_and_says_what_became_of_it(pgw: Pgw, waiting: Stub) -> None:
    ended = pgw(*ORDER)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[0] == f"payment {PAYMENT_ID} was MANUAL_REVIEW and is SUCCESS"
    assert _written(waiting) == [{"as": "SUCCESS", "reason": "INC-7"}]
    assert pgw(*ORDER, "-q").out == f"{PAYMENT_ID}\n"


@pytest.mark.parametrize(
    ("typed", "sent"), [("UTR 1234", "UTR 1234"), ('{"utr": "1234"}', {"utr": "1234"})], ids=["text", "object"]
)
def test_evidence_is_a_text_or_an_object(pgw: Pgw, waiting: Stub, typed: str, sent: object) -> None:
    document = json.loads(pgw(*ORDER, "--evidence", typed, "-o", "json").out)
    assert (document["status"], document["version"]) == ("SUCCESS", 4)
    assert _written(waiting) == [{"as": "SUCCESS", "reason": "INC-7", "evidence": sent}]


def test_one_attempts_late_money_is_named_by_its_number(pgw: Pgw, stub: Stub) -> None:
    ended = pgw("payment", "resolve", PAYMENT_ID, "--as", "failure", "--attempt", "1", "--reason", "bank refunded")
    assert (ended.code, f"attempt 1 of payment {PAYMENT_ID}" in ended.out) == (0, True)
    assert _written(stub) == [{"as": "FAILURE", "reason": "bank refunded", "attempt_number": 1}]


@pytest.mark.parametrize(
    "options",
    [
        ["--as", "maybe", "--reason", "x"],
        ["--as", "success"],
        ["--reason", "x"],
        ["--as", "success", "--reason", "x", "--attempt", "1"],
        ["--as", "failure", "--reason", "x", "--attempt", "0"],
        ["--as", "failure", "--reason", "x", "--evidence", "{utr"],
    ],
    ids=shlex.join,
)
def test_what_is_no_word_is_not_sent(pgw: Pgw, waiting: Stub, options: list[str]) -> None:
    assert pgw("payment", "resolve", PAYMENT_ID, *options).code == Exit.USAGE
    assert _written(waiting) == []


def test_already_so_is_done(pgw: Pgw, stub: Stub) -> None:
    stub.answer(f"POST {PATH}", documents.payment())
    ended = pgw(*ORDER)
    assert (ended.code, "already so, nothing was changed" in ended.out) == (0, True)


def test_a_payment_that_waits_for_nobody_is_a_conflict(pgw: Pgw, stub: Stub) -> None:
    stub.answer(f"POST {PATH}", problem(409, "CONFLICT", "the payment is FAILURE: it is settled"), status=409)
    ended = pgw(*ORDER)
    assert (ended.code, ended.err) == (Exit.CONFLICT, "error: the payment is FAILURE: it is settled\n")


def test_production_without_a_terminal_is_told_the_command_that_passes(pgw: Pgw, production: Stub) -> None:
    ended = pgw(*ORDER, "--evidence", "UTR 1234")
    wanted = "pgw payment resolve ord-17 --as success --evidence 'UTR 1234' --reason INC-7 --yes"
    assert (ended.code, ended.out) == (Exit.REFUSED, "")
    stake, refusal = ended.err.splitlines()
    assert stake == (f"  production │ payment {PAYMENT_ID}: INR 10.00 of m_001 at icici, MANUAL_REVIEW (GAVE_UP)")
    assert refusal.endswith(f"nothing was changed: run {wanted}")
    assert _written(production) == []
    assert pgw(*shlex.split(wanted)[1:]).code == 0
    assert _written(production) == [{"as": "SUCCESS", "reason": "INC-7", "evidence": "UTR 1234"}]


@pytest.mark.parametrize(("answer", "expected"), [("y", Exit.DONE), ("n", Exit.REFUSED), ("", Exit.REFUSED)])
def test_on_a_terminal_production_shows_what_is_at_stake_and_asks(
    production: Stub, answer: str, expected: Exit
) -> None:
    with on_terminal(*ORDER) as terminal:
        terminal.see("INR 10.00 of m_001")
        terminal.see("Book it as SUCCESS, for good? [y/N]")
        terminal.type(answer)
        assert terminal.end() == expected
    assert len(_written(production)) == (expected is Exit.DONE)


@pytest.fixture
def at_ten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a quarter of an hour have passed since the payments came."""
    monkeypatch.setattr("pgw.cli.commands.payment.now", lambda: NOW + timedelta(minutes=14))


@pytest.mark.usefixtures("at_ten")
class TestAtRisk:
    """Lists of payments that nobody knows the end of."""

    @pytest.mark.parametrize("status", [Status.PENDING_VERIFICATION, Status.MANUAL_REVIEW])
    def test_age_and_amount_are_told(self, pgw: Pgw, stub: Stub, status: Status) -> None:
        second = {**documents.payment(OTHER_ID, status), "amount_minor": 11_000}
        dollars = {**documents.payment(OTHER_ID, status), "currency": "USD"}
        stub.answer("GET /payments", {"items": [documents.payment(status=status), second, dollars], "next": None})
        head, first, *_, told = pgw("payment", "list", "--status", status.lower()).out.splitlines()
        assert head.split()[:5] == ["PAYMENT", "ID", "STATUS", "AMOUNT", "AGE"]
        assert first.split()[:4] == [PAYMENT_ID, status.value, "10.00", "14m"]
        assert told == "3 payments, INR 120.00 + USD 10.00 at risk, oldest 14 min"

    def test_of_a_page_it_says_that_there_may_be_more(self, pgw: Pgw, stub: Stub) -> None:
        page = {"items": [documents.payment(status=Status.MANUAL_REVIEW)], "next": PAYMENT_ID}
        stub.answer("GET /payments", page)
        *_, told = pgw("payment", "list", "--status", "MANUAL_REVIEW").out.splitlines()
        assert told == "of those listed: 1 payment, INR 10.00 at risk, oldest 14 min"

    def test_of_settled_payments_nothing_is_at_risk(self, pgw: Pgw, stub: Stub) -> None:
        out = pgw("payment", "list", "--status", "SUCCESS").out
        assert (" AGE" in out, "at risk" in out, len(stub.asked)) == (False, False, 1)
