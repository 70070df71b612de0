"""POST /webhooks/razorpay: only what the gateway signed comes in, each body once, kept before it is confirmed."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.ledger.engine.writer import LedgerUnavailable
from pgw.core.ledger.tables import webhook_deliveries
from pgw.core.verification.webhook import digest_of, signature_of
from tests.ledgers import rows
from tests.server.serving import Inside, inside, served
from tests.server.wire import Answer

NEW, OLD = "the-new-secret", "the-old-secret"
SECRETS = {"RAZORPAY_WEBHOOK_SECRET": f"{NEW},{OLD}"}
TARGET = "/webhooks/razorpay"

NOT_FOUND, UNAUTHORIZED, INVALID = (404, "NOT_FOUND"), (401, "UNAUTHORIZED"), (400, "INVALID_REQUEST")
PAYMENT_ID = "01a209b6-07db-7bfb-9c8d-7b1a3a9dbc3b"

_numbers = count(1)


def _event(age: timedelta = timedelta(0), **entity: Any) -> bytes:
    """Write an event nobody has sent before."""
    payment = {"id": f"pay_{next(_numbers):014d}", "notes": {"receipt": f"{PAYMENT_ID}-1"}, **entity}
    moment = datetime.now(UTC) - age
    document = {"event": "payment.captured", "payload": {"payment": {"entity": payment}}}
    return json.dumps({**document, "created_at": int(moment.timestamp())}).encode()


def _send(within: Inside, body: bytes, secret: str = NEW, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return within.api.call("POST", TARGET, body, {"X-Razorpay-Signature": signature_of(body, secret), **named})


def _kept(within: Inside) -> list[dict[str, Any]]:
    return within.within(rows(within.runtime.ledger, webhook_deliveries))


@pytest.fixture(scope="module")
def taking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """Run the app with two secrets."""
    with inside(tmp_path_factory.mktemp("webhooks"), SECRETS) as running:
        yield running


@pytest.mark.parametrize("secret", [NEW, OLD])
def test_a_signed_event_is_kept_before_it_is_confirmed(taking: Inside, secret: str) -> None:
    body = _event()
    answer = _send(taking, body, secret)
    assert (answer.status, answer.document) == (200, {"status": "received"})
    (kept,) = [row for row in _kept(taking) if row["digest"] == digest_of(body)]
    assert (kept["gateway_id"], kept["event"], kept["handled_at"]) == ("razorpay", "payment.captured", None)
    assert (kept["payment_id"], kept["attempt_number"]) == (PAYMENT_ID, 1)


def test_the_same_body_again_is_a_duplicate_whatever_its_headers_say(taking: Inside) -> None:
    """The event's id is signed by nobody: a new one makes no new event, and a used one no duplicate."""
    body, other = _event(), _event()
    assert _send(taking, body, x_razorpay_event_id="one").document == {"status": "received"}
    before = _kept(taking)
    assert _send(taking, body, x_razorpay_event_id="two").document == {"status": "duplicate"}
    assert _send(taking, body, OLD).document == {"status": "duplicate"}
    assert _kept(taking) == before
    assert _send(taking, other, x_razorpay_event_id="one").document == {"status": "received"}


def test_of_many_copies_in_any_order_each_body_is_kept_once(taking: Inside) -> None:
    bodies = [_event() for _ in range(5)]
    before = len(_kept(taking))
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda body: _send(taking, body), [*bodies, *reversed(bodies), *bodies]))
    assert [answer.status for answer in answers] == [200] * 15
    assert sorted(answer.document["status"] for answer in answers) == ["duplicate"] * 10 + ["received"] * 5
    assert len(_kept(taking)) == before + 5


SIGNATURES = ["", "x", "0" * 64, "0" * 63, "\xff" * 64, "a" * 4000, "sha256=" + "0" * 64]


@pytest.mark.parametrize("signature", [None, *SIGNATURES], ids=lambda signature: str(signature)[:20])
def test_a_forged_event_is_refused_always_in_the_same_words(taking: Inside, signature: str | None) -> None:
    before = _kept(taking)
    headers = {} if signature is None else {"X-Razorpay-Signature": signature}
    answer = taking.api.call("POST", TARGET, _event(), headers)
    told = {name: value for name, value in answer.document.items() if name != "request_id"}
    assert told == {
        "type": "urn:pgw:problem:unauthorized",
        "title": "Unauthorized",
        "status": 401,
        "detail": "the body is not signed with a secret that is valid here",
        "code": "UNAUTHORIZED",
    }
    assert _kept(taking) == before


def test_neither_another_body_nor_another_secret_fits_a_signature(taking: Inside) -> None:
    body = _event()
    signature = signature_of(body, NEW)
    for sent in (body + b" ", body.replace(b"captured", b"Captured"), _event(), b""):
        assert taking.api.call("POST", TARGET, sent, {"X-Razorpay-Signature": signature}).refusal == UNAUTHORIZED
    for secret in (f"{NEW},{OLD}", "", "dev-internal-key"):
        assert _send(taking, body, secret).refusal == UNAUTHORIZED


