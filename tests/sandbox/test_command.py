"""`pgw sandbox` as a process: the line it prints, the addresses it refuses, and that it ends when told."""

import http.client
import json
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pgw.cli.exits import Exit
from pgw.razorpay_simulator.webhooks import WEBHOOK_SECRET
from tests.sandbox.served import BASIC, PATIENCE_S, eventually

Process = subprocess.Popen[str]
Start = Callable[..., Process]

LINE = re.compile(
    r"RAZORPAY_BASE_URL=http://(127\.0\.0\.1|\[::1\]):(\d+) RAZORPAY_KEY_ID=rzp_test_pgw RAZORPAY_KEY_SECRET=sandbox "
    r"pgw serve --gateways razorpay\n"
)


@pytest.fixture
def start() -> Iterator[Start]:
    """Start `pgw sandbox` with arguments."""
    started: list[Process] = []

    def begin(*arguments: str) -> Process:
        command = [sys.executable, "-W", "error", "-m", "pgw.cli", "sandbox", *arguments]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def _port(process: Process) -> int:
    assert process.stdout is not None
    line = process.stdout.readline()
    found = LINE.fullmatch(line)
    assert found, (line, process.communicate(timeout=PATIENCE_S))
    return int(found[2])


def _ask(port: int, method: str, target: str, body: str | None = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request(method, target, body, {"Authorization": BASIC, "Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_the_first_line_starts_pgw_against_this_sandbox(start: Start) -> None:
    port = _port(start("--bind", "127.0.0.1:0"))
    assert port != 0
    assert _ask(port, "GET", "/v1/orders")[0] == 200


def test_told_whom_to_tell_it_prints_the_secret_they_share(start: Start) -> None:
    url = "http://127.0.0.1:3000/webhooks/razorpay"
    process = start("--bind", "127.0.0.1:0", "--webhook", url)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert f" RAZORPAY_KEY_SECRET=sandbox RAZORPAY_WEBHOOK_SECRET={WEBHOOK_SECRET} pgw serve " in line
    port = int(line.split(" ")[0].rpartition(":")[2])
    assert _ask(port, "GET", "/sandbox/webhooks")[1]["url"] == url


def test_a_port_that_was_asked_for_is_the_one_in_the_line(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    assert _port(start("--bind", f"localhost:{port}")) == port


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once_though_a_client_waits(start: Start, number: signal.Signals) -> None:
    process = start("--bind", "127.0.0.1:0")
    port = _port(process)
    assert _ask(port, "PUT", "/sandbox/faults", '{"next": ["hang"]}')[0] == 200
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as waiting:
        waiting.sendall(f"POST /v1/payments/create/upi HTTP/1.1\r\nHost: x\r\nAuthorization: {BASIC}\r\n\r\n".encode())
        eventually(lambda: _ask(port, "GET", "/sandbox/faults")[1]["next"] == [])
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == Exit.DONE
        assert select.select([waiting], [], [], PATIENCE_S)[0] == [waiting]
    assert process.stderr is not None
    assert process.stderr.read().count("\n") == 1


@pytest.mark.parametrize("bind", ["0.0.0.0:0", "[::]:0", "192.0.2.1:4010", "example.com:4010", "4010", "127.0.0.1:"])
def test_an_address_beyond_this_machine_is_refused(start: Start, bind: str) -> None:
    process = start("--bind", bind)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (Exit.REFUSED, "")
    assert err.startswith("error: ")
    assert "127.0.0.1" in err
    assert err.count("\n") == 1


def test_a_port_in_use_is_a_conflict(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        process = start("--bind", f"127.0.0.1:{other.getsockname()[1]}")
        _, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, "--bind" in err) == (Exit.CONFLICT, True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--fault", "explode"], "commit_then_hang"),
        (["--fault", "hang", "--fault", "HANG"], "no fault HANG"),
        (["--approve-after", "soon"], "500ms, 1s or 2m"),
        (["--approve-after", "-1s"], "500ms, 1s or 2m"),
        (["--webhook", "https://pgw.example/webhooks/razorpay"], "to this machine"),
        (["--webhook", "http://192.0.2.1/"], "to this machine"),
    ],
    ids=str,
)
def test_wrong_usage_names_the_way_out(start: Start, arguments: list[str], told: str) -> None:
    process = start(*arguments)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out, err.count("\n")) == (Exit.USAGE, "", 1)
    assert told in err


@pytest.mark.parametrize(
    ("text", "seconds"), [("1s", 1.0), ("500ms", 0.5), ("2m", 120.0), ("0s", 0.0), ("1.5s", 1.5)], ids=str
)
def test_a_time_is_read_with_its_unit(monkeypatch: pytest.MonkeyPatch, text: str, seconds: float) -> None:
    from pgw.cli.app import run  # noqa: PLC0415  # the processes above are what the other tests run

    asked: list[object] = []
    monkeypatch.setattr("pgw.razorpay_simulator.run.serve", lambda bind, **members: asked.append((bind, members)))
    assert run(["sandbox", "--approve-after", text, "--fault", "429", "--fault", "slow"]) == Exit.DONE
    assert asked == [("127.0.0.1:4010", {"faults": ["429", "slow"], "approve_after_s": seconds, "target": None})]
