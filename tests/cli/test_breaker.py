"""`pgw breaker`: shown before it holds, asked for in production, and every name checked before anything is written."""

import json
import shlex
from typing import Any

import pytest

from pgw.cli.exits import Exit
from pgw.core.breakers.breaker import State
from pgw.core.routing.traffic_shift import Action
from pgw.server.routes.operator_commands import CommandReach
from tests.cli.breaker_documents import foretold, ordered
from tests.cli.conftest import Pgw
from tests.cli.documents import problem
from tests.cli.stub import Stub
from tests.cli.terminal import on_terminal

PATH = "POST /circuit-breaker/force-open/razorpay/UPI"
DRY = f"{PATH}?dry_run=true"


@pytest.fixture
def production(stub: Stub) -> Stub:
    """Let the answering server be a production one; what this machine's own PGW_ENV says is nobody's business."""
    for action in Action:
        path = f"POST /circuit-breaker/{action}/razorpay/UPI?dry_run=true"
        stub.answer(path, foretold(action, environment="production"))
    return stub


class TestForce:
    """As typed, in development."""

    @pytest.mark.usefixtures("at_ten")
    def test_shows_what_it_moves_then_does_it_and_says_how_to_undo_it(self, pgw: Pgw, stub: Stub) -> None:
        ended = pgw("breaker", "force-open", "razorpay", "UPI")
        assert ended.code == 0
        assert ended.err.splitlines() == [
            "  development │ moves 58.3 % of UPI (82/s) → hdfc +51.0 %, icici +7.3 %",
            "              │ expected success rate 87.1 % → 94.4 % (95 % interval 93.6 % to 95.1 %)",
            "              │ 2 well gateways remain for UPI: hdfc, icici",
            "              │ in flight: 11 finish where they are; 3 pending stay in verification",
            "              │ expires 10:30 UTC (in 30m), then half-open",
        ]
        titles, row, seen, undo = ended.out.splitlines()
        assert titles.split() == ["GATEWAY", "METHOD", "STATE", "UNTIL", "BY", "REASON"]
        assert row.split() == ["razorpay", "UPI", "✕", "FORCED", "OPEN", "2026-01-31T10:30:00Z", "asha", "INC-4412"]
        assert seen == "seen by 4/4 processes in 0.3 s"
        assert undo == "undo: pgw breaker clear razorpay UPI"
        assert [(f"{each.method} {each.path}", each.query, each.body) for each in stub.asked] == [
            (PATH, {"dry_run": "true"}, {}),
            (PATH, {}, {}),
        ]

    def test_what_it_moves_keeps_its_margin_on_a_narrow_terminal(self, stub: Stub) -> None:
        with on_terminal("breaker", "force-open", "razorpay", "UPI", columns=60) as terminal:
            assert terminal.end() == 0
        told = [line for line in terminal.shown.splitlines() if "│" in line]
        assert len(told) > 5
        assert {line.index("│") for line in told} == {14}
        assert len(stub.asked) == 2
        assert max(map(len, told)) <= 60

    def test_sends_reason_and_ttl_and_the_method_in_capitals(self, pgw: Pgw, stub: Stub) -> None:
        ended = pgw("breaker", "force-open", "razorpay", "upi", "--reason", "INC-4412", "--ttl", "30m")
        assert ended.code == 0
        assert [each.body for each in stub.asked] == [{"reason": "INC-4412", "ttl_seconds": 1800}] * 2

    @pytest.mark.parametrize(("ttl", "seconds"), [("60s", 60), ("1m", 60), ("24h", 86_400), ("1440m", 86_400)])
    def test_a_ttl_has_one_of_three_units(self, pgw: Pgw, stub: Stub, ttl: str, seconds: int) -> None:
        pgw("breaker", "force-open", "razorpay", "UPI", "--ttl", ttl)
        assert stub.asked[-1].body == {"ttl_seconds": seconds}

    @pytest.mark.parametrize(("alias", "action"), [("open", "force-open"), ("close", "force-close")])
    def test_an_alias_is_the_same_order(self, pgw: Pgw, stub: Stub, alias: str, action: str) -> None:
        assert pgw("breaker", alias, "razorpay", "UPI") == pgw("breaker", action, "razorpay", "UPI")
        assert stub.lines == [f"POST /circuit-breaker/{action}/razorpay/UPI"] * 4

    def test_the_data_is_the_server_s_document(self, pgw: Pgw, stub: Stub) -> None:
        ended = pgw("breaker", "force-open", "razorpay", "UPI", "-o", "json")
        assert json.loads(ended.out) == ordered()
        assert "moves 58.3 % of UPI" in ended.err
        assert stub.asked

    @pytest.mark.parametrize("output", ["table", "json"])
    def test_a_dry_run_shows_the_same_and_writes_nothing(self, pgw: Pgw, stub: Stub, output: str) -> None:
        dry = pgw("breaker", "force-open", "razorpay", "UPI", "--dry-run", "-o", output)
        assert stub.asked[-1].query == {"dry_run": "true"}
        assert len(stub.asked) == 1
        assert dry.code == 0
        if output == "json":
            assert json.loads(dry.out) == foretold()["preview"]
        assert dry.err == pgw("breaker", "force-open", "razorpay", "UPI").err

    @pytest.mark.parametrize(
        ("more", "told"),
        [
            ({"share": None}, "no UPI payment was seen in the last 5 min: what will move is not known"),
            ({"share": 0.0, "moves_to": ()}, "moves none of the UPI payments of the last 5 min"),
            ({"moves_to": ()}, "→ nowhere: they will be refused"),
            ({"payments_per_s": 0.033}, "of UPI (0.033/s) →"),
            ({"payments_per_s": 1234.5}, "of UPI (1234/s) →"),
            ({"payments_per_s": None}, "of UPI →"),
            ({"remaining": ()}, "no gateway remains well for UPI"),
            ({"remaining": ("icici",)}, "1 well gateway remains for UPI: icici"),
            ({"pending_verification": 0, "in_flight": 0}, "in flight: 0 finish where they are\n"),
            ({"expires_at": None, "then": None}, "verification\n"),
            ({"warnings": ("first", "second")}, "! first\n! second\n"),
        ],
        ids=str,
    )
    def test_a_preview_tells_what_is_known_and_what_is_not(
        self, pgw: Pgw, stub: Stub, more: dict[str, Any], told: str
    ) -> None:
        stub.answer(DRY, foretold(**more))
        ended = pgw("breaker", "force-open", "razorpay", "UPI")
        assert (ended.code, told in ended.err) == (0, True)

    @pytest.mark.parametrize(
        ("seen", "told"),
        [
            (CommandReach(3, 4, 1000), "seen by 3/4 processes in 1.0 s; the others follow"),
            (CommandReach(0, 0, 0), "no server is known here: each takes it from the ledger"),
        ],
        ids=str,
    )
    def test_who_has_not_heard_of_it_is_said(self, pgw: Pgw, stub: Stub, seen: CommandReach, told: str) -> None:
        stub.answer(PATH, ordered(seen_by=seen))
        ended = pgw("breaker", "force-open", "razorpay", "UPI")
        assert (ended.code, told in ended.out) == (0, True)

    def test_a_cleared_breaker_is_probed_and_has_no_undo(self, pgw: Pgw, stub: Stub) -> None:
        ended = pgw("breaker", "clear", "razorpay", "UPI")
        assert (ended.code, "◐ half-open" in ended.out, "undo" in ended.out) == (0, True, False)
        assert stub.asked[-1].body == {}

    def test_clearing_what_nobody_forces_is_already_so(self, pgw: Pgw, stub: Stub) -> None:
        so = ordered(Action.CLEAR, state=State.CLOSED, reason=None, actor=None)
        stub.answer("POST /circuit-breaker/clear/razorpay/UPI", so)
        ended = pgw("breaker", "clear", "razorpay", "UPI")
        assert ended.code == 0
        assert ended.out.startswith("razorpay/UPI: already so, it is not forced\n")


