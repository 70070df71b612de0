"""What each command asks the server, and what it tells."""

import json
import re
from typing import Any

import pytest

from pgw.cli.exits import Exit
from pgw.core.payment.payment import Status
from tests.cli import documents
from tests.cli.conftest import Pgw
from tests.cli.documents import OTHER_ID, PAYMENT_ID, problem
from tests.cli.stub import Stub

PATH = f"/payments/{PAYMENT_ID}"


class TestGateway:
    def test_list_says_why_one_takes_nothing(self, pgw: Pgw, stub: Stub) -> None:
        lines = pgw("gateway", "list").out.splitlines()
        assert re.search(r"^hdfc .* yes .* 20 .* UPI,CARD,NETBANKING .* default .* 180 bps \+ 300 minor$", lines[1])
        assert re.search(r"^razorpay .* no: RAZORPAY_KEY_ID is not set .* 1500 ", lines[4])
        assert json.loads(pgw("gateway", "list", "-o", "json").out) == documents.gateway_list()
        assert stub.lines == ["GET /gateways"] * 2

    @pytest.mark.parametrize("command", ["show", "enable", "disable"])
    @pytest.mark.parametrize(
        ("name", "hint"),
        [("razorpy", "did you mean 'razorpay'?"), ("HDFC", "did you mean 'hdfc'?"), ("q", "there are axis, hdfc, ")],
    )
    def test_an_unknown_name_is_met_with_the_nearest(
        self, pgw: Pgw, stub: Stub, command: str, name: str, hint: str
    ) -> None:
        ended = pgw("gateway", command, name)
        assert (ended.code, ended.out) == (3, "")
        assert ended.err.startswith(f"error: gateway '{name}' does not exist ({hint}")
        assert stub.lines == ["GET /gateways"]

    def test_disable_patches_and_says_what_is_now_so(self, pgw: Pgw, stub: Stub) -> None:
        ended = pgw("gateway", "disable", "hdfc")
        assert ended.code == 0
        assert ended.out.splitlines()[-1].split() == ["is_enabled", "yes", "no"]
        assert stub.asked[-1].body == {"is_enabled": False}

    def test_already_so_is_done_and_writes_nothing(self, pgw: Pgw, stub: Stub) -> None:
        ended = pgw("gateway", "enable", "hdfc")
        assert (ended.code, ended.out) == (0, "gateway hdfc: already so, nothing was changed\n")
        assert stub.lines == ["GET /gateways"]

    def test_enabled_yet_unusable_is_told(self, pgw: Pgw, stub: Stub) -> None:
        ended = pgw("gateway", "enable", "razorpay")
        assert ended.code == 0
        assert ended.err == "note: razorpay takes no payments yet: RAZORPAY_KEY_ID is not set\n"
        assert stub.asked

    def test_set_sends_the_given_members_only(self, pgw: Pgw, stub: Stub) -> None:
        stub.answer("PATCH /gateways/hdfc", {**documents.gateway_list()["items"][0], "supported_methods": ["UPI"]})
        ended = pgw("gateway", "set", "hdfc", "--methods", "upi", "--priority", "20", "--timeout-ms=900")
        assert ended.out.splitlines()[-1].split() == ["supported_methods", "UPI,CARD,NETBANKING", "UPI"]
        assert stub.asked[-1].body == {"supported_methods": ["UPI"], "priority": 20, "timeout_ms": 900}


class TestPolicy:
    def test_set_puts_the_whole_with_the_given_changed(self, pgw: Pgw, stub: Stub) -> None:
        ended = pgw("policy", "set", "m_001", "--max-attempts", "2", "--no-retry-on-timeout")
        whole = {name: value for name, value in documents.policy().items() if not name.endswith("_effective")}
        assert stub.asked[-1].body == {**whole, "max_attempts": 2}
        assert ended.out.splitlines()[-1].split() == ["max_attempts", "3", "2"]

    def test_already_so_is_done_and_writes_nothing(self, pgw: Pgw, stub: Stub) -> None:
        ended = pgw("policy", "set", "m_001", "--enabled")
        assert (ended.code, stub.lines) == (0, ["GET /retry-policy/m_001"])

    def test_a_merchant_is_one_member_of_the_path(self, pgw: Pgw, stub: Stub) -> None:
        pgw("policy", "get", "../gateways")
        assert stub.lines == ["GET /retry-policy/..%2Fgateways"]


