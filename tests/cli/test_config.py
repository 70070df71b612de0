"""`pgw config`: dotted names, weights that stay one whole, and no writing over what somebody else changed."""

import json
from math import fsum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgw.cli.dotted import assigned, flat, rescaled
from pgw.cli.exits import CommandError, Exit
from tests.cli.breaker_documents import scoring
from tests.cli.conftest import Pgw
from tests.cli.documents import problem
from tests.cli.stub import Stub

CONFIG = "/scoring/config"
TIME = [{"hours": [0, 1], "value": 0.5}]


@pytest.fixture
def stub(stub: Stub) -> Stub:
    """Let the configuration have a version."""
    stub.headers["ETag"] = '"12"'
    return stub


class TestGet:
    def test_shows_every_setting_by_its_name(self, pgw: Pgw, stub: Stub) -> None:
        ended = pgw("config", "get")
        assert (ended.code, ended.out.splitlines()[0]) == (0, "version 12")
        rows = dict(line.split(maxsplit=1) for line in ended.out.splitlines()[2:])
        assert rows["weights.success"] == "0.35"
        assert rows["method_affinity.hdfc.UPI"] == "0.9"
        assert rows["breaker.min_calls"] == "20"
        assert rows["panic"] == "fail_closed"
        assert json.loads(pgw("config", "get", "-o", "json").out) == scoring()
        assert stub.lines == [f"GET {CONFIG}"] * 2

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("weights.latency", {"weights.latency": 0.25}),
            ("method_affinity", {"method_affinity.hdfc.UPI": 0.9}),
            ("method_affinity.hdfc.upi", {"method_affinity.hdfc.UPI": 0.9}),
            ("method_affinity.icici.UPI", {"method_affinity.icici.UPI": None}),
            ("time.hdfc", {"time.hdfc": None}),
            ("time", {}),
            ("panic", {"panic": "fail_closed"}),
        ],
    )
    def test_narrows_to_a_name(self, pgw: Pgw, stub: Stub, name: str, expected: object) -> None:
        assert json.loads(pgw("config", "get", name, "-o", "json").out) == expected
        assert stub.asked

    def test_all_under_a_name_are_shown(self, pgw: Pgw, stub: Stub) -> None:
        assert pgw("config", "get", "weights", "-q").out.split() == list(flat({"weights": scoring()["weights"]}))
        assert stub.asked

    def test_what_nobody_set_says_so(self, pgw: Pgw, stub: Stub) -> None:
        assert pgw("config", "get", "amount_fit.hdfc.lt_500").out.endswith("it is not set: its default holds\n")
        assert stub.asked


UNKNOWN = [
    ("weights.sucess", "did you mean 'weights.success'?"),
    ("brekaer.min_calls", "did you mean 'breaker.min_calls'?"),
    ("pannic", "did you mean 'panic'?"),
    ("weights.success.x", "there is no setting 'weights.success.x'"),
    ("method_affinity.hdfc.UPPI", "there are UPI, CARD, NETBANKING"),
    ("amount_fit.hdfc.small", "there are lt_500, "),
    ("method_affinity..UPI", "there is no setting"),
    ("time.hdfc.hours", "there is no setting"),
    ("zzz", "there are weights, method_affinity, amount_fit, time, breaker, panic"),
]


