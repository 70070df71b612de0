"""A merchant's key sees and pays for that merchant alone, on every route; what is no live key opens nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgw.core.flow.runtime.clock import SystemClock
from pgw.core.flow.runtime.merchant_keys import create, revoke
from pgw.server.http.operation import Operation, Who
from pgw.server.routes.operations import OPERATIONS
from tests.server.documented import SPEC
from tests.server.serving import Inside, inside
from tests.server.wire import Answer, Api, Sent, new_key, payment

OWN_KEY = "first-key-0123456789"
HOMES = {
    "at home": {},
    "others can reach it": {"BIND_ADDR": "0.0.0.0:3000", "INTERNAL_API_KEY": OWN_KEY},
}

OF_PAYMENTS = [each for each in OPERATIONS if each.path.startswith("/payments")]
OF_ONE = [each for each in OF_PAYMENTS if "{payment_id}" in each.path]
UNAUTHORIZED, MISMATCH, NOT_FOUND = (401, "UNAUTHORIZED"), (403, "MERCHANT_MISMATCH"), (404, "NOT_FOUND")
NOBODY = "01980c5e-7f4a-7cc2-9a5c-6b3f7d2e1a90"


@dataclass(frozen=True)
class Merchant:
    """A merchant with a key, and a payment made with it."""

    merchant_id: str
    key: str
    key_id: str
    paid: dict[str, Any]

    @property
    def shown(self) -> dict[str, str]:
        """Write the header."""
        return {"Authorization": f"Bearer {self.key}"}


@dataclass(frozen=True)
class Market:
    """A server and two merchants."""

    running: Inside
    admin: dict[str, str]
    one: Merchant
    other: Merchant

    @property
    def api(self) -> Api:
        """Speak to the server, once it has looked at its keys: these tests run it without its loops."""
        _look(self.running)
        return self.running.api


def _look(running: Inside) -> None:
    running.within(running.runtime.merchant_keys.refresh())


def _merchant(running: Inside, merchant_id: str, seed: int) -> Merchant:
    work = create(running.runtime.ledger, SystemClock(), Random(seed), merchant_id, "development", "asha", "test")
    key, told = running.within(work)
    _look(running)
    body = payment(merchant_id=merchant_id, customer_id=f"c_{merchant_id}", merchant_reference=f"r_{merchant_id}")
    paid = running.api.pay(body, headers={"Authorization": f"Bearer {key}"})
    assert paid.status == 201
    return Merchant(merchant_id, key, told.key_id, paid.document)


@pytest.fixture(scope="module", params=HOMES)
def market(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    """Run the app where no key is needed, and where one is."""
    variables = HOMES[request.param]
    admin = {"X-Internal-Api-Key": variables.get("INTERNAL_API_KEY", "dev-internal-key")}
    with inside(tmp_path_factory.mktemp("market"), variables) as running:
        for gateway in ("hdfc", "icici"):
            assert running.api.call("PATCH", f"/gateways/{gateway}", {"is_enabled": True}, admin).status == 200
        yield Market(running, admin, _merchant(running, "m_one", 1), _merchant(running, "m_other", 2))


def _ask(market: Market, each: Operation, payment_id: str, headers: dict[str, str], query: str = "") -> Answer:
    body = {"as": "SUCCESS", "reason": "x", "evidence": "y"} if each.body else None
    return market.api.call(each.method.upper(), each.path.format(payment_id=payment_id) + query, body, headers)


def _without_id(answer: Answer) -> dict[str, Any]:
    return {name: value for name, value in answer.document.items() if name != "request_id"}


@pytest.mark.parametrize("each", OF_ONE, ids=lambda each: f"{each.method} {each.path}")
def test_another_merchant_s_payment_is_answered_like_one_that_is_not_there(market: Market, each: Operation) -> None:
    """Word for word on every route of one payment, however it is asked for; what admins may do no merchant may."""
    mine, theirs = market.one.paid["payment_id"], market.other.paid["payment_id"]
    if each.who is Who.ADMIN:
        assert {_ask(market, each, asked, market.one.shown).refusal for asked in (mine, theirs)} == {UNAUTHORIZED}
        return
    assert each.who is Who.MERCHANT
    for query in ("", "?recompute=true") if "recompute" in str(SPEC["paths"][each.path]) else ("",):
        refused = _ask(market, each, theirs, market.one.shown, query)
        assert refused.refusal == NOT_FOUND
        assert _without_id(refused) == _without_id(_ask(market, each, NOBODY, market.one.shown, query))
        own = [_ask(market, each, theirs, market.other.shown, query), _ask(market, each, mine, market.admin, query)]
        assert all(answer.refusal != NOT_FOUND and answer.status in {200, 404} for answer in own)


def test_a_list_holds_one_s_own_whatever_is_asked_for(market: Market) -> None:
    """A filter narrows what one may see: another merchant's name leaves nothing."""
    one, other = market.one, market.other
    theirs = {other.paid[name] for name in ("payment_id", "transaction_ref", "customer_id", "merchant_reference")}
    queries = [
        "",
        f"merchant_id={one.merchant_id}",
        f"cursor={max(one.paid['payment_id'], other.paid['payment_id'])}",
        "status=SUCCESS&limit=1",
        "since=2020-01-01T00:00:00Z",
        *(f"ref={ref}" for ref in theirs),
    ]
    for query in queries:
        items = market.api.get(f"/payments?{query}", Authorization=f"Bearer {one.key}").document["items"]
        assert {each["merchant_id"] for each in items} <= {one.merchant_id}
    for query in (f"merchant_id={other.merchant_id}", f"merchant_id={other.merchant_id}&limit=1", *queries[5:]):
        answer = market.api.get(f"/payments?{query}", Authorization=f"Bearer {one.key}")
        assert answer.document == {"items": [], "next": None}
    whole = market.api.get("/payments", X_Internal_Api_Key=market.admin["X-Internal-Api-Key"]).document["items"]
    assert {one.merchant_id, other.merchant_id} <= {each["merchant_id"] for each in whole}


