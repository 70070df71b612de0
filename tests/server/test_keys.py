"""Who may pass: changes need the admin key always, everything but /ops needs it once others can reach the server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pgw.core.ledger.configuration import changes_since
from pgw.server.http.operation import Operation, Who
from pgw.server.routes.operations import OPERATIONS
from pgw.server.routes.operator_commands import CommandBody
from pgw.server.routes.overrides import CommandQuery
from tests.server.serving import Inside, Served, inside
from tests.server.wire import ADMIN, Answer, Api, new_key, payment

FIRST, SECOND = "first-key-0123456789", "sécond?key"
OPEN_BIND = {"BIND_ADDR": "0.0.0.0:3000", "INTERNAL_API_KEY": f"{FIRST}, {SECOND}"}
PRODUCTION = {"PGW_ENV": "production", "BIND_ADDR": "127.0.0.1:3000", "INTERNAL_API_KEY": FIRST}

UNAUTHORIZED, FORBIDDEN = (401, "UNAUTHORIZED"), (403, "FORBIDDEN")

ADMINS = [each for each in OPERATIONS if each.who is Who.ADMIN]
GUARDED = [each for each in OPERATIONS if each.who in {Who.MERCHANT, Who.READER}]


def _named(each: Operation) -> str:
    return f"{each.method} {each.path}"


def _ask(api: Api, each: Operation, headers: dict[str, str]) -> Answer:
    """Ask as well as one can without knowing anything: what comes back past the guard does not matter."""
    path = each.path.format(payment_id="x", gateway_id="hdfc", merchant_id="m_001", payment_method="UPI")
    # An order that needs no body would hold for every other test: it is only previewed, or refused past the guard.
    path += "?dry_run=true" if each.query is CommandQuery else ""
    body = {"ttl_seconds": 0} if each.body is CommandBody and each.query is None else {}
    return api.call(each.method.upper(), path, body if each.body else None, headers)


@pytest.fixture(scope="module", params=["others can reach it", "production"])
def exposed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """Run the app as if it were bound to every address, and on a loopback in production."""
    settings = OPEN_BIND if request.param == "others can reach it" else PRODUCTION
    with inside(tmp_path_factory.mktemp("exposed"), settings) as running:
        yield running


@pytest.mark.parametrize("each", ADMINS, ids=_named)
def test_a_change_needs_the_admin_key_even_at_home(server: Served, each: Operation) -> None:
    assert _ask(server.api, each, {}).refusal == UNAUTHORIZED
    for wrong in (
        "x",
        "dev-internal-key ",
        "dev-internal-keY",
        "dev-internal",
        "dev-internal-key,",
        "\xff",
        "x" * 5000,
    ):
        answer = _ask(server.api, each, {"X-Internal-Api-Key": wrong})
        # White space around a header's value is not part of it.
        assert answer.refusal == FORBIDDEN or wrong.strip() == "dev-internal-key"
    assert _ask(server.api, each, ADMIN).status not in {401, 403}


@pytest.mark.parametrize("each", GUARDED, ids=_named)
def test_nothing_else_needs_a_key_at_home(server: Served, each: Operation) -> None:
    assert _ask(server.api, each, {}).status not in {401, 403}


@pytest.mark.parametrize("each", [*GUARDED, *ADMINS], ids=_named)
def test_away_from_home_every_route_needs_the_key(exposed: Inside, each: Operation) -> None:
    if each.path == "/sandbox/book" and exposed.runtime.settings.production:
        assert _ask(exposed.api, each, {}).refusal == (404, "NOT_FOUND")
        return
    assert _ask(exposed.api, each, {}).refusal == UNAUTHORIZED
    assert _ask(exposed.api, each, ADMIN).refusal == FORBIDDEN
    assert _ask(exposed.api, each, {"Authorization": f"Bearer {FIRST}"}).refusal == UNAUTHORIZED
    assert _ask(exposed.api, each, {"X-Internal-Api-Key": FIRST}).status not in {401, 403}


@pytest.mark.parametrize("path", ["/ops/liveness", "/ops/readiness"])
def test_probes_need_no_key_anywhere(exposed: Inside, path: str) -> None:
    assert exposed.api.get(path).status == 200


def test_without_a_key_nothing_is_taken(exposed: Inside) -> None:
    assert exposed.api.pay().refusal == UNAUTHORIZED
    assert exposed.api.get("/payments", X_Internal_Api_Key=FIRST).document["items"] == []


def test_every_member_of_the_key_is_valid_and_the_whole_is_not(tmp_path: Path) -> None:
    with inside(tmp_path, OPEN_BIND) as running:
        as_sent = SECOND.encode().decode("latin-1")
        assert running.api.get("/payments", X_Internal_Api_Key=FIRST).status == 200
        assert running.api.get("/payments", X_Internal_Api_Key=as_sent).status == 200
        assert running.api.get("/payments", X_Internal_Api_Key=f"{FIRST}, {as_sent}").refusal == FORBIDDEN
        assert running.api.get("/payments", X_Internal_Api_Key=f"{FIRST},").refusal == FORBIDDEN
        assert running.api.get("/payments", X_Internal_Api_Key="").refusal == UNAUTHORIZED
        # A byte that is no text is not taken for the question mark it could be replaced by.
        assert running.api.get("/payments", X_Internal_Api_Key=as_sent.replace("?", "\xff")).refusal == FORBIDDEN


BYPASSES = [
    b"GET /payments/ HTTP/1.1\r\n",
    b"GET /payments// HTTP/1.1\r\n",
    b"GET /payments?x HTTP/1.1\r\n",
    b"GET http://localhost/payments HTTP/1.1\r\n",
    b"GET /payments HTTP/1.0\r\n",
    b"GET /payments HTTP/1.1\r\nX-Forwarded-For: 127.0.0.1\r\nForwarded: for=127.0.0.1;host=localhost\r\n",
    b"GET /payments HTTP/1.1\r\nHost: localhost\r\n",
    b"GET /payments HTTP/1.1\r\nX-Original-URL: /ops/liveness\r\nX-Rewrite-URL: /ops/liveness\r\n",
    b"GET /payments HTTP/1.1\r\nX-Internal-Api-Key: \r\n",
    b"GET /payments HTTP/1.1\r\nX-Internal-Api-Key: wrong\r\nX-Internal-Api-Key: " + FIRST.encode() + b"\r\n",
    b"GET /payments HTTP/1.1\r\nX-Internal-Api-Key : " + FIRST.encode() + b"\r\n",
    b"GET /payments HTTP/1.1\r\nA: b\nX-Internal-Api-Key: " + FIRST.encode() + b"\r\n",
    b"GET /payments HTTP/1.1\r\nX_Internal_Api_Key: " + FIRST.encode() + b"\r\n",
    b"GET /payments?X-Internal-Api-Key=" + FIRST.encode() + b" HTTP/1.1\r\n",
    b"GET /payments HTTP/1.1\r\nCookie: X-Internal-Api-Key=" + FIRST.encode() + b"\r\n",
    b"OPTIONS /payments HTTP/1.1\r\n",
    b"TRACE /payments HTTP/1.1\r\n",
    b"get /payments HTTP/1.1\r\n",
    b"POST /payments HTTP/1.1\r\nX-HTTP-Method-Override: GET\r\nX-Method-Override: GET\r\n",
    b"GET /ops/../payments HTTP/1.1\r\n",
    b"GET /ops/liveness/../../payments HTTP/1.1\r\n",
    b"GET /ops/%2e%2e/payments HTTP/1.1\r\n",
    b"GET /%70ayments HTTP/1.1\r\n",
    b"GET //payments HTTP/1.1\r\n",
    b"GET /payments;a=b HTTP/1.1\r\n",
    b"GET /ops/liveness#/payments HTTP/1.1\r\n",
    b"GET /openapi.json HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n",
]


@pytest.mark.parametrize("head", BYPASSES, ids=lambda head: head.decode("latin-1")[:60])
def test_no_way_around_the_key(exposed: Inside, head: bytes) -> None:
    """By method, path, host, doubled or disguised headers: nothing but the probes answers with anything."""
    (answer,) = exposed.api.raw(head + b"Connection: close\r\n\r\n")
    assert answer.status in {400, 401, 403, 404, 405} or answer.document == {"status": "alive", "checks": []}


def test_who_changes_something_is_kept_as_claimed(within: Inside) -> None:
    """Printable ASCII of at most 64 characters; any other claim is nobody's."""
    claims = {
        "jane@example.org": "jane@example.org",
        "a b": "a b",
        "x" * 65: "unknown",
        "né": "unknown",
        "a\tb": "unknown",
    }
    for claimed, kept in claims.items():
        answer = within.api.call("PATCH", "/gateways/hdfc", {"priority": 20}, {**ADMIN, "X-Actor": claimed})
        assert answer.status == 200
        assert _newest_actor(within) == kept
    assert within.api.call("PATCH", "/gateways/hdfc", {"priority": 20}, ADMIN).status == 200
    assert _newest_actor(within) == "unknown"


def _newest_actor(within: Inside) -> str:
    return within.within(within.runtime.ledger.read(changes_since, 0))[-1].actor


def test_production_has_no_sandbox(tmp_path: Path) -> None:
    """Its book is not there, whoever asks, and none of its gateways can be enabled."""
    with inside(tmp_path, PRODUCTION) as running:
        key = {"X-Internal-Api-Key": FIRST}
        assert running.api.call("GET", "/sandbox/book", headers=key).refusal == (404, "NOT_FOUND")
        assert running.api.call("GET", "/sandbox/book").refusal == (404, "NOT_FOUND")
        assert running.api.call("PATCH", "/gateways/hdfc", {"is_enabled": True}, key).refusal == (409, "CONFLICT")
        assert running.api.call("PATCH", "/gateways/hdfc", {"priority": 5}, key).status == 200
        refused = running.api.call("POST", "/payments", payment(), {**key, "Idempotency-Key": new_key()})
        assert refused.refusal == (503, "NO_GATEWAY_AVAILABLE")