class TestPaymentList:
    def test_asks_for_what_was_asked(self, pgw: Pgw, stub: Stub) -> None:
        pgw("payment", "list", "--merchant", "m_001", "--status", "success", "--ref", "ord 17", "--limit", "5")
        assert stub.asked[0].query == {"merchant_id": "m_001", "status": "SUCCESS", "ref": "ord 17", "limit": "5"}

    def test_since_may_be_a_span(self, pgw: Pgw, stub: Stub) -> None:
        pgw("payment", "list", "--since", "2h")
        pgw("payment", "list", "--since", "2026-01-31T10:00:00Z")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", stub.asked[0].query["since"])
        assert stub.asked[1].query["since"] == "2026-01-31T10:00:00Z"

    def test_more_is_said_to_be_there(self, pgw: Pgw, stub: Stub) -> None:
        stub.answer("GET /payments", {"items": [documents.payment()], "next": PAYMENT_ID})
        ended = pgw("payment", "list", "-o", "json")
        assert (ended.code, json.loads(ended.out)["next"]) == (0, PAYMENT_ID)
        assert "--all" in ended.err

    def test_all_follows_the_pages(self, pgw: Pgw, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
        pages: list[dict[str, Any]] = [
            {"items": [documents.payment()], "next": PAYMENT_ID},
            {"items": [documents.payment(OTHER_ID)], "next": None},
        ]
        monkeypatch.setattr(stub, "answers", _Paged(stub.answers, pages))
        ended = pgw("payment", "list", "--all", "-q")
        assert ended.out.split() == [PAYMENT_ID, OTHER_ID]
        assert [each.query.get("cursor") for each in stub.asked] == [None, PAYMENT_ID]
        assert stub.asked[0].query["limit"] == "200"

    def test_all_that_is_too_much_is_partial_and_says_so(
        self, pgw: Pgw, stub: Stub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pgw.cli.commands.payment.MAX_LISTED", 3)
        stub.answer("GET /payments", {"items": [documents.payment()], "next": PAYMENT_ID})
        ended = pgw("payment", "list", "--all", "-q")
        assert (ended.code, len(ended.out.split())) == (Exit.PARTIAL, 3)
        assert "more than these 3" in ended.err


class _Paged(dict[str, tuple[int, Any]]):
    """Answers of a stub, of which the list of payments is turned a page each time."""

    def __init__(self, answers: dict[str, tuple[int, Any]], pages: list[dict[str, Any]]) -> None:
        super().__init__(answers)
        self._pages = iter(pages)

    def get(self, key: str, default: Any = None) -> Any:
        return (200, next(self._pages)) if key == "GET /payments" else super().get(key, default)


class TestPaymentShow:
    def test_tells_the_story_in_order(self, pgw: Pgw, stub: Stub) -> None:
        out = pgw("payment", "show", PAYMENT_ID).out
        events = ["received", "decided", "attempt 1", "attempt 2", "ended"]
        assert [out.index(event) for event in events] == sorted(out.index(event) for event in events)
        assert "GATEWAY_TECHNICAL_ERROR, blame gateway" in out
        assert "INR 10.00" in out
        assert len(stub.asked) == 4

    def test_an_open_payment_shows_its_checks_and_the_next(self, pgw: Pgw, stub: Stub) -> None:
        stub.answer(f"GET {PATH}", documents.payment(status=Status.PENDING_VERIFICATION))
        stub.answer(f"GET {PATH}/status-verification", documents.verification())
        out = pgw("payment", "show", PAYMENT_ID).out
        assert "check 1" in out
        assert "next check at 2026-01-31T10:00:07Z, the last at 2026-02-05T10:00:00Z" in out

    def test_json_holds_the_four_documents(self, pgw: Pgw, stub: Stub) -> None:
        document = json.loads(pgw("payment", "show", PAYMENT_ID, "-o", "json").out)
        assert list(document) == ["payment", "routing_decision", "attempts", "status_verification"]
        assert document["payment"] == documents.payment()
        assert document["status_verification"] is None
        assert stub.asked

    def test_another_refusal_of_the_verification_is_not_swallowed(self, pgw: Pgw, stub: Stub) -> None:
        stub.answer(f"GET {PATH}/status-verification", problem(503, "LEDGER_UNAVAILABLE", "later"), status=503)
        assert pgw("payment", "show", PAYMENT_ID).code == Exit.ABSENT

    @pytest.mark.parametrize("name", [PAYMENT_ID, PAYMENT_ID.upper(), "ord-17"])
    def test_a_payment_is_found_by_id_or_by_a_reference_that_names_one(self, pgw: Pgw, stub: Stub, name: str) -> None:
        assert pgw("payment", "show", name, "-q").out == f"{PAYMENT_ID}\n"
        assert stub.asked[0].query == ({"ref": "ord-17"} if name == "ord-17" else {})

    @pytest.mark.parametrize("command", ["show", "why"])
    @pytest.mark.parametrize("name", [OTHER_ID, "nobody"])
    def test_an_unknown_payment_is_not_found(self, pgw: Pgw, stub: Stub, command: str, name: str) -> None:
        stub.answer("GET /payments", {"items": [], "next": None})
        ended = pgw("payment", command, name)
        assert (ended.code, ended.out) == (3, "")
        assert ended.err.startswith(f"error: payment '{name}' does not exist (")

    def test_an_ambiguous_reference_lists_what_it_names(self, pgw: Pgw, stub: Stub) -> None:
        items = [documents.payment(), *(documents.payment(OTHER_ID) for _ in range(5))]
        stub.answer("GET /payments", {"items": items, "next": None})
        ended = pgw("payment", "why", "cust_001")
        assert ended.code == 3
        assert "names 6 payments" in ended.err
        assert PAYMENT_ID in ended.err
        assert "pgw payment list --ref cust_001" in ended.err


class TestPaymentWhy:
    def test_explains_the_choice_and_its_inputs(self, pgw: Pgw, stub: Stub) -> None:
        ended = pgw("payment", "why", PAYMENT_ID)
        assert ended.code == 0
        assert "chosen      hdfc with 0.6060, by scoring" in ended.out
        assert "ahead of icici by 0.0600: bank affinity +0.0600" in ended.out
        assert "used in the end: icici, by fallback" in ended.out
        assert re.search(r"1 +hdfc +0.6060 +0.1750 +0.1000 +0.1050 +0.1200 +0.0560 +0.0500 +0.5000 +1500 +0", ended.out)
        assert "excluded    razorpay: " in ended.out
        assert "at most 3 attempts within 10000 ms" in ended.out
        assert "configuration 7, seed " in ended.out
        assert "not degraded" in ended.out
        assert ended.out.splitlines()[-1] == "recomputed: identical"
        assert stub.asked[-1].query == {"recompute": "true"}

    def test_names_the_breakers_that_were_not_simply_closed(self, pgw: Pgw, stub: Stub) -> None:
        known = {"icici": {"state": "CLOSED", "admission": 0.37}, "axis": {"state": "HALF_OPEN", "admission": 1.0}}
        stub.answer(f"GET {PATH}/routing-decision", documents.decision(standings=known))
        told = pgw("payment", "why", PAYMENT_ID).out.splitlines()
        at = told.index("breaker     axis: HALF_OPEN")
        assert told[at + 1] == "breaker     icici: CLOSED, coming back with 37% of its payments"

    @pytest.mark.parametrize(
        ("recomputed", "told"),
        [
            ({"identical": False, "differences": ["/ranked/0/score", "/seed"]}, "DIFFERENT at /ranked/0/score, /seed"),
            (None, "not done"),
        ],
    )
    @pytest.mark.parametrize("output", ["table", "json"])
    def test_what_does_not_recompute_is_a_no(
        self, pgw: Pgw, stub: Stub, recomputed: object, told: str, output: str
    ) -> None:
        stub.answer(f"GET {PATH}/routing-decision", documents.decision(recomputed=recomputed))
        ended = pgw("payment", "why", PAYMENT_ID, "-o", output)
        assert ended.code == Exit.GATE
        assert (told in ended.out) == (output == "table")

    def test_quiet_is_the_chosen_gateway(self, pgw: Pgw, stub: Stub) -> None:
        assert pgw("payment", "why", PAYMENT_ID, "-q").out == "hdfc\n"
        assert stub.asked


class TestScore:
    def test_shows_the_ranking_and_what_is_left_out(self, pgw: Pgw, stub: Stub) -> None:
        ended = pgw("score", "--amount", "1000", "--method", "upi", "--bank", "hdfc")
        assert stub.asked[0].query == {"amount_minor": "1000", "payment_method": "UPI", "issuing_bank": "HDFC"}
        assert ended.out.splitlines()[0] == "hdfc is ahead of icici by 0.0600: bank affinity +0.0600"
        assert "excluded    axis: " in ended.out

    def test_without_a_candidate_says_so(self, pgw: Pgw, stub: Stub) -> None:
        stub.answer("GET /scoring/debug", {**documents.scores(), "ranked": []})
        assert pgw("score", "--amount", "1", "--method", "UPI").out.startswith("no gateway can take this payment\n")
