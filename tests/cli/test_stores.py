"""Commands on the stores themselves: nothing is made by accident, and without a server the app answers in process."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from pgw.cli.exits import CommandError, Exit, RefusedError
from pgw.cli.transport.client import connect
from pgw.core.ledger.engine.store import HEAD
from tests.cli.conftest import Pgw

PAYMENT: dict[str, Any] = {
    "amount_minor": 1000,
    "currency": "INR",
    "payment_method": "UPI",
    "merchant_id": "m_001",
    "customer_id": "cust_001",
    "merchant_reference": "ord-17",
    "instrument": {"type": "UPI", "vpa": "test@okhdfcbank"},
}


@pytest.mark.parametrize(
    "command",
    [
        "db status",
        "gateway list",
        "gateway show hdfc",
        "gateway set hdfc --priority 1",
        "policy get m_001",
        "policy set m_001 --enabled",
        "payment list",
        "payment show ord-17",
        "payment why ord-17",
        "score --amount 1 --method UPI",
        "breaker status",
        "breaker status --watch",
        "breaker history",
        "breaker force-open razorpay UPI",
        "breaker close razorpay UPI --yes",
        "breaker clear razorpay UPI",
        "pause",
        "resume",
        "config get",
        "config set panic=least_bad",
    ],
)
def test_an_absent_store_is_named_and_not_made(pgw: Pgw, home: Path, command: str) -> None:
    ended = pgw(*command.split())
    assert (ended.code, ended.out, ended.err.count("\n")) == (Exit.ABSENT, "", 1)
    for name in (str(home / "pgw.db"), "PGW_HOME", "DATABASE_URL", "PGW_SERVER"):
        assert name in ended.err
    assert list(home.parent.iterdir()) == []


def test_upgrade_makes_the_ledger_once_and_status_shows_it(pgw: Pgw, home: Path) -> None:
    for _ in range(2):
        ended = pgw("db", "upgrade", "-o", "json")
        assert ended.code == 0
        assert json.loads(ended.out)["current"] == HEAD
    assert (home / "pgw.db").is_file()
    ended = pgw("db", "status")
    assert (ended.code, ended.out.splitlines()[-1]) == (0, "up to date")
    assert pgw("db", "status", "-q").out == f"{HEAD}\n"


def test_an_old_schema_is_refused_with_the_command_to_run(pgw: Pgw, ledger: Path) -> None:
    with sqlite3.connect(ledger) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0000'")
    connection.close()
    status = pgw("db", "status")
    assert status.code == Exit.REFUSED
    assert "run 'pgw db upgrade'" in status.out
    listed = pgw("gateway", "list")
    assert (listed.code, listed.out) == (Exit.REFUSED, "")
    assert "run 'pgw db upgrade'" in listed.err


def test_a_file_that_is_no_ledger_is_said_to_be_none(pgw: Pgw, home: Path) -> None:
    home.mkdir()
    (home / "pgw.db").touch()
    ended = pgw("gateway", "list")
    assert ended.code == Exit.ABSENT
    assert "holds no pgw ledger" in ended.err


@pytest.mark.usefixtures("ledger")
def test_without_a_server_the_whole_of_it_works_in_process(pgw: Pgw) -> None:
    """An operator enables a gateway, a payment is made, found, followed and explained; no server runs."""
    assert pgw("gateway", "enable", "hdfc").code == 0
    assert pgw("gateway", "enable", "icici").code == 0
    with connect() as api:
        payment = api.call("POST", "/payments", body=PAYMENT, headers={"Idempotency-Key": "k-1"}).document
    assert (payment["status"], payment["gateway_used"]) == ("SUCCESS", "hdfc")
    assert pgw("payment", "list", "-q").out == f"{payment['payment_id']}\n"
    assert "attempt 1" in pgw("payment", "show", "ord-17").out

    assert pgw("gateway", "set", "icici", "--priority", "1").code == 0
    why = pgw("payment", "why", payment["payment_id"])
    assert (why.code, why.err) == (0, "")
    assert why.out.splitlines()[-1] == "recomputed: identical"

    changed = pgw("policy", "set", "m_001", "--max-attempts", "2", "-o", "json")
    assert json.loads(changed.out)["max_attempts"] == 2
    assert pgw("score", "--amount", "1000", "--method", "UPI", "-q").out.split() == ["icici", "hdfc"]
    ended = pgw("gateway", "set", "hdfc", "--priority", "-1")
    assert (ended.code, ended.err.count("\n")) == (Exit.USAGE, 1)


@pytest.mark.usefixtures("ledger")
def test_without_a_server_breakers_and_configuration_are_kept_for_the_next_one(pgw: Pgw) -> None:
    """Each command opens the ledger anew, so what the next one sees was written there."""
    forced = pgw("breaker", "force-open", "hdfc", "upi", "--reason", "INC-4412", "--ttl", "30m", "-o", "json")
    assert (forced.code, json.loads(forced.out)["state"]) == (0, "FORCED_OPEN")
    (shown,) = json.loads(pgw("breaker", "status", "hdfc", "UPI", "-o", "json").out)["items"]
    assert (shown["state"], shown["override"]["reason"]) == ("FORCED_OPEN", "INC-4412")

    assert pgw("breaker", "clear", "hdfc", "UPI").code == 0
    assert pgw("breaker", "status", "hdfc", "UPI", "-o", "csv").out.splitlines()[1].startswith("hdfc,UPI,◐ half-open ")
    past = json.loads(pgw("breaker", "history", "hdfc", "UPI", "-o", "json").out)["items"]
    assert [each["cause"] for each in past if each["kind"] == "override"] == ["unspecified", "INC-4412"]

    assert pgw("pause", "--reason", "INC-4412").code == 0
    with connect() as api, pytest.raises(RefusedError) as refusal:
        api.call("POST", "/payments", body=PAYMENT, headers={"Idempotency-Key": "k-1"})
    assert refusal.value.code == "PAUSED"
    assert pgw("resume", "-q").out == "taken\n"

    assert pgw("config", "set", "weights.success=0.4", "panic=least_bad").code == 0
    assert json.loads(pgw("config", "get", "weights.success", "-o", "json").out) == {"weights.success": 0.4}
    assert pgw("config", "set", "weights.success=0.4").out.endswith("already so, nothing was changed\n")
    assert pgw("config", "set", "breaker.min_calls=0").code == Exit.USAGE
    assert pgw("breaker", "open", "hdcf", "UPI").code == Exit.NOT_FOUND
    assert pgw("breaker", "open", "hdfc", "WALLET").code == Exit.USAGE


def test_a_disappearing_store_is_one_line(pgw: Pgw, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "planted-password"
    monkeypatch.setenv("DATABASE_URL", f"postgres://pgw:{secret}@127.0.0.1:1/pgw")
    ended = pgw("gateway", "list")
    assert (ended.code, ended.out, ended.err.count("\n")) == (Exit.ABSENT, "", 1)
    assert secret not in ended.err


@pytest.mark.usefixtures("ledger")
def test_a_start_that_fails_inside_the_app_is_one_line(pgw: Pgw, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("pgw.server.app.open_runtime", fail)
    ended = pgw("gateway", "list")
    assert (ended.code, ended.out, ended.err) == (Exit.ABSENT, "", "error: the disk is full\n")


@pytest.mark.usefixtures("ledger")
def test_an_app_that_does_not_answer_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with connect() as api:
        monkeypatch.setattr("pgw.cli.transport.in_process.STEP_TIMEOUT_S", 0.0)
        with pytest.raises(CommandError, match="is the ledger reachable") as caught:
            api.get("/gateways")
        monkeypatch.undo()
    assert caught.value.exit_code == Exit.PARTIAL


def test_the_same_on_postgresql(pgw: Pgw, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    absent = pgw("gateway", "list")
    assert absent.code == Exit.ABSENT
    assert "holds no pgw ledger" in absent.err
    assert pgw("db", "status").code == Exit.ABSENT
    assert pgw("db", "upgrade").code == 0
    assert pgw("gateway", "enable", "hdfc").code == 0
    listed = json.loads(pgw("gateway", "list", "-o", "json").out)
    assert {each["gateway_id"]: each["is_enabled"] for each in listed["items"]}["hdfc"]