def test_a_body_that_names_another_merchant_is_refused_and_nothing_is_written(market: Market) -> None:
    """The key it came with is not used up: its rightful merchant makes a new payment with it."""
    key, body = new_key(), payment(merchant_id=market.other.merchant_id)
    before = market.api.get("/payments?limit=200", **_plain(market.admin)).document
    assert market.api.pay(body, key, market.one.shown).refusal == MISMATCH
    assert market.api.get("/payments?limit=200", **_plain(market.admin)).document == before
    rightful = market.api.pay(body, key, market.other.shown)
    assert rightful.status == 201
    assert "idempotent-replayed" not in rightful.headers


def _plain(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("-", "_"): value for name, value in headers.items()}


def test_nobody_replays_another_s_payment(market: Market) -> None:
    """One Idempotency-Key of two merchants is two payments; another's body is refused whatever key it comes with."""
    key = new_key()
    bodies = {each.merchant_id: payment(merchant_id=each.merchant_id) for each in (market.one, market.other)}
    first = market.api.pay(bodies["m_one"], key, market.one.shown)
    second = market.api.pay(bodies["m_other"], key, market.other.shown)
    assert (first.status, second.status) == (201, 201)
    assert first.document["payment_id"] != second.document["payment_id"]
    assert market.api.pay(bodies["m_one"], key, market.other.shown).refusal == MISMATCH
    again = market.api.pay(bodies["m_one"], key, market.one.shown)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.document["payment_id"] == first.document["payment_id"]


def test_a_key_opens_no_door_but_the_merchant_s(market: Market) -> None:
    """Changes want the admin key everywhere; what is open at home wants it elsewhere."""
    exposed = bool(market.running.runtime.settings.bind_host == "0.0.0.0")
    for each in OPERATIONS:
        if each.who in {Who.MERCHANT, Who.ANYBODY} or "{gateway}" in each.path:
            continue
        path = each.path.format(payment_id=NOBODY, gateway_id="hdfc", merchant_id="m_one", payment_method="UPI")
        answer = market.api.call(each.method.upper(), path, {} if each.body else None, market.one.shown)
        wanted = each.who is Who.ADMIN or exposed
        assert (answer.refusal == UNAUTHORIZED) == wanted, each


