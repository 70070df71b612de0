"""Alive, ready, stopping: what orchestrators ask, and a process that ends well."""

import signal
import socket
import threading
from contextlib import ExitStack, suppress
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.ledger.engine.writer import LedgerUnavailable
from tests.server.serving import Inside, Served, served
from tests.server.wire import eventually, new_key, payment


def test_a_server_that_runs_is_alive_and_ready(either: Served) -> None:
    assert either.api.get("/ops/liveness").document == {"status": "alive", "checks": []}
    ready = either.api.get("/ops/readiness")
    assert (ready.status, ready.document["status"]) == (200, "ready")
    assert (ready.document["environment"], ready.document["version"]) == ("development", version("pgw"))
    assert str(UUID(ready.document["ledger_id"])) == ready.document["ledger_id"]
    names = {each["name"] for each in ready.document["checks"]}
    assert {"ledger", "snapshot", "hot", "loop:snapshot", "loop:verify"} <= names


def test_without_its_ledger_it_is_alive_but_not_ready(within: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    async def gone(*_: object) -> None:
        raise LedgerUnavailable("the ledger could not be read (OperationalError)", written=False)

    monkeypatch.setattr(OpenLedger, "read", gone)
    assert within.api.get("/ops/liveness").status == 200
    ready = within.api.get("/ops/readiness")
    assert (ready.status, ready.document["status"]) == (503, "failed")
    assert ready.document["checks"][0] == {
        "name": "ledger",
        "status": "failed",
        "detail": "the ledger could not be read (OperationalError)",
    }


def test_a_snapshot_that_is_not_refreshed_degrades_it(within: Inside) -> None:
    snapshots = within.runtime.snapshots
    snapshots.current = msgspec.structs.replace(snapshots.current, as_of=snapshots.current.as_of - timedelta(minutes=1))
    ready = within.api.get("/ops/readiness")
    assert (ready.status, ready.document["status"]) == (200, "degraded")
    decision = within.api.pay().document["payment_id"]
    assert within.api.get(f"/payments/{decision}/routing-decision").document["degraded"] is True


@pytest.mark.parametrize(
    ("age", "status"),
    [(timedelta(seconds=1), "ok"), (timedelta(seconds=1.9), "ok"), (timedelta(seconds=30), "degraded")],
)
def test_health_that_is_not_counted_any_more_degrades_it(within: Inside, age: timedelta, status: str) -> None:
    """It says so from the age on from which decisions do."""
    snapshots, clock = within.runtime.snapshots, within.runtime.clock
    now = clock.now()
    with pytest.MonkeyPatch.context() as stopped:
        stopped.setattr(clock, "now", lambda: now)
        snapshots.current = msgspec.structs.replace(snapshots.current, as_of=now, hot_as_of=now - age)
        ready = within.api.get("/ops/readiness")
    check = next(each for each in ready.document["checks"] if each["name"] == "hot")
    assert (ready.status, check["status"]) == (200, status)


def test_the_book_is_the_admins(server: Served) -> None:
    payment_id = server.api.pay().document["payment_id"]
    charge = next(each for each in server.api.charges() if each["payment_id"] == payment_id)
    assert charge == {
        "payment_id": payment_id,
        "attempt_number": 1,
        "gateway_id": "hdfc",
        "amount_minor": 1000,
        "currency": "INR",
        "status": "CAPTURED",
    }
    assert server.api.get("/sandbox/book").refusal == (401, "UNAUTHORIZED")


def test_a_server_told_to_stop_finishes_what_it_has_begun(tmp_path: Path) -> None:
    """The client on its way gets its answer, the one that went away its payment, idle and new connections an end."""
    with served(tmp_path) as running:
        api, customer = running.api, new_key()
        idle = socket.create_connection(("127.0.0.1", api.port))
        gone = api.paying(payment("slow@sandbox", customer_id=customer))
        with idle, api.paying(payment("slow@sandbox")) as sent:
            eventually(lambda: len(api.get("/payments").document["items"]) == 2 or None)
            gone.hang_up()
            stopping = threading.Thread(target=running.stop)
            stopping.start()
            answer = sent.answer()
            stopping.join()
        assert (answer.status, answer.document["status"]) == (201, "SUCCESS")
        assert answer.headers["connection"] == "close"
        assert running.process.returncode == 0
        with suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", api.port)).close()
            pytest.fail("nobody should listen any more")
    with served(tmp_path) as again:
        (kept,) = again.api.get(f"/payments?ref={customer}").document["items"]
        assert kept["status"] == "SUCCESS"
        assert len(again.api.charges()) == 2


def test_a_burst_of_connections_is_not_turned_away(server: Served) -> None:
    """Three hundred come before one is accepted; whoever finds no place waits a second until the kernel tries again."""
    address = ("127.0.0.1", server.api.port)
    server.process.send_signal(signal.SIGSTOP)
    try:
        with ExitStack() as waiting:
            for _ in range(300):
                waiting.enter_context(socket.create_connection(address, timeout=0.5))
    finally:
        server.process.send_signal(signal.SIGCONT)