class TestNames:
    """A name that is none is met with the nearest; nothing is written."""

    @pytest.mark.parametrize("action", ["force-open", "force-close", "clear", "open", "close"])
    def test_an_unknown_gateway(self, pgw: Pgw, stub: Stub, action: str) -> None:
        ended = pgw("breaker", action, "razorpy", "UPI")
        assert (ended.code, ended.out) == (Exit.NOT_FOUND, "")
        assert ended.err == "error: gateway 'razorpy' does not exist (did you mean 'razorpay'?)\n"
        assert all(each.query == {"dry_run": "true"} for each in stub.asked if each.method == "POST")

    @pytest.mark.parametrize("action", ["force-open", "force-close", "clear"])
    def test_a_method_the_gateway_does_not_take(self, pgw: Pgw, stub: Stub, action: str) -> None:
        refusal = problem(422, "METHOD_NOT_SUPPORTED", "no such method")
        stub.answer(f"POST /circuit-breaker/{action}/razorpay/CRAD", refusal, status=422)
        ended = pgw("breaker", action, "razorpay", "crad")
        assert (ended.code, ended.out) == (Exit.USAGE, "")
        assert ended.err == (
            "error: razorpay does not take CRAD (it takes UPI, CARD, NETBANKING, did you mean CARD?)\n"
        )
        assert all(each.query == {"dry_run": "true"} for each in stub.asked if each.method == "POST")

    def test_a_refusal_of_another_kind_keeps_its_own_words(self, pgw: Pgw, stub: Stub) -> None:
        stub.answer(DRY, problem(404, "NOT_FOUND", "there is nothing at this path"), status=404)
        ended = pgw("breaker", "force-open", "razorpay", "UPI")
        assert (ended.code, ended.err) == (Exit.NOT_FOUND, "error: there is nothing at this path\n")

    def test_a_name_is_one_member_of_the_path(self, pgw: Pgw, stub: Stub) -> None:
        pgw("breaker", "force-open", "a/b", "c/d")
        assert stub.asked[0].path == "/circuit-breaker/force-open/a%2Fb/C%2FD"

    @pytest.mark.parametrize("command", ["status", "history"])
    def test_one_that_is_only_looked_for(self, pgw: Pgw, stub: Stub, command: str) -> None:
        stub.answer("GET /circuit-breaker/history", {"items": [], "next": None})
        assert pgw("breaker", command, "razorpy").code == Exit.NOT_FOUND
        assert pgw("breaker", command, "razorpay", "crad").code == Exit.USAGE
        assert stub.asked


