"""`pgw sandbox` tells pgw what its customers do: the payment ends by the webhook, however badly that is delivered."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from pgw.core.flow.verify import verify_due
from pgw.core.flow.webhook import handle_waiting
from pgw.core.ledger.money_tables import webhook_deliveries
from pgw.core.ledger.tables import attempts
from pgw.core.payment import AttemptStatus
from tests.ledgers import rows
from tests.server.serving import Inside, inside, served
from tests.server.wire import PATIENCE_S, Api, eventually, payment

SECRET = "the secret of both"

BODY = payment(
    instrument={"type": "UPI", "flow": "intent"},
    customer={"email": "asha@example.com", "contact": "+919000000000"},
    client={"ip": "192.0.2.1", "user_agent": "Mozilla/5.0", "referer": "https://shop.example"},
)


@dataclass(frozen=True)
class Bank:
    """A running `pgw sandbox`: its address, and what a customer and a tester do there."""

    address: str

    def ask(self, method: str, path: str, body: object = None) -> Any:
        request = urllib.request.Request(self.address + path, method=method, data=json.dumps(body or {}).encode())
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return json.loads(answer.read())

    def tells(self, api: Api, **members: Any) -> None:
        url = f"http://127.0.0.1:{api.port}/webhooks/razorpay"
        self.ask("PUT", "/sandbox/webhooks", {"url": url, "secret": SECRET, **members})

    def taken(self) -> int:
        taken: int = self.ask("GET", "/sandbox/webhooks")["taken"]
        return taken

    def settings(self) -> dict[str, str]:
        """Return what pgw is started with."""
        keys = {"RAZORPAY_KEY_ID": "rzp_test_pgw", "RAZORPAY_KEY_SECRET": "sandbox"}
        return {**keys, "RAZORPAY_BASE_URL": self.address, "RAZORPAY_WEBHOOK_SECRET": SECRET}


@pytest.fixture
def bank() -> Iterator[Bank]:
    command = [sys.executable, "-m", "pgw.cli", "sandbox", "--bind", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield Bank(process.stdout.readline().split(" ")[0].partition("=")[2])
        finally:
            process.kill()


@pytest.fixture
def pgw(bank: Bank, tmp_path: Path) -> Iterator[Inside]:
    """Run the app without its loops: nothing is asked or handled but by this test."""
    with inside(tmp_path, bank.settings()) as running:
        yield running


def _take(api: Api) -> tuple[str, str]:
    """Take a payment that waits for its customer; return our name for it and the gateway's."""
    answer = api.pay(BODY)
    assert (answer.status, answer.document["status"]) == (202, "REQUIRES_ACTION")
    attempt = api.get(f"/payments/{answer.document['payment_id']}/attempts").document["attempts"][0]
    return answer.document["payment_id"], attempt["transaction_ref"]


def _put_off(pgw: Inside, **changed: Any) -> None:
    """Have the schedule ask about nothing for a day: what is asked after this, a webhook caused."""
    tomorrow = pgw.house.world.clock.now() + timedelta(days=1)

    def write(connection: Any) -> None:
        connection.execute(update(attempts).values(next_check_at=tomorrow, **changed))

    pgw.within(pgw.house.ledger.read(write))
    assert pgw.within(verify_due(pgw.house.world)) == 0


def _status(api: Api, payment_id: str) -> str:
    status: str = api.get(f"/payments/{payment_id}").document["status"]
    return status


def _round(pgw: Inside) -> tuple[int, int]:
    """Handle what was told, then ask about what is due."""
    handled = pgw.within(handle_waiting(pgw.house.world))
    return handled, pgw.within(verify_due(pgw.house.world))


def test_the_payment_ends_by_the_webhook_and_not_by_the_schedule(bank: Bank, pgw: Inside) -> None:
    bank.tells(pgw.api)
    payment_id, transaction_ref = _take(pgw.api)
    _put_off(pgw)
    before = bank.taken()
    bank.ask("POST", f"/sandbox/payments/{transaction_ref}/approve")
    eventually(lambda: bank.taken() > before or None)
    assert _status(pgw.api, payment_id) == "REQUIRES_ACTION"
    assert _round(pgw) == (1, 1)
    assert _status(pgw.api, payment_id) == "SUCCESS"


def test_a_payment_whose_answer_was_lost_is_found_by_the_notes_it_was_made_with(bank: Bank, pgw: Inside) -> None:
    """Nobody here knows the gateway's name for it; the webhook repeats ours."""
    bank.tells(pgw.api)
    payment_id, transaction_ref = _take(pgw.api)
    _put_off(pgw, transaction_ref=None, status=AttemptStatus.TIMEOUT)
    before = bank.taken()
    bank.ask("POST", f"/sandbox/payments/{transaction_ref}/approve")
    eventually(lambda: bank.taken() > before or None)
    assert _round(pgw) == (1, 1)
    assert _status(pgw.api, payment_id) == "SUCCESS"


def test_copies_and_any_order_have_one_effect(bank: Bank, pgw: Inside) -> None:
    """Everything about the payment comes three times, the newest first, some of it after the payment has ended."""
    bank.tells(pgw.api, copies=3, reorder_within_s=0.5)
    payment_id, transaction_ref = _take(pgw.api)
    _put_off(pgw)
    bank.ask("POST", f"/sandbox/payments/{transaction_ref}/approve")

    def is_told() -> bool | None:
        _round(pgw)
        events = {row["event"] for row in pgw.within(rows(pgw.house.ledger, webhook_deliveries))}
        return events == {"payment.authorized", "payment.captured", "order.paid"} or None

    eventually(is_told)
    _round(pgw)
    assert _status(pgw.api, payment_id) == "SUCCESS"
    (row,) = [row for row in bank.ask("GET", "/sandbox/book")["captures"] if row["payment_id"] == transaction_ref]
    assert row["amount"] == BODY["amount_minor"]
    assert [each["handled_at"] is None for each in pgw.within(rows(pgw.house.ledger, webhook_deliveries))] == [
        False
    ] * 3


def test_a_server_takes_them_and_does_the_rest_by_itself(bank: Bank, tmp_path: Path) -> None:
    """The real process, with its loops: every webhook of the payment is handled, and the payment is SUCCESS."""
    with served(tmp_path, **bank.settings(), GATEWAY_TIMEOUT_MS="2500") as running:
        bank.tells(running.api, copies=2)
        payment_id, transaction_ref = _take(running.api)
        before = bank.taken()
        bank.ask("POST", f"/sandbox/payments/{transaction_ref}/approve")
        eventually(lambda: _status(running.api, payment_id) == "SUCCESS" or None)
        eventually(lambda: bank.taken() >= before + 6 or None)
        assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()
