"""`pgw serve` as a process: found by the other commands while it runs, refused for a reason, gone when told to stop."""

import json
import os
import shlex
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pgw.cli.exits import Exit
from tests.cli.conftest import Pgw

Server = subprocess.Popen[str]
Serve = Callable[..., Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start `pgw serve` with arguments, on a free port of its own."""
    started: list[Server] = []

    def start(*arguments: str) -> Server:
        command = [sys.executable, "-m", "pgw.cli", "serve", "--bind", "127.0.0.1:0", *arguments]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for server in started:
        server.kill()
        server.communicate()


def _ready(server: Server) -> str:
    assert server.stderr is not None
    return server.stderr.readline()


def test_other_commands_find_the_running_server_and_then_the_store(pgw: Pgw, serve: Serve, home: Path) -> None:
    server = serve()
    greeting = _ready(server)
    note = json.loads((home / "serve.json").read_text())
    assert note["address"] in greeting
    assert stat.S_IMODE((home / "serve.json").stat().st_mode) == 0o600
    by_server = pgw("gateway", "list", "-o", "json")
    assert (by_server.code, by_server.err) == (0, "")
    assert pgw("gateway", "disable", "hdfc").code == 0

    server.send_signal(signal.SIGTERM)
    assert server.wait(10) == 0
    assert not (home / "serve.json").exists()
    in_process = json.loads(pgw("gateway", "list", "-o", "json").out)
    assert {each["gateway_id"]: each["is_enabled"] for each in in_process["items"]}["hdfc"] is False
    assert len(json.loads(by_server.out)["items"]) == len(in_process["items"])


def test_production_is_the_running_server_s_word(
    pgw: Pgw, serve: Serve, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command that a production server refuses, and tells, passes as it was told; its reason is in the history."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("INTERNAL_API_KEY", "k" * 32)
    assert pgw("db", "upgrade").code == 0
    monkeypatch.setenv("PGW_ENV", "production")
    server = serve()
    _ready(server)
    monkeypatch.setenv("PGW_ENV", "development")
    refused = pgw("breaker", "force-open", "razorpay", "UPI", "--ttl", "30m")
    assert (refused.code, refused.out) == (Exit.REFUSED, "")
    told = refused.err.splitlines()[-1].partition("run pgw ")[2].replace("<why>", "INC-4412")
    assert (
        pgw("breaker", "status", "razorpay", "UPI", "-o", "csv")
        .out.splitlines()[1]
        .startswith("razorpay,UPI,✓ closed,")
    )

    done = pgw(*shlex.split(told))
    assert (done.code, "seen by 1/1 processes" in done.out) == (0, True)
    (entry,) = json.loads(pgw("breaker", "history", "razorpay", "UPI", "-o", "json").out)["items"]
    assert (entry["state"], entry["cause"]) == ("FORCED_OPEN", "INC-4412")
    assert pgw("pause").code == pgw("resume").code == pgw("breaker", "clear", "razorpay", "UPI").code == Exit.REFUSED
    assert pgw("breaker", "clear", "razorpay", "UPI", "--yes").code == 0


def test_a_killed_server_leaves_the_commands_to_the_store(pgw: Pgw, serve: Serve, home: Path) -> None:
    server = serve()
    _ready(server)
    server.kill()
    server.wait()
    assert (home / "serve.json").exists()
    assert pgw("gateway", "list", "-q").out.split() == ["razorpay", "hdfc", "icici", "axis"]


def _enabled(pgw: Pgw) -> list[str]:
    items = json.loads(pgw("gateway", "list", "-o", "json").out)["items"]
    return [each["gateway_id"] for each in items if each["is_sandbox"] and each["is_enabled"]]


def _ends(server: Server) -> None:
    server.send_signal(signal.SIGTERM)
    assert server.wait(10) == 0


@pytest.mark.parametrize("nth", [1, 2])
def test_a_first_start_that_was_cut_is_finished_by_the_next_one_and_never_done_again(
    pgw: Pgw, serve: Serve, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    """It enables the sandbox gateways of a new ledger; those an operator has disabled since stay so."""
    monkeypatch.setenv("PGW_FAILPOINT", f"configure:after:exit:{nth}")
    assert serve().wait(10) == -signal.SIGKILL
    monkeypatch.delenv("PGW_FAILPOINT")
    assert _enabled(pgw) == ["hdfc", "icici", "axis"][:nth]

    server = serve()
    _ready(server)
    assert _enabled(pgw) == ["hdfc", "icici", "axis"]
    assert pgw("gateway", "disable", "icici").code == 0
    _ends(server)
    _ready(serve())
    assert _enabled(pgw) == ["hdfc", "axis"]


def test_a_second_server_on_one_file_is_refused(serve: Serve) -> None:
    _ready(serve())
    second = serve()
    _, told = second.communicate(timeout=10)
    assert second.returncode == Exit.REFUSED
    assert "PGW_HOME" in told


@pytest.mark.parametrize(
    ("arguments", "expected", "told"),
    [
        (["--gateways", "hdfc,icicii"], Exit.NOT_FOUND, "icicii"),
        (["--bind", "0.0.0.0:0"], Exit.REFUSED, "INTERNAL_API_KEY"),
        (["--bind", "nowhere"], Exit.REFUSED, "host:port"),
    ],
    ids=str,
)
def test_a_refusal_is_one_line_and_its_exit_code(serve: Serve, arguments: list[str], expected: Exit, told: str) -> None:
    server = serve(*arguments)
    out, err = server.communicate(timeout=10)
    assert (server.returncode, out) == (expected, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert told in err


def test_a_port_in_use_is_a_conflict(serve: Serve) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        server = serve("--bind", f"127.0.0.1:{other.getsockname()[1]}")
        _, err = server.communicate(timeout=10)
    assert server.returncode == Exit.CONFLICT
    assert "--bind" in err


def test_the_servers_own_words_hold_no_secret(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "planted-key-0123456789abcdef0123456789"
    monkeypatch.setenv("INTERNAL_API_KEY", key)
    monkeypatch.setenv("PGW_LOG_LEVEL", "debug")
    server = serve()
    said = _ready(server)
    os.kill(server.pid, signal.SIGINT)
    out, err = server.communicate(timeout=10)
    assert (server.returncode, out) == (0, "")
    assert key not in said + err