def test_the_admin_key_beside_a_merchant_s_is_the_admin_s(market: Market) -> None:
    both = {**market.one.shown, **market.admin}
    assert market.api.call("GET", f"/payments/{market.other.paid['payment_id']}", headers=both).status == 200
    wrong = {**market.one.shown, "X-Internal-Api-Key": "wrong"}
    assert market.api.call("GET", f"/payments/{market.one.paid['payment_id']}", headers=wrong).status == 200
    assert market.api.call("GET", f"/payments/{market.other.paid['payment_id']}", headers=wrong).refusal == NOT_FOUND


def _shown(market: Market) -> list[str]:
    key, other = market.one.key, market.other.key
    start, _, secret = key.rpartition("_")
    return [
        "",
        "Bearer",
        key,
        f"Basic {key}",
        f"Bearer {key}, Bearer {other}",
        f"Bearer {key[:-1]}",
        f"Bearer {key}a",
        f"Bearer {start}_{other.rpartition('_')[2]}",
        f"Bearer pgw_production_{market.one.key_id}_{secret}",
        f"Bearer pgw_development_000000000000_{secret}",
        f"Bearer {OWN_KEY}",
        "Bearer dev-internal-key",
        "Bearer \xff\xfe",
        'Digest username="x", realm="y"',
        "Bearer " + "x" * 6000,
    ]


def test_what_is_no_live_key_is_refused_without_telling_why(market: Market) -> None:
    """Malformed, unknown, revoked: one answer, on every route that takes a key, at home too; it says what to show."""
    gone = _merchant(market.running, "m_gone", 3)
    work = revoke(market.running.runtime.ledger, SystemClock(), Random(4), gone.key_id, "asha", "test")
    market.running.within(work)
    said = []
    for each in OF_PAYMENTS:
        if each.who is not Who.MERCHANT:
            continue
        for shown in (f"Bearer {gone.key}", *_shown(market)):
            headers = {"Authorization": shown, "Idempotency-Key": new_key()}
            path = each.path.format(payment_id=gone.paid["payment_id"])
            body = payment(merchant_id="m_gone") if each.body else None
            answer = market.api.call(each.method.upper(), path, body, headers)
            assert (answer.refusal, answer.headers["www-authenticate"]) == (UNAUTHORIZED, 'Bearer realm="pgw"')
            said.append(_without_id(answer))
    assert [said[0]] * len(said) == said


def test_two_authorization_headers_are_none(market: Market) -> None:
    """Two readers of one request could each take another one for the key."""
    line = f"Authorization: Bearer {market.one.key}\r\n".encode()
    _look(market.running)
    head = b"GET /payments HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    (once,), (twice,) = (market.running.api.raw(head + lines + b"\r\n") for lines in (line, line * 2))
    assert (once.status, twice.refusal) == (200, UNAUTHORIZED)


@settings(max_examples=60)
@given(shown=st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=80))
def test_any_authorization_at_all_is_an_answer(market: Market, shown: str) -> None:
    headers = {"Authorization": f"Bearer {shown}"}
    _look(market.running)
    with Sent(market.running.api, "GET", "/payments", None, headers) as sent:
        assert sent.answer().refusal == UNAUTHORIZED


def test_keys_out_of_sight_for_long_refuse_for_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can say whether a key was revoked meanwhile; who needs none goes on."""
    with inside(tmp_path) as running:
        running.api.set_gateways(is_enabled=True)
        one = _merchant(running, "m_one", 1)
        monkeypatch.setattr("pgw.core.flow.runtime.merchant_keys.KEYS_LIMIT_S", -1.0)
        refused = running.api.get("/payments", Authorization=f"Bearer {one.key}")
        assert (refused.refusal, refused.headers["retry-after"]) == ((503, "LEDGER_UNAVAILABLE"), "1")
        assert running.api.get("/payments").status == 200
