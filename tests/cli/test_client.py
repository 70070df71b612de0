"""The one client: what it sends, which server it asks, and what it makes of every kind of answer and silence."""

import json
import os
import socket
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from pgw.cli.exits import CommandError, Exit, RefusedError
from pgw.cli.transport import network
from pgw.cli.transport.client import connect, member
from pgw.settings import load
from tests.cli.conftest import Pgw
from tests.cli.documents import gateway_list, problem
from tests.cli.stub import Stub

KEY = "planted-key-0123456789abcdef"


def test_a_request_carries_the_key_the_actor_and_its_document(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGW_API_KEY", KEY)
    with connect() as api:
        answer = api.call("PATCH", "/gateways/hdfc", query={"a": "b c", "left_out": None}, body={"priority": 1})
    (asked,) = stub.asked
    assert (asked.method, asked.path, asked.query) == ("PATCH", "/gateways/hdfc", {"a": "b c"})
    assert asked.body == {"priority": 1}
    assert asked.headers["X-Internal-Api-Key"] == KEY
    assert asked.headers["X-Actor"]
    assert asked.headers["Content-Type"] == "application/json"
    assert (answer.status, answer.document["gateway_id"]) == (200, "hdfc")


def test_the_internal_key_is_sent_when_there_is_no_other(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERNAL_API_KEY", f"{KEY},an-older-key")
    with connect() as api:
        api.get("/gateways")
    assert stub.asked[0].headers["X-Internal-Api-Key"] == KEY


def test_a_prefix_of_the_server_stays_before_every_path(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGW_SERVER", f"{stub.address}/pgw/")
    stub.answer("GET /pgw/gateways", gateway_list())
    with connect() as api:
        assert api.get("/gateways") == gateway_list()


def test_a_name_is_one_member_of_a_path_whatever_is_in_it() -> None:
    assert member("a/b?c d") == "a%2Fb%3Fc%20d"


def test_a_refusal_tells_its_faults_once(stub: Stub) -> None:
    fault = {"pointer": "/priority", "detail": "must be <= 1000"}
    stub.answer("GET /gateways", problem(400, "INVALID_REQUEST", "the request is wrong", errors=[fault]), status=400)
    with connect() as api, pytest.raises(RefusedError, match=r"^the request is wrong: /priority must be <= 1000$"):
        api.get("/gateways")
    told = problem(400, "INVALID_REQUEST", "/priority must be <= 1000", errors=[fault])
    stub.answer("GET /gateways", told, status=400)
    with connect() as api, pytest.raises(RefusedError, match=r"^/priority must be <= 1000$"):
        api.get("/gateways")


def test_a_refused_key_names_the_variable_and_never_the_key(
    pgw: Pgw, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGW_API_KEY", KEY)
    stub.answer("GET /gateways", problem(403, "FORBIDDEN", f"wrong key {KEY}"), status=403)
    ended = pgw("gateway", "list")
    assert ended.code == Exit.AUTH
    assert "PGW_API_KEY" in ended.err
    assert KEY not in ended.err


@pytest.mark.parametrize(("status", "document"), [(302, b"moved"), (200, b"<html>a login page</html>")])
def test_what_is_not_pgw_is_said_to_be_so_and_redirects_are_not_followed(
    stub: Stub, status: int, document: bytes
) -> None:
    stub.headers["Location"] = f"{stub.address}/gateways?elsewhere=1"
    stub.answer("GET /gateways", document, status=status)
    with connect() as api, pytest.raises(CommandError, match="not pgw") as caught:
        api.get("/gateways")
    assert caught.value.exit_code == Exit.ABSENT
    assert stub.lines == ["GET /gateways"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_nobody_there_is_unreachable(pgw: Pgw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGW_SERVER", f"http://127.0.0.1:{_free_port()}")
    ended = pgw("gateway", "list")
    assert (ended.code, ended.out) == (Exit.ABSENT, "")
    assert "PGW_SERVER" in ended.err


@pytest.mark.parametrize(("method", "told"), [("GET", "to GET /gateways$"), ("PATCH", "before you repeat it$")])
def test_silence_times_out_and_a_change_is_left_open(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, method: str, told: str
) -> None:
    monkeypatch.setattr(network, "ANSWER_TIMEOUT_S", 0.1)
    stub.answers_now.clear()
    with connect() as api, pytest.raises(CommandError, match=told) as caught:
        api.call(method, "/gateways", body=None if method == "GET" else {})
    assert caught.value.exit_code == Exit.PARTIAL


@pytest.mark.parametrize(("method", "expected"), [("GET", Exit.ABSENT), ("PATCH", Exit.PARTIAL)])
def test_a_connection_closed_without_an_answer(stub: Stub, method: str, expected: Exit) -> None:
    stub.hangs_up = True
    with connect() as api, pytest.raises(CommandError, match="without an answer") as caught:
        api.call(method, "/gateways", body=None if method == "GET" else {})
    assert caught.value.exit_code == expected


class TestTheLocalServer:
    """`serve.json` leads to the running server of this ledger, and to no other, whoever wrote it."""

    @pytest.fixture
    def note(self, stub: Stub, home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        """Return the content of a good `serve.json`, which names the stub."""
        monkeypatch.delenv("PGW_SERVER")
        home.mkdir()
        return {
            "pid": os.getppid(),
            "address": stub.address,
            "ledger": "a-ledger",
            "database": sha256(load().database.encode()).hexdigest(),
        }

    def _write(self, home: Path, note: object, mode: int = 0o600) -> None:
        path = home / "serve.json"
        path.write_text(json.dumps(note))
        path.chmod(mode)

    def test_is_asked(self, pgw: Pgw, stub: Stub, home: Path, note: dict[str, Any]) -> None:
        self._write(home, note)
        assert pgw("gateway", "list", "-q").out.split() == ["hdfc", "icici", "axis", "razorpay"]
        assert stub.lines == ["GET /gateways"]

    @pytest.mark.parametrize(
        "change",
        [
            {"pid": "1"},
            {"pid": 2**40},
            {"database": "0" * 64},
            {"address": "http://pgw.example:3000"},
            {"address": None},
        ],
        ids=str,
    )
    def test_of_another_ledger_or_place_is_ignored(
        self, pgw: Pgw, stub: Stub, home: Path, note: dict[str, Any], change: dict[str, Any]
    ) -> None:
        self._write(home, {**note, **change})
        self._nobody_is_asked(pgw, stub)

    def test_of_a_dead_process_is_ignored(self, pgw: Pgw, stub: Stub, home: Path, note: dict[str, Any]) -> None:
        with subprocess.Popen([sys.executable, "-c", ""]) as gone:
            gone.wait()
        self._write(home, {**note, "pid": gone.pid})
        self._nobody_is_asked(pgw, stub)

    def test_that_nobody_listens_for_any_more_is_ignored(
        self, pgw: Pgw, stub: Stub, home: Path, note: dict[str, Any]
    ) -> None:
        self._write(home, {**note, "address": f"http://127.0.0.1:{_free_port()}"})
        self._nobody_is_asked(pgw, stub)

    def test_that_others_may_write_is_ignored(self, pgw: Pgw, stub: Stub, home: Path, note: dict[str, Any]) -> None:
        self._write(home, note, mode=0o644)
        self._nobody_is_asked(pgw, stub)

    @pytest.mark.parametrize("content", ["", "[]", "{"])
    def test_that_is_no_document_is_ignored(
        self, pgw: Pgw, stub: Stub, home: Path, note: dict[str, Any], content: str
    ) -> None:
        self._write(home, note)
        (home / "serve.json").write_text(content)
        self._nobody_is_asked(pgw, stub)

    def _nobody_is_asked(self, pgw: Pgw, stub: Stub) -> None:
        assert pgw("gateway", "list").code == Exit.ABSENT
        assert stub.asked == []