class TestSet:
    def _set(self, pgw: Pgw, stub: Stub, *assignments: str) -> Any:
        """Set and return the document that was written."""
        ended = pgw("config", "set", *assignments)
        assert (ended.code, ended.err) == (0, "")
        assert stub.lines[-1] == f"PUT {CONFIG}"
        assert stub.asked[-1].headers["If-Match"] == '"12"'
        return stub.asked[-1].body

    def test_a_weight_rescales_the_others(self, pgw: Pgw, stub: Stub) -> None:
        written = self._set(pgw, stub, "weights.success=0.4")
        was, now = scoring()["weights"], written["weights"]
        assert now["success"] == 0.4
        assert fsum(now.values()) == pytest.approx(1.0, abs=1e-12)
        others = [name for name in was if name != "success"]
        assert [now[name] / was[name] for name in others] == pytest.approx([0.6 / 0.65] * len(others))
        assert {**written, "weights": was} == scoring()

    @pytest.mark.parametrize(
        ("assignment", "place", "value"),
        [
            ("panic=least_bad", ("panic",), "least_bad"),
            ("breaker.min_calls=30", ("breaker", "min_calls"), 30),
            ("method_affinity.hdfc.UPI=0.8", ("method_affinity", "hdfc", "UPI"), 0.8),
            ("method_affinity.hdfc.card=0.8", ("method_affinity", "hdfc", "CARD"), 0.8),
            ("amount_fit.icici.lt_500=1", ("amount_fit", "icici", "lt_500"), 1),
            (f"time.hdfc={json.dumps(TIME)}", ("time", "hdfc"), TIME),
            (f"time={json.dumps({'hdfc': TIME})}", ("time",), {"hdfc": TIME}),
            ("method_affinity={}", ("method_affinity",), {}),
        ],
    )
    def test_a_value_lands_in_its_place_and_nothing_else_moves(
        self, pgw: Pgw, stub: Stub, assignment: str, place: tuple[str, ...], value: object
    ) -> None:
        written = self._set(pgw, stub, assignment)
        expected = scoring()
        inside = expected
        for step in place[:-1]:
            inside = inside.setdefault(step, {})
        inside[place[-1]] = value
        assert written == expected

    def test_null_takes_an_entry_out(self, pgw: Pgw, stub: Stub) -> None:
        assert self._set(pgw, stub, "method_affinity.hdfc.UPI=null")["method_affinity"] == {"hdfc": {}}

    def test_several_are_one_change(self, pgw: Pgw, stub: Stub) -> None:
        written = self._set(pgw, stub, "weights.success=0.5", "weights.latency=0.25", "panic=least_bad")
        assert (written["weights"]["success"], written["weights"]["latency"]) == (0.5, 0.25)
        assert fsum(written["weights"].values()) == pytest.approx(1.0, abs=1e-12)
        assert stub.lines == [f"GET {CONFIG}", f"PUT {CONFIG}"]

    def test_shows_what_was_and_what_is(self, pgw: Pgw, stub: Stub) -> None:
        stub.answer(f"PUT {CONFIG}", assigned(scoring(), ["weights.success=0.4"]))
        lines = pgw("config", "set", "weights.success=0.4").out.splitlines()
        assert lines[0] == "scoring configuration"
        assert lines[2].split() == ["weights.success", "0.35", "0.4"]
        assert lines[3].split() == ["weights.latency", "0.25", "0.230769"]
        assert lines[-1] == "version 12"

    def test_a_dry_run_shows_it_and_writes_nothing(self, pgw: Pgw, stub: Stub) -> None:
        ended = pgw("config", "set", "panic=least_bad", "--dry-run")
        assert ended.code == 0
        assert ended.out.splitlines()[-2].split() == ["panic", "fail_closed", "least_bad"]
        assert ended.out.splitlines()[-1] == "dry run: nothing was changed"
        assert stub.lines == [f"GET {CONFIG}"]

    @pytest.mark.parametrize(
        "assignment", ["weights.success=0.35", "panic=fail_closed", "method_affinity.hdfc.UPI=0.9"]
    )
    def test_already_so_is_done_and_writes_nothing(self, pgw: Pgw, stub: Stub, assignment: str) -> None:
        ended = pgw("config", "set", assignment)
        assert (ended.code, ended.out) == (0, "scoring configuration: already so, nothing was changed\n")
        assert f"PUT {CONFIG}" not in stub.lines

    def test_what_somebody_else_changed_meanwhile_is_a_conflict(self, pgw: Pgw, stub: Stub) -> None:
        stub.answer(f"PUT {CONFIG}", problem(412, "PRECONDITION_FAILED", "it is another version"), status=412)
        ended = pgw("config", "set", "panic=least_bad")
        assert (ended.code, ended.out) == (Exit.CONFLICT, "")

    def test_a_value_the_server_refuses_is_wrong_usage(self, pgw: Pgw, stub: Stub) -> None:
        fault = {"pointer": "/breaker/min_calls", "detail": "must be >= 1"}
        stub.answer(f"PUT {CONFIG}", problem(400, "INVALID_REQUEST", "no", errors=[fault]), status=400)
        ended = pgw("config", "set", "breaker.min_calls=0")
        assert (ended.code, "/breaker/min_calls must be >= 1" in ended.err) == (Exit.USAGE, True)

    def test_a_gateway_that_is_not_there_is_noted(self, pgw: Pgw, stub: Stub) -> None:
        ended = pgw("config", "set", "method_affinity.hdcf.UPI=0.9")
        assert (ended.code, ended.err) == (0, "note: there is no gateway 'hdcf' yet\n")
        assert stub.lines[-1] == f"PUT {CONFIG}"

    @pytest.mark.parametrize(
        ("assignments", "told"),
        [
            (["weights.success"], "is not NAME=VALUE"),
            (["weights.success=much"], "weights.success must be a number from 0 to 1"),
            (["weights.success=1.1"], "from 0 to 1"),
            (["weights.success=true"], "from 0 to 1"),
            (["weights.success=0.7", "weights.latency=0.7"], "more than 1"),
            *(([f"{name}=1"], told) for name, told in UNKNOWN),
        ],
        ids=str,
    )
    def test_what_makes_no_sense_is_wrong_usage_and_not_written(
        self, pgw: Pgw, stub: Stub, assignments: list[str], told: str
    ) -> None:
        ended = pgw("config", "set", *assignments)
        assert (ended.code, ended.out, ended.err.count("\n")) == (Exit.USAGE, "", 1)
        assert told in ended.err
        assert stub.lines == [f"GET {CONFIG}"]

    @pytest.mark.parametrize(("name", "told"), UNKNOWN, ids=str)
    def test_an_unknown_name_is_met_with_the_nearest(self, pgw: Pgw, stub: Stub, name: str, told: str) -> None:
        ended = pgw("config", "get", name)
        assert (ended.code, told in ended.err) == (Exit.USAGE, True)
        assert stub.asked


SHARES = st.lists(st.floats(0.0, 1.0), min_size=6, max_size=6).filter(lambda shares: fsum(shares) > 0.01)
NAMES = list(scoring()["weights"])


@given(SHARES, st.integers(0, 5), st.floats(0.0, 1.0))
def test_rescaled_weights_are_one_whole_in_their_old_proportion(shares: list[float], which: int, value: float) -> None:
    weights = {name: share / fsum(shares) for name, share in zip(NAMES, shares, strict=True)}
    name = NAMES[which]
    try:
        fresh = rescaled(weights, {name: value})
    except CommandError:
        assert weights[name] == pytest.approx(1.0)
        return
    assert fresh[name] == value
    assert fsum(fresh.values()) == pytest.approx(1.0, abs=1e-9)
    others = [other for other in NAMES if other != name]
    was, now = fsum(weights[other] for other in others), fsum(fresh[other] for other in others)
    assert [fresh[other] * was for other in others] == pytest.approx([weights[other] * now for other in others])