class TestProductionWithoutATerminal:
    """Reason and yes, or nothing is done and the whole command is told."""

    @pytest.mark.parametrize(
        ("typed", "wanted"),
        [
            ("force-open razorpay UPI", "force-open razorpay UPI --reason '<why>' --yes"),
            ("open razorpay upi --ttl 30m", "force-open razorpay UPI --reason '<why>' --ttl 30m --yes"),
            ("force-open razorpay UPI --yes", "force-open razorpay UPI --reason '<why>' --yes"),
            (
                'force-close razorpay UPI --reason "it\'s INC 1"',
                "force-close razorpay UPI --reason 'it'\"'\"'s INC 1' --yes",
            ),
            ("clear razorpay UPI", "clear razorpay UPI --yes"),
        ],
    )
    def test_is_refused_with_the_command_that_passes(self, pgw: Pgw, production: Stub, typed: str, wanted: str) -> None:
        ended = pgw("breaker", *shlex.split(typed))
        assert (ended.code, ended.out) == (Exit.REFUSED, "")
        assert "  production │ moves 58.3 % of UPI" in ended.err
        told = ended.err.splitlines()[-1]
        assert told.startswith("error: production wants a")
        assert told.endswith(f"nothing was changed: run pgw breaker {wanted}")
        assert [each.query for each in production.asked] == [{"dry_run": "true"}]

        passes = shlex.split(told.partition("run pgw ")[2])
        assert pgw(*passes).code == 0
        assert production.asked[-1].query == {}

    def test_with_both_it_is_done(self, pgw: Pgw, production: Stub) -> None:
        assert pgw("breaker", "force-open", "razorpay", "UPI", "--reason", "INC-4412", "--yes").code == 0
        assert production.asked[-1].body == {"reason": "INC-4412"}

    def test_an_environment_of_a_later_version_is_taken_for_production(self, pgw: Pgw, stub: Stub) -> None:
        stub.answer(DRY, {"preview": {**foretold()["preview"], "environment": "staging"}})
        assert pgw("breaker", "force-open", "razorpay", "UPI").code == Exit.REFUSED
        assert len(stub.asked) == 1

    def test_the_own_environment_counts_for_nothing(
        self, pgw: Pgw, stub: Stub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PGW_ENV", "production")
        assert pgw("breaker", "force-open", "razorpay", "UPI").code == 0
        assert stub.asked

    def test_a_dry_run_asks_for_nothing(self, pgw: Pgw, production: Stub) -> None:
        assert pgw("breaker", "force-open", "razorpay", "UPI", "--dry-run").code == 0
        assert len(production.asked) == 1


class TestProductionOnATerminal:
    """The preview, then the reason, then the yes."""

    def test_asks_and_does_it(self, production: Stub) -> None:
        with on_terminal("breaker", "force-open", "razorpay", "UPI") as terminal:
            terminal.see("Reason: ")
            assert "moves 58.3 % of UPI" in terminal.shown
            terminal.type("INC-4412 bank switch down")
            terminal.see("Open razorpay/UPI? [y/N] ")
            terminal.type("y")
            assert terminal.end() == 0
        assert "undo: pgw breaker clear razorpay UPI" in terminal.shown
        assert production.asked[-1].body == {"reason": "INC-4412 bank switch down"}

    @pytest.mark.parametrize("answer", ["n", "", "yess", "no"])
    def test_anything_but_a_yes_changes_nothing(self, production: Stub, answer: str) -> None:
        with on_terminal("breaker", "force-close", "razorpay", "UPI", "--reason", "fixed") as terminal:
            terminal.see("Close razorpay/UPI? [y/N] ")
            terminal.type(answer)
            assert terminal.end() == Exit.REFUSED
        assert "nothing was changed" in terminal.shown
        assert "Reason:" not in terminal.shown
        assert len(production.asked) == 1

    def test_no_reason_changes_nothing(self, production: Stub) -> None:
        with on_terminal("breaker", "force-open", "razorpay", "UPI", "--yes") as terminal:
            terminal.see("Reason: ")
            terminal.type(" ")
            assert terminal.end() == Exit.REFUSED
        assert "wants a reason, nothing was changed" in terminal.shown
        assert len(production.asked) == 1

    @pytest.mark.parametrize("question", ["Reason: ", "[y/N] "])
    def test_ctrl_c_changes_nothing(self, production: Stub, question: str) -> None:
        reason = () if question == "Reason: " else ("--reason", "INC-4412")
        with on_terminal("breaker", "force-open", "razorpay", "UPI", *reason) as terminal:
            terminal.see(question)
            terminal.interrupt()
            assert terminal.end() == Exit.INTERRUPTED
        assert len(production.asked) == 1

    def test_clearing_asks_for_a_yes_only(self, production: Stub) -> None:
        with on_terminal("breaker", "clear", "razorpay", "UPI") as terminal:
            terminal.see("Clear razorpay/UPI? [y/N] ")
            terminal.type("YES")
            assert terminal.end() == 0
        assert "Reason" not in terminal.shown
        assert production.asked[-1].body == {}

    def test_development_asks_for_nothing(self, stub: Stub) -> None:
        with on_terminal("breaker", "force-open", "razorpay", "UPI") as terminal:
            assert terminal.end() == 0
        assert "?" not in terminal.shown
        assert len(stub.asked) == 2
