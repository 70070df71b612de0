"""`pgw breaker status` and `history`: who forced what until when, watched as it changes, told from its past."""

import json
import os
import re
import subprocess
import sys

import pytest
from msgspec.structs import replace

from pgw.cli.exits import Exit
from pgw.cli.views import live
from pgw.cli.views.durations import span
from pgw.core.breakers.breaker import State
from tests.cli import breaker_documents
from tests.cli.breaker_documents import WELL, breakers
from tests.cli.conftest import Pgw
from tests.cli.stub import Stub
from tests.cli.terminal import on_terminal


class TestStatus:
    @pytest.fixture(autouse=True)
    def _all_kinds(self, stub: Stub, at_ten: None) -> None:
        stub.answer("GET /circuit-breaker/status", breaker_documents.status())

    def _row(self, out: str, gateway: str, method: str) -> str:
        found = re.search(rf"^{gateway} +{method} .*$", out, re.MULTILINE)
        assert found is not None
        return found[0]

    def test_says_who_why_and_until_when(self, pgw: Pgw) -> None:
        out = pgw("breaker", "status").out
        row = self._row(out, "razorpay", "UPI")
        for told in (
            "✕ FORCED OPEN",
            " 61.2 % ",
            " 12.0 % ",
            " 14 ",
            " 3m ",
            'asha "INC-4412" → expires in 27m (10:27 UTC), then half-open; seen by 3/4 processes',
        ):
            assert told in row
        assert 'ravi "bank says fixed" → expires in 4m (10:04 UTC), then automatic ' in self._row(out, "hdfc", "CARD")

    def test_a_narrow_terminal_still_says_who_why_and_until_when(self) -> None:
        """What a screen of eighty columns has no room for are figures; the sentence folds."""
        with on_terminal("breaker", "status", columns=80) as terminal:
            assert terminal.end() == 0
        lines = terminal.shown.splitlines()
        assert lines[0] == (
            "note: not in this window: timeout_5m, in_a_row, calls_2m, in_flight (widen it, or -o json)"
        )
        row = next(number for number, line in enumerate(lines) if line.startswith("razorpay"))
        end = next(number for number, line in enumerate(lines) if line.startswith("hdfc      CARD"))
        folded = " ".join(" ".join(line[41:] for line in lines[row:end]).split())
        for told in ('asha "INC-4412"', "expires in", "then half-open", "seen by 3/4 processes"):
            assert told in folded
        assert max(len(line) for line in lines[1:] if not line.startswith("!")) <= 80

    def test_every_state_has_a_sign_and_a_word(self, pgw: Pgw) -> None:
        out = pgw("breaker", "status").out
        assert "✓ closed " in self._row(out, "hdfc", "UPI")
        assert "✓ FORCED CLOSED " in self._row(out, "hdfc", "CARD")
        assert re.search(r"◐ half-open 2/3 +- +- .* 40s +not_sent_in_a_row ", self._row(out, "icici", "UPI"))
        assert "✓ closed, 40.0 % let in " in self._row(out, "icici", "CARD")

    def test_an_order_that_the_rule_contradicts_is_a_warning(self, pgw: Pgw) -> None:
        out = pgw("breaker", "status").out
        warned = "! hdfc/CARD is forced closed, but the automatic rule holds it open → pgw breaker clear hdfc CARD"
        assert [line for line in out.splitlines() if line.startswith("!")] == [warned]

    def test_what_holds_for_a_whole_gateway_is_noted_once(self, pgw: Pgw) -> None:
        assert pgw("breaker", "status").out.splitlines()[-1] == (
            "  axis/UPI,CARD takes no payments: it is switched off"
        )

    def test_is_narrowed_to_a_gateway_and_a_method(self, pgw: Pgw) -> None:
        assert pgw("breaker", "status", "icici", "-q").out.split() == ["icici/UPI", "icici/CARD"]
        document = json.loads(pgw("breaker", "status", "icici", "upi", "-o", "json").out)
        assert document == breaker_documents.status(breakers()[3])

    def test_signs_are_letters_where_the_output_has_none_for_them(self) -> None:
        command = [sys.executable, "-m", "pgw.cli", "breaker", "status"]
        environ = {**os.environ, "PYTHONIOENCODING": "iso8859-1"}
        out = subprocess.run(command, env=environ, capture_output=True, check=True).stdout.decode()
        assert "x FORCED OPEN" in out
        assert '"INC-4412" -> expires in' in out
        assert out.isascii()

    def test_a_terminal_shows_it_in_colour(self) -> None:
        with on_terminal("breaker", "status", columns=200) as terminal:
            assert terminal.end() == 0
        assert re.search(r"\x1b\[31m✕ FORCED OPEN", terminal.raw)
        assert re.search(r"\x1b\[33m◐ half-open 2/3", terminal.raw)


