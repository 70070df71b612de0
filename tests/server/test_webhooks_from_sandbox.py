"""`pgw sandbox` tells pgw what its customers do: the payment ends by the webhook, however badly that is delivered."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from pgw.core.flow.verification.verify import verify_due
from pgw.core.flow.verification.webhooks import handle_waiting
from pgw.core.ledger.engine.store import open_engine
from pgw.core.ledger.tables import attempts, transfers, webhook_deliveries
from pgw.core.payment.payment import AttemptStatus
from pgw.core.verification.webhook import signature_of
from tests.faults.proof import ledger_of
from tests.ledgers import rows
from tests.server.kept import lines_of, violated
from tests.server.serving import Inside, inside, served
from tests.server.wire import PATIENCE_S, Answer, Api, eventually, payment

SECRET = "the secret of both"

Saw = Callable[..., None]

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

    def violated(self, database: str) -> int:
        """Count what a ledger violates, by itself and by this gateway's book."""
        return violated(database, lambda: lines_of(self.ask("GET", "/sandbox/book")))

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
    tomorrow = pgw.runtime.clock.now() + timedelta(days=1)

    def write(connection: Any) -> None:
        connection.execute(update(attempts).values(next_check_at=tomorrow, **changed))

    pgw.within(pgw.runtime.ledger.read(write))
    assert pgw.within(verify_due(pgw.runtime)) == 0


def _status(api: Api, payment_id: str) -> str:
    status: str = api.get(f"/payments/{payment_id}").document["status"]
    return status


def _round(pgw: Inside) -> tuple[int, int]:
    """Handle what was told, then ask about what is due."""
    handled = pgw.within(handle_waiting(pgw.runtime))
    return handled, pgw.within(verify_due(pgw.runtime))


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


def _event(payment_id: str, transaction_ref: str, name: str = "payment.captured", age_s: int = 0) -> bytes:
    entity = {"id": transaction_ref, "notes": {"receipt": f"{payment_id}-1"}, "status": "captured"}
    moment = int(datetime.now(UTC).timestamp()) - age_s
    return json.dumps(
        {"event": name, "payload": {"payment": {"entity": entity}}, "created_at": moment},
    ).encode()


def _send(api: Api, body: bytes, event_id: str, secret: str = SECRET) -> Answer:
    headers = {"X-Razorpay-Signature": signature_of(body, secret), "x-razorpay-event-id": event_id}
    return api.call("POST", "/webhooks/razorpay", body, headers)


def _money(pgw: Inside, bank: Bank, payment_id: str) -> tuple[str, int, int]:
    """Say how a payment stands, how often it was captured over there, and how often that is booked here."""
    booked = [row for row in pgw.within(rows(pgw.runtime.ledger, transfers)) if row["payment_id"] == payment_id]
    captures = [each for each in bank.ask("GET", "/sandbox/book")["captures"] if each["amount"]]
    return _status(pgw.api, payment_id), len(captures), len(booked)


def _approved(pgw: Inside, bank: Bank) -> tuple[str, str]:
    """Take a payment and have its customer approve; nobody but a webhook makes pgw look."""
    payment_id, transaction_ref = _take(pgw.api)
    _put_off(pgw)
    bank.ask("POST", f"/sandbox/payments/{transaction_ref}/approve")
    return payment_id, transaction_ref


def test_an_old_body_under_a_new_event_id_has_no_second_effect(bank: Bank, pgw: Inside, saw: Saw) -> None:
    payment_id, transaction_ref = _approved(pgw, bank)
    body = _event(payment_id, transaction_ref, "payment.authorized")
    first = _send(pgw.api, body, "one")
    assert (first.document["status"], _round(pgw)) == ("received", (1, 1))
    before = _money(pgw, bank, payment_id)
    assert before == ("SUCCESS", 1, 1)
    again = [_send(pgw.api, body, each) for each in ("two", "three")]
    assert _round(pgw) == (0, 0)
    after = _money(pgw, bank, payment_id)
    assert after == before
    (kept,) = pgw.within(rows(pgw.runtime.ledger, webhook_deliveries))
    assert kept["handled_at"] is not None
    ends = {f"{each.status} {each.document['status']}" for each in again}
    told = f"{first.status} {first.document['status']}, then {' '.join(ends)}; {after[0]}, {after[1]} charge"
    violations = bank.violated(pgw.runtime.settings.database)
    saw(38, f"{told}; {violations} violations", case="the same body under a new event id")


def test_a_forged_or_too_old_webhook_has_no_effect(bank: Bank, pgw: Inside, saw: Saw) -> None:
    """The customer has paid, and pgw still does not look: neither of them is a reason to."""
    payment_id, transaction_ref = _approved(pgw, bank)
    forged = _send(pgw.api, _event(payment_id, transaction_ref), "one", secret="another secret")
    old = _send(pgw.api, _event(payment_id, transaction_ref, age_s=6 * 86_400), "two")
    assert [forged.refusal, old.refusal] == [(401, "UNAUTHORIZED"), (400, "INVALID_REQUEST")]
    assert _round(pgw) == (0, 0)
    kept = pgw.within(rows(pgw.runtime.ledger, webhook_deliveries))
    after = _money(pgw, bank, payment_id)
    assert (kept, after) == ([], ("REQUIRES_ACTION", 0, 0))
    end = f"{len(kept)} kept; {after[0]}, {after[1]} charges; {bank.violated(pgw.runtime.settings.database)} violations"
    for answer, case in ((forged, "forged"), (old, "six days old")):
        saw(38, f"{answer.status} {answer.code}; {end}", case=case)


