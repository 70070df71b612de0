"""A server, a command or a worker dies right before, or right after, what else is written: it is there once, or not."""

import asyncio
import http.client
import json
import signal
import urllib.error
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from pgw.core.ledger.engine.store import open_engine
from pgw.core.ledger.tables import attempts, audit_log, merchant_keys, outbox, transfers, watches, webhook_deliveries
from pgw.core.verification.webhook import signature_of
from tests.seams.bank import WEBHOOK_SECRET, Bank, bank
from tests.seams.counting import by_minute, history, on_stream, recount, shared_counts
from tests.seams.crossings import RELAYING
from tests.seams.fleet import STOP_LIMIT_S
from tests.seams.place import CHECK, Place, place
from tests.seams.serving import wait_until

A_WHILE = timedelta(hours=1)
TOO_LONG = timedelta(days=6)
"""Longer than automatic enquiries about a payment go on."""

WORD = {"as": "FAILURE", "reason": "the bank says so", "evidence": "letter 7"}

DIED = (http.client.HTTPException, ConnectionError, urllib.error.URLError)

BOTH = pytest.mark.parametrize("moment", ["before", "after"])
ANYWHERE = pytest.mark.parametrize(
    ("anywhere", "moment"), [("sqlite", "before"), ("sqlite", "after"), ("postgres", "after")], indirect=["anywhere"]
)
"""What was not written is the same on any ledger."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def opened_bank() -> Iterator[Bank]:
    """Open one for all: each payment there is its own."""
    with bank() as opened:
        yield opened


@pytest.fixture
def there(tmp_path: Path, opened_bank: Bank) -> Iterator[Place]:
    """Give a new SQLite ledger."""
    with place(tmp_path, opened_bank) as there:
        yield there


@pytest.fixture
def anywhere(request: pytest.FixtureRequest, tmp_path: Path, opened_bank: Bank) -> Iterator[Place]:
    """Give a new ledger of the kind asked for."""
    url = request.getfixturevalue("database_url") if request.param == "postgres" else None
    with place(tmp_path, opened_bank, url) as there:
        yield there


def _dies_of(there: Place, asked: Callable[[], Any]) -> None:
    """Ask the server for what it dies of."""
    with pytest.raises(DIED):
        asked()
    assert there.server.process.wait(STOP_LIMIT_S) == -signal.SIGKILL


def _resolve(there: Place, payment_id: str, **changes: Any) -> tuple[int, Any]:
    return there.server.ask("POST", f"/payments/{payment_id}/resolve", {**WORD, **changes})


def _kinds(there: Place, payment_id: str) -> list[str]:
    return sorted(row["kind"] for row in there.rows(transfers) if row["payment_id"] == payment_id)


def _are_open(there: Place) -> bool:
    items = there.server.ask("GET", "/circuit-breaker/status")[1]["items"]
    return all(each["state"] == "FORCED_OPEN" for each in items if each["gateway_id"] in {"icici", "axis"})


@ANYWHERE
def test_of_a_gateway_that_is_passed_over(anywhere: Place, moment: str) -> None:
    """The others' breakers open while the first is called: its decline is found out, and no other gateway is called."""
    anywhere.serve(f"skip:{moment}:exit")
    anywhere.share_out()
    slow = {"UPI": {"success_rate": 0.0, "latency_ms": 1000}}
    assert anywhere.server.ask("PATCH", "/gateways/hdfc", {"sandbox": slow})[0] == 200
    with ThreadPoolExecutor(1) as threads:
        paying = threads.submit(_dies_of, anywhere, lambda: anywhere.pay(0, "never"))
        wait_until(lambda: bool(anywhere.rows(attempts)), "the first attempt")
        for each in ("icici", "axis"):
            path = f"/circuit-breaker/force-open/{each}/UPI"
            assert anywhere.server.ask("POST", path, {"reason": "drill"})[0] == 200
        paying.result()

    (payment_id,) = {row["payment_id"] for row in anywhere.rows(attempts)}
    anywhere.later(A_WHILE, payment_id)
    anywhere.does(CHECK)
    anywhere.serve()
    assert anywhere.status(payment_id) == "FAILURE"
    told = [(row["gateway_id"], row["status"]) for row in anywhere.attempts(payment_id)]
    assert told == [("hdfc", "FAILURE"), ("icici", "SKIPPED")][: 1 if moment == "before" else 2]
    assert anywhere.moved(payment_id) == []
    assert anywhere.broken() == ()


