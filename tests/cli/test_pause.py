"""`pgw pause` and `pgw resume`: as typed in development; in production with a reason and a yes, or not at all."""

import json
import shlex

import pytest

from pgw.cli.exits import Exit
from tests.cli.breaker_documents import paused
from tests.cli.conftest import Pgw
from tests.cli.documents import problem
from tests.cli.stub import Stub
from tests.cli.terminal import on_terminal


@pytest.fixture
def production(stub: Stub) -> Stub:
    """Let the answering server be a production one."""
    document = {"status": "failed", "environment": "production", "checks": []}
    stub.answer("GET /ops/readiness", document, status=503)
    return stub


def _written(stub: Stub) -> list[str]:
    return [line for line in stub.lines if line.startswith("POST /ops/")]


def test_pause_is_done_as_typed_and_says_until_when(pgw: Pgw, stub: Stub) -> None:
    ended = pgw("pause")
    assert (ended.code, ended.err) == (0, "")
    _, row, seen, undo = ended.out.splitlines()
    assert row.split() == ["✕", "paused", "2026-01-31T10:00:00Z", "2026-01-31T10:15:00Z", "asha", "INC-4412"]
    assert (seen, undo) == ("seen by 4/4 processes in 0.3 s", "undo: pgw resume")
    assert stub.asked[-1].body == {}
    assert [each.path for each in stub.asked] == ["/ops/readiness", "/ops/pause"]


def test_pause_sends_reason_and_ttl(pgw: Pgw, stub: Stub) -> None:
    assert json.loads(pgw("pause", "--reason", "INC-4412", "--ttl", "15m", "-o", "json").out) == paused()
    assert stub.asked[-1].body == {"reason": "INC-4412", "ttl_seconds": 900}


def test_resume_is_done_as_typed(pgw: Pgw, stub: Stub) -> None:
    ended = pgw("resume")
    assert (ended.code, ended.out.splitlines()[1].split()) == (0, ["✓", "taken", "-", "-", "-", "-"])
    assert stub.asked[-1].body == {}
    assert pgw("resume", "-q").out == "taken\n"


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("pause", "pause --reason '<why>' --yes"),
        ("pause --reason INC-4412 --ttl 2h", "pause --reason INC-4412 --ttl 2h --yes"),
        ("pause --yes", "pause --reason '<why>' --yes"),
        ("resume", "resume --yes"),
        ("resume --reason mended", "resume --reason mended --yes"),
    ],
)
def test_production_without_a_terminal_is_told_the_command_that_passes(
    pgw: Pgw, production: Stub, typed: str, wanted: str
) -> None:
    ended = pgw(*typed.split())
    assert (ended.code, ended.out) == (Exit.REFUSED, "")
    assert ended.err.endswith(f"nothing was changed: run pgw {wanted}\n")
    assert _written(production) == []

    assert pgw(*shlex.split(wanted)).code == 0
    assert _written(production) == [f"POST /ops/{wanted.split(maxsplit=1)[0]}"]


def test_with_reason_and_yes_nothing_is_asked_first(pgw: Pgw, production: Stub) -> None:
    """In need, one request has to be enough."""
    assert pgw("pause", "--reason", "INC-4412", "--yes").code == 0
    assert production.lines == ["POST /ops/pause"]


@pytest.mark.parametrize(("answer", "expected"), [("y", Exit.DONE), ("n", Exit.REFUSED)])
def test_production_on_a_terminal_asks_for_reason_and_yes(production: Stub, answer: str, expected: Exit) -> None:
    with on_terminal("pause") as terminal:
        terminal.see("Reason: ")
        terminal.type("INC-4412")
        terminal.see("Refuse all new payments? [y/N] ")
        terminal.type(answer)
        assert terminal.end() == expected
    assert _written(production) == (["POST /ops/pause"] if expected is Exit.DONE else [])


def test_a_server_that_does_not_say_its_environment_is_asked_like_production(pgw: Pgw, stub: Stub) -> None:
    stub.answer("GET /ops/readiness", {"status": "ready", "checks": []})
    assert pgw("pause").code == Exit.REFUSED
    assert _written(stub) == []


def test_a_reason_the_server_misses_is_a_refusal(pgw: Pgw, stub: Stub) -> None:
    stub.answer("POST /ops/pause", problem(422, "REASON_REQUIRED", "production wants a reason"), status=422)
    assert pgw("pause").code == Exit.REFUSED