def test_a_webhook_that_comes_after_the_end_changes_nothing(bank: Bank, pgw: Inside, saw: Saw) -> None:
    """News of a success that was known, and of a failure that never was; days late, too."""
    payment_id, transaction_ref = _approved(pgw, bank)
    assert _send(pgw.api, _event(payment_id, transaction_ref), "one").document == {"status": "received"}
    assert _round(pgw) == (1, 1)
    before = _money(pgw, bank, payment_id)
    assert before == ("SUCCESS", 1, 1)
    late = [("payment.failed", 0), ("payment.authorized", 3600), ("payment.failed", 4 * 86_400)]
    answers = [_send(pgw.api, _event(payment_id, transaction_ref, *each), str(each)) for each in late]
    assert _round(pgw) == (3, 0)
    after = _money(pgw, bank, payment_id)
    assert after == before
    ends = {f"{each.status} {each.document['status']}" for each in answers}
    told = f"{before[0]}; {len(answers)} more: {' '.join(ends)}; still {after[0]}, {after[1]} charge"
    saw(37, f"{told}; {bank.violated(pgw.runtime.settings.database)} violations", case="after the end, and days late")


def test_copies_and_any_order_have_one_effect(bank: Bank, pgw: Inside, saw: Saw) -> None:
    """Everything about the payment comes three times, the newest first, some of it after the payment has ended."""
    bank.tells(pgw.api, copies=3, reorder_within_s=0.5)
    payment_id, transaction_ref = _take(pgw.api)
    _put_off(pgw)
    bank.ask("POST", f"/sandbox/payments/{transaction_ref}/approve")

    def is_told() -> bool | None:
        _round(pgw)
        events = {row["event"] for row in pgw.within(rows(pgw.runtime.ledger, webhook_deliveries))}
        return events == {"payment.authorized", "payment.captured", "order.paid"} or None

    eventually(is_told)
    _round(pgw)
    assert _status(pgw.api, payment_id) == "SUCCESS"
    (row,) = [row for row in bank.ask("GET", "/sandbox/book")["captures"] if row["payment_id"] == transaction_ref]
    assert row["amount"] == BODY["amount_minor"]
    kept = pgw.within(rows(pgw.runtime.ledger, webhook_deliveries))
    assert [each["handled_at"] is None for each in kept] == [False] * 3
    after = _money(pgw, bank, payment_id)
    assert after == ("SUCCESS", 1, 1)
    told = f"{len(kept)} events, 3 copies each, the newest first: {len(kept)} kept; {after[0]}, {after[1]} charge"
    saw(37, f"{told}; {bank.violated(pgw.runtime.settings.database)} violations", case="twice and reordered")


@pytest.mark.slow
@pytest.mark.parametrize("ledger", ["SQLite", "PostgreSQL"])
def test_a_webhook_that_overtakes_the_gateway_s_answer(
    bank: Bank, tmp_path: Path, request: pytest.FixtureRequest, saw: Saw, ledger: str
) -> None:
    """The customer pays while the answer to the charging call is under way: whoever writes first, it is one charge."""
    variables = {"DATABASE_URL": request.getfixturevalue("database_url")} if ledger == "PostgreSQL" else {}
    with served(tmp_path, **bank.settings(), **variables, GATEWAY_TIMEOUT_MS="8000") as running:
        bank.tells(running.api, copies=2)
        bank.ask("PUT", "/sandbox/faults", {"next": ["slow"]})
        with running.api.paying(BODY) as sent:
            (made,) = eventually(lambda: bank.ask("GET", "/sandbox/book")["payments"] or None)
            bank.ask("POST", f"/sandbox/payments/{made['payment_id']}/approve")
            answer = sent.answer()
        payment_id = answer.document["payment_id"]
        eventually(lambda: _status(running.api, payment_id) == "SUCCESS" or None)
        database = ledger_of(tmp_path / "home", running.database_url)
        kept_at = eventually(lambda: _first_kept(database))
        answered_at = datetime.fromisoformat(answer.document["created_at"]) + timedelta(
            milliseconds=answer.document["latency_ms"]
        )
        when = "before" if kept_at < answered_at else "after"
        assert when == "before"
        (attempt,) = running.api.get(f"/payments/{payment_id}/attempts").document["attempts"]
        charges = len(bank.ask("GET", "/sandbox/book")["captures"])
        assert (answer.status, attempt["status"], charges) == (202, "SUCCESS", 1)
        told = f"webhook kept {when} the answer; {answer.status} {answer.document['status']}, then {attempt['status']}"
        saw(39, f"{told}; {charges} charge; {bank.violated(database)} violations", case=f"on {ledger}")
        assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()


def _first_kept(database: str) -> datetime | None:
    """Say when the first webhook was kept, once all of them are handled: of authorization, of capture, of the order."""
    engine = open_engine(database)
    try:
        with engine.connect() as connection:
            found = connection.execute(select(webhook_deliveries)).all()
    finally:
        engine.dispose()
    is_done = len(found) == 3 and all(each.handled_at for each in found)
    return min(each.received_at for each in found) if is_done else None


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