@ANYWHERE
def test_of_a_person_s_word_on_a_payment(anywhere: Place, moment: str) -> None:
    """Said again, it is written once: the payment's end, and who said so why."""
    anywhere.serve(f"resolve:{moment}:exit")
    anywhere.share_out()
    payment_id = anywhere.pay_at_bank()
    anywhere.later(TOO_LONG, payment_id)
    anywhere.does(CHECK)
    assert anywhere.status(payment_id) == "MANUAL_REVIEW"
    _dies_of(anywhere, lambda: _resolve(anywhere, payment_id))

    anywhere.serve()
    assert anywhere.status(payment_id) == ("MANUAL_REVIEW" if moment == "before" else "FAILURE")
    code, document = _resolve(anywhere, payment_id)
    assert (code, document["status"]) == (200, "FAILURE")
    assert [row["action"] for row in anywhere.rows(audit_log)] == ["payment.resolve"]
    assert (_kinds(anywhere, payment_id), anywhere.moved(payment_id)) == ([], [])
    assert anywhere.broken() == ()


@ANYWHERE
def test_of_a_person_s_word_on_late_money(anywhere: Place, moment: str) -> None:
    """The gateway refused the refund, for it was refunded already: decided again, it is booked as refunded once."""
    anywhere.serve(f"close_review:{moment}:exit")
    anywhere.share_out()
    payment_id = anywhere.pay_in_vain()
    anywhere.move_late(payment_id)
    anywhere.later(A_WHILE, payment_id)
    anywhere.dies(CHECK, "reverse:before:exit")
    anywhere.move_late(payment_id, status="REVERSED", reason="somebody else's key")
    anywhere.later(A_WHILE, payment_id)
    anywhere.does(CHECK)
    assert [row["state"] for row in anywhere.rows(watches)] == ["MANUAL_REVIEW"]
    _dies_of(anywhere, lambda: _resolve(anywhere, payment_id, attempt_number=1))

    anywhere.serve()
    assert _resolve(anywhere, payment_id, attempt_number=1)[0] == 200
    assert [row["state"] for row in anywhere.rows(watches)] == ["OVER"]
    assert [row["action"] for row in anywhere.rows(audit_log)] == ["payment.resolve"]
    assert _kinds(anywhere, payment_id) == ["duplicate_capture", "reversal"]
    assert anywhere.moved(payment_id) == ["captured", "reversed"]
    assert (anywhere.status(payment_id), anywhere.broken()) == ("FAILURE", ())


@BOTH
def test_of_a_changed_configuration(there: Place, moment: str) -> None:
    """It is the old one or the new one, and can be changed again."""
    # A new ledger is configured three times as it is served first: each sandbox gateway is enabled.
    there.serve(f"configure:{moment}:exit:4")
    before = _priority(there)
    _dies_of(there, lambda: there.server.ask("PATCH", "/gateways/hdfc", {"priority": 77}))

    there.serve()
    assert _priority(there) == (before if moment == "before" else 77)
    assert there.server.ask("PATCH", "/gateways/hdfc", {"priority": 78})[0] == 200
    assert _priority(there) == 78


def _priority(there: Place) -> int:
    items = there.server.ask("GET", "/gateways")[1]["items"]
    priority: int = next(each["priority"] for each in items if each["gateway_id"] == "hdfc")
    return priority


def _notify(there: Place, payment_id: str, at: datetime) -> tuple[int, Any]:
    """Be the bank, which reports that a payment was authorised; the same bytes each time."""
    named = {"id": there.attempts(payment_id)[-1]["transaction_ref"], "notes": {"receipt": f"{payment_id}-1"}}
    document = {
        "event": "payment.authorized",
        "payload": {"payment": {"entity": named}},
        "created_at": int(at.timestamp()),
    }
    signature = signature_of(json.dumps(document).encode(), WEBHOOK_SECRET)
    return there.server.ask("POST", "/webhooks/razorpay", document, **{"X-Razorpay-Signature": signature})


def _ends_by_webhook(there: Place, payment_id: str) -> None:
    """Let a worker live: the webhook is handled, the payment ends, and its money was captured once."""
    there.running.work("verify")
    wait_until(lambda: there.status(payment_id) == "SUCCESS", "the end of the payment")
    wait_until(lambda: all(row["handled_at"] for row in there.rows(webhook_deliveries)), "the webhook's end")
    assert len(there.rows(webhook_deliveries)) == 1
    assert there.moved(payment_id) == ["captured"]
    assert there.broken() == ()