def test_a_signature_given_twice_is_none(taking: Inside) -> None:
    body = _event()
    line = f"X-Razorpay-Signature: {signature_of(body, NEW)}\r\n"
    head = f"POST {TARGET} HTTP/1.1\r\nHost: x\r\n{line}{line}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    (answer,) = taking.api.raw(head.encode() + body)
    assert answer.refusal == UNAUTHORIZED


@pytest.mark.parametrize(
    ("age", "status"),
    [
        (timedelta(days=5), 200),
        (timedelta(days=5, hours=2), 400),
        (timedelta(days=4000), 400),
        (-timedelta(minutes=4), 200),
        (-timedelta(minutes=6), 400),
    ],
    ids=str,
)
def test_an_old_event_cannot_be_played_again(taking: Inside, age: timedelta, status: int) -> None:
    answer = _send(taking, _event(age))
    assert answer.status == status
    assert answer.pointers == ([] if status == 200 else ["/created_at"])


@pytest.mark.parametrize("body", [b"", b"null", b"{}", b"[" * 9000, b"\xff", b'{"event": "a"}', b"not json"])
def test_what_is_signed_but_no_event_is_refused(taking: Inside, body: bytes) -> None:
    before = _kept(taking)
    assert _send(taking, body).refusal == INVALID
    assert _kept(taking) == before


def test_no_webhooks_without_a_secret_or_of_another_gateway(taking: Inside, within: Inside) -> None:
    body = _event()
    assert _send(within, body, "").refusal == NOT_FOUND
    for name in ("hdfc", "Razorpay", "razorpay%20", "%72azorpay", "x"):
        signed = {"X-Razorpay-Signature": signature_of(body, NEW)}
        assert taking.api.call("POST", f"/webhooks/{name}", body, signed).refusal == NOT_FOUND
    assert taking.api.get(TARGET).refusal == (405, "METHOD_NOT_ALLOWED")


def test_a_body_that_is_too_large_is_refused(taking: Inside) -> None:
    assert _send(taking, _event(padding="x" * 70_000)).refusal == (413, "BODY_TOO_LARGE")


def test_nobody_needs_a_key_anywhere_the_signature_is_the_key(tmp_path: Path) -> None:
    exposed = {**SECRETS, "BIND_ADDR": "0.0.0.0:3000", "INTERNAL_API_KEY": "a-key-of-ones-own"}
    with inside(tmp_path, exposed) as running:
        assert _send(running, _event()).status == 200
        admin = {"X-Internal-Api-Key": "a-key-of-ones-own", "X-Razorpay-Signature": "0" * 64}
        assert running.api.call("POST", TARGET, _event(), admin).refusal == UNAUTHORIZED


@pytest.mark.parametrize("written", [None, False], ids=["perhaps written", "not written"])
def test_what_the_ledger_does_not_confirm_is_not_confirmed(
    taking: Inside, monkeypatch: pytest.MonkeyPatch, written: bool | None
) -> None:
    """The gateway sends it again; should it have been written, it is a duplicate then."""
    body = _event()

    async def unconfirmed(*_: object) -> bool:
        raise LedgerUnavailable("the ledger did not confirm in time", written=written)

    with monkeypatch.context() as patch:
        patch.setattr(OpenLedger, "commit", unconfirmed)
        refused = _send(taking, body)
    assert refused.refusal == (503, "LEDGER_UNAVAILABLE")
    assert _send(taking, body).document == {"status": "received"}


GARBAGE = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@GARBAGE
@given(
    body=st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["event", "created_at", "payload"]), inner),
        max_leaves=6,
    ).map(lambda document: json.dumps(document).encode()),
    signature=st.none() | st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF), max_size=80),
)
def test_no_garbage_is_a_fault_of_ours(taking: Inside, body: bytes, signature: str | None) -> None:
    """Without a signature drawn it is signed; a header with a control character is no HTTP, which is 400."""
    drawn = signature_of(body, NEW) if signature is None else signature
    answer = taking.api.call("POST", TARGET, body, {"X-Razorpay-Signature": drawn})
    assert answer.status in ({200, 400} if signature is None else {400, 401})


def test_card_data_in_a_webhook_is_neither_refused_nor_kept_nor_logged(tmp_path: Path) -> None:
    """The body may say anything about a card: of it only the event and the payment's names remain, and no secret."""
    planted = ["4111111111111111", "planted@example.org", "+919876543210"]
    body = _event(card={"number": planted[0], "cvv": "123"}, email=planted[1], contact=planted[2])
    with served(tmp_path, **SECRETS, PYTHONUNBUFFERED="1") as running:
        for secret, status in ((NEW, 200), (NEW, 200), ("forged", 401)):
            headers = {"X-Razorpay-Signature": signature_of(body, secret)}
            assert running.api.call("POST", TARGET, body, headers).status == status
        assert running.stop() == 0
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert digest_of(body).encode() in everything
    for word in (*planted, NEW, OLD, signature_of(body, NEW)):
        assert word.encode() not in everything