class TestWatch:
    @pytest.fixture(autouse=True)
    def _at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(live, "EVERY_S", 0.0)

    def _give(self, stub: Stub) -> None:
        """Let one breaker open and close again, while the other's rates move."""
        other = replace(WELL, payment_method="CARD")
        busier = replace(other, calls_2m=500, failure_rate_2m=0.3, in_flight=9)
        opened = replace(WELL, state=State.OPEN, automatic_state=State.OPEN, cause="failure_rate")
        frames = [(WELL, other), (WELL, busier), (opened, busier), (opened, other), (WELL, other)]
        stub.answer("GET /circuit-breaker/status", *(breaker_documents.status(*frame) for frame in frames))

    def test_a_pipe_gets_a_block_for_each_change(self, pgw: Pgw, stub: Stub) -> None:
        self._give(stub)
        ended = pgw("breaker", "status", "--watch", "--count", "5", "-o", "jsonl")
        assert (ended.code, ended.err) == (0, "")
        told = [(each["payment_method"], each["state"]) for each in map(json.loads, ended.out.splitlines())]
        assert told == [("UPI", "CLOSED"), ("CARD", "CLOSED"), ("UPI", "OPEN"), ("UPI", "CLOSED")]
        assert len(stub.asked) == 5

    def test_a_table_in_a_pipe_says_when(self, pgw: Pgw, stub: Stub) -> None:
        self._give(stub)
        blocks = pgw("breaker", "status", "-w", "--count", "5").out.split("GATEWAY")
        assert len(blocks) == 4
        assert all(re.search(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$", each, re.MULTILINE) for each in blocks[:-1])
        assert "✕ open" in blocks[2]
        assert "CARD" not in blocks[2]

    def test_a_server_that_goes_away_ends_a_pipe(self, pgw: Pgw, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
        def vanish(_: float) -> None:
            stub.hangs_up = True

        monkeypatch.setattr("pgw.cli.views.live.time.sleep", vanish)
        ended = pgw("breaker", "status", "--watch", "--count", "3")
        assert (ended.code, "without an answer" in ended.err) == (Exit.ABSENT, True)

    def test_ends_when_nobody_reads_any_more(self, stub: Stub) -> None:
        """So a wait such as `| grep -m1 open` ends with what it waited for, though nothing changes afterwards."""
        command = [sys.executable, "-m", "pgw.cli", "breaker", "status", "--watch", "-q"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == "hdfc/UPI\n"
            process.stdout.close()
            assert process.stderr.read() == ""
            assert process.wait(20) == 0
        assert stub.asked

    def test_an_unknown_name_is_refused_at_once(self, pgw: Pgw, stub: Stub) -> None:
        assert pgw("breaker", "status", "razorpy", "--watch").code == Exit.NOT_FOUND
        assert stub.asked


class TestWatchOnATerminal:
    def test_draws_over_itself_until_ctrl_c(self, stub: Stub) -> None:
        opened = replace(WELL, state=State.OPEN, automatic_state=State.OPEN, cause="failure_rate")
        stub.answer("GET /circuit-breaker/status", breaker_documents.status(WELL), breaker_documents.status(opened))
        with on_terminal("breaker", "status", "--watch") as terminal:
            terminal.see("✓ closed")
            terminal.see("✕ open")
            terminal.interrupt()
            assert terminal.end() == Exit.INTERRUPTED
        assert terminal.raw.count("\x1b[H") >= 2
        assert "Traceback" not in terminal.shown

    def test_keeps_the_last_state_while_the_server_is_away(self, stub: Stub) -> None:
        with on_terminal("breaker", "status", "--watch") as terminal:
            terminal.see("✓ closed")
            stub.hangs_up = True
            terminal.see("! as it was; at ")
            stub.hangs_up = False
            shown = len(stub.asked)
            terminal.see("✓ closed", times=terminal.shown.count("✓ closed") + 2)
            terminal.interrupt()
            assert terminal.end() == Exit.INTERRUPTED
        assert len(stub.asked) > shown

    def test_more_than_fits_is_said_to_be_there(self, stub: Stub) -> None:
        many = [replace(WELL, gateway_id=f"g{number}") for number in range(60)]
        stub.answer("GET /circuit-breaker/status", breaker_documents.status(*many))
        with on_terminal("breaker", "status", "--watch", "--count", "1", LINES="10") as terminal:
            assert terminal.end() == 0
        assert "lines more than this window has" in terminal.shown
        assert terminal.shown.count("\n") <= 10


class TestHistory:
    def test_tells_what_who_why_and_until_when(self, pgw: Pgw, stub: Stub) -> None:
        cleared, forced, moved = pgw("breaker", "history").out.splitlines()[1:]
        assert "FORCED CLOSED → automatic" in cleared
        assert re.search(r'✕ FORCED OPEN +asha "INC-4412" +2026-01-31T10:30:00Z +- +- +asha$', forced)
        assert re.search(r"closed → ✕ open +failure_rate +- +shared +4 +host-17-a1b2c3$", moved)
        assert stub.asked[0].query == {}

    def test_a_narrow_terminal_still_tells_who_and_why(self, stub: Stub) -> None:
        with on_terminal("breaker", "history", columns=80) as terminal:
            assert terminal.end() == 0
        assert re.search(r'✕ FORCED OPEN +asha "INC-4412"', terminal.shown)
        assert "note: not in this window: until, scope, epoch, actor" in terminal.shown
        assert max(map(len, terminal.shown.splitlines())) <= 80
        assert stub.asked

    def test_asks_for_what_was_asked(self, pgw: Pgw, stub: Stub) -> None:
        stub.answer("GET /circuit-breaker/history", breaker_documents.history("further"))
        ended = pgw("breaker", "history", "razorpay", "upi", "--limit", "3", "-o", "json")
        assert stub.asked[0].query == {"gateway_id": "razorpay", "payment_method": "UPI", "limit": "3"}
        assert json.loads(ended.out) == breaker_documents.history("further")
        assert "--limit" in ended.err

    def test_nothing_is_no_error(self, pgw: Pgw, stub: Stub) -> None:
        stub.answer("GET /circuit-breaker/history", {"items": [], "next": None})
        assert pgw("breaker", "history", "hdfc").out == "nothing has happened to any breaker here\n"


def test_spans_are_told_in_the_unit_people_would_use() -> None:
    told = {0.4: "0s", 89: "89s", 90: "2m", 1620: "27m", 3599.9: "60m", 5400: "2h", 43_200: "12h", 6 * 86_400: "6d"}
    assert {seconds: span(seconds) for seconds in told} == told