@BOTH
def test_of_a_webhook_that_comes(there: Place, moment: str) -> None:
    """The bank, which was not answered, reports it again: it is kept once, and has its effect."""
    there.serve(f"receive_webhook:{moment}:exit")
    there.share_out()
    payment_id, at = there.pay_at_bank(), datetime.now(UTC)
    there.approve(payment_id)
    _dies_of(there, lambda: _notify(there, payment_id, at))

    there.serve()
    word = "received" if moment == "before" else "duplicate"
    assert _notify(there, payment_id, at) == (200, {"status": word})
    _ends_by_webhook(there, payment_id)


@BOTH
def test_of_a_webhook_that_is_handled(there: Place, moment: str) -> None:
    """The check it asks for is made, by whoever comes next."""
    there.serve()
    there.share_out()
    payment_id = there.pay_at_bank()
    there.approve(payment_id)
    assert _notify(there, payment_id, datetime.now(UTC))[0] == 200
    there.dies("pgw worker verify", f"handle_webhook:{moment}:exit")
    _ends_by_webhook(there, payment_id)


def _put_event(there: Place, **columns: Any) -> None:
    """Put an unreadable event into the outbox, as the first that was published."""
    engine = open_engine(there.database)
    try:
        with engine.begin() as connection:
            nonsense = {"type": "nonsense", "occurred_at": datetime.now(UTC).isoformat()}
            connection.execute(insert(outbox).values(event=nonsense, published=1, **columns))
    finally:
        engine.dispose()


@BOTH
def test_of_an_event_that_is_given_up(there: Place, moment: str) -> None:
    """Whoever comes next gives it up, or finds that it was."""
    _put_event(there)
    there.serve(f"die:{moment}:exit")
    assert there.server.process.wait(STOP_LIMIT_S) == -signal.SIGKILL
    there.serve()
    wait_until(lambda: len(there.told("pgw outbox dead")["items"]) == 1, "the dead event")


@BOTH
def test_of_an_event_that_is_put_back(there: Place, moment: str) -> None:
    """It stands in the outbox once more, not twice."""
    _put_event(there, dead_reason="nobody can read it")
    there.dies("pgw outbox requeue --all", f"requeue:{moment}:exit")
    assert len(there.rows(outbox)) == (1 if moment == "before" else 2)
    there.does("pgw outbox requeue --all")
    assert [row["dead_reason"] for row in there.rows(outbox)] == ["REQUEUED", None]


@BOTH
def test_of_a_key_that_is_made(there: Place, moment: str) -> None:
    """One that was never displayed can be revoked; another is made."""
    there.dies("pgw key create m_001", f"make_key:{moment}:exit")
    lost = [row["key_id"] for row in there.rows(merchant_keys)]
    assert len(lost) == (0 if moment == "before" else 1)
    there.does("pgw key create m_001")
    for key_id in lost:
        there.does(f"pgw key revoke {key_id}")
    assert [row["revoked_at"] is None for row in there.rows(merchant_keys)].count(True) == 1
    assert len(there.rows(audit_log)) == len(there.rows(merchant_keys)) + len(lost)


@BOTH
def test_of_a_key_that_is_revoked(there: Place, moment: str) -> None:
    """Revoked again, it was revoked once."""
    there.does("pgw key create m_001")
    (key,) = there.rows(merchant_keys)
    there.dies(f"pgw key revoke {key['key_id']}", f"revoke_key:{moment}:exit")
    (key,) = there.rows(merchant_keys)
    assert (key["revoked_at"] is None) == (moment == "before")
    there.does(f"pgw key revoke {key['key_id']}")
    assert [row["action"] for row in there.rows(audit_log)] == ["key.create", "key.revoke"]


@BOTH
@pytest.mark.parametrize("crossing", RELAYING)
def test_of_events_on_their_way_to_be_counted(
    tmp_path: Path, opened_bank: Bank, database_url: str, redis_url: str, crossing: str, moment: str
) -> None:
    """Each event is on the stream once, in its order, and counted once; so are the minutes."""
    with place(tmp_path, opened_bank, database_url, REDIS_URL=redis_url) as there:
        there.serve()
        there.share_out()
        for _ in range(3):
            there.pay_in_vain()
        there.dies("pgw worker metrics --once", f"{crossing}:{moment}:exit")
        there.does("pgw worker metrics --once")
        published = [row["published"] for row in there.rows(outbox)]
        assert published == [*range(1, len(published) + 1)]
        assert [number for number, _ in asyncio.run(on_stream(redis_url))] == published
        expected = recount(there.database)
        assert asyncio.run(shared_counts(redis_url)) == expected
        assert history(there.database) == by_minute(expected)
