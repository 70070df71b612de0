"""No request, however odd, is answered with a 5xx: not by a route, not by a byte, on neither ledger."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgw.core.routing.score import SEED_SCORING
from pgw.server.routes.operations import OPERATIONS
from tests.server.serving import Served, served
from tests.server.wire import ADMIN, payment
from tests.services import fresh_database

EXAMPLES = settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

ODD_TEXT = st.text(max_size=40) | st.sampled_from(
    [
        "",
        "\0",
        "\ud800",
        "'",
        '"',
        "%",
        "\\",
        "null",
        "NaN",
        "-1",
        "9" * 30,
        "9" * 5000,
        "1e400",
        "\u0663",
        "a\r\nb",
        "../..",
    ]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | ODD_TEXT
    | st.sampled_from([2**31, 2**53, 2**63, -(2**63) - 1, 10**12, 10**12 + 1, 0, 1])
)
DOCUMENTS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ODD_TEXT, inner, max_size=4), max_leaves=8
)

CARD = {"type": "CARD", "token": "t", "bin": "411111", "last4": "1111", "exp_month": 1, "exp_year": 2030, "name": "n"}
WHOLE: list[dict[str, Any]] = [
    payment(
        merchant_reference="r", metadata={"a": "b"}, customer={"email": "e"}, client={"ip": "i"}, return_url="http://x"
    ),
    payment(payment_method="CARD", instrument=CARD),
    {"merchant_id": "m", "max_attempts": 3, "latency_budget_ms": 10_000, "retry_on_timeout": False, "enabled": True},
    {"priority": 1, "supported_methods": ["UPI"], "timeout_ms": 50, "min_amount_minor": 1, "max_amount_minor": 10**12},
    {"reason": "INC-4412", "ttl_seconds": 60},
    msgspec.to_builtins(SEED_SCORING),
]
"""Bodies that are right, to be made wrong in one place."""


@st.composite
def _almost_right(draw: st.DrawFn) -> Any:
    """Take a good body and put anything in the place of one of its values, or in a new one."""
    document = json.loads(json.dumps(draw(st.sampled_from(WHOLE))))
    place = document
    while True:
        name = draw(st.sampled_from(sorted(place)) | ODD_TEXT)
        if isinstance(place.get(name), dict) and draw(st.booleans()):
            place = place[name]
            continue
        place[name] = draw(DOCUMENTS)
        return document


def _written(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")


@st.composite
def _spliced(draw: st.DrawFn) -> bytes:
    """Cut an almost right body short, or put what is no document of ours in the place of a piece of it."""
    body = _written(draw(_almost_right()))
    place = draw(st.integers(0, len(body)))
    piece = draw(
        st.sampled_from([b"", b"9" * 5000, b"1e400", b"[" * 2000, b"\xff", b"\0", b"}", b"{}", b"\\ud800", b",,"])
    )
    return body[:place] + piece + (body[place:] if draw(st.booleans()) else b"")


BODIES = st.binary(max_size=60) | DOCUMENTS.map(_written) | _almost_right().map(_written) | _spliced()
HEADER_TEXT = ODD_TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")[:2000])
NAMES_OF_HEADERS = [
    "If-Match",
    "X-Actor",
    "X-Request-Id",
    "Content-Type",
    "Idempotency-Key",
    "Host",
    "Upgrade",
    "Expect",
]
HEADERS = st.dictionaries(st.sampled_from(NAMES_OF_HEADERS), HEADER_TEXT, max_size=2)
PART = ODD_TEXT.map(lambda text: quote(text.encode("utf-8", "surrogatepass"), safe="")[:3000]) | st.sampled_from(
    ["hdfc", "UPI", "m", "00000000-0000-7000-8000-000000000000", "%00", "%ff", "%", "%zz", "*", ";", "a?b", "a#b"]
)
NAMES = [
    "limit",
    "since",
    "cursor",
    "ref",
    "status",
    "merchant_id",
    "amount_minor",
    "payment_method",
    "currency",
    "recompute",
    "gateway_id",
    "dry_run",
]


@st.composite
def _target(draw: st.DrawFn, path: str) -> str:
    for name in ("payment_id", "gateway_id", "merchant_id", "payment_method"):
        path = path.replace(f"{{{name}}}", draw(PART)) if f"{{{name}}}" in path else path
    query = draw(st.lists(st.tuples(st.sampled_from(NAMES) | PART, PART), max_size=3))
    return path + ("?" + "&".join("=".join(pair) for pair in query) if query else "")


@st.composite
def _request(draw: st.DrawFn) -> bytes:
    """Write a request that is HTTP, whatever else it is; most go where they belong, and may do what they ask."""
    operation = draw(st.sampled_from(OPERATIONS) | st.sampled_from([each for each in OPERATIONS if each.body]))
    often = draw(st.integers(0, 9))
    method = operation.method.upper() if often else draw(st.sampled_from(["DELETE", "OPTIONS", "get", "x", "POST"]))
    target = draw(_target(operation.path)) if often != 1 else "/" + draw(PART)
    body = draw(BODIES) if operation.body or not often else None
    headers = {"Idempotency-Key": draw(st.uuids()).hex.encode(), **(draw(HEADERS) if often > 6 else {})}
    if often != 2:
        headers["X-Internal-Api-Key"] = ADMIN["X-Internal-Api-Key"].encode()
    if body is not None:
        headers["Content-Length"] = b"%d" % len(body)
    lines = [f"{method} {target} HTTP/1.1".encode("ascii", "replace")]
    lines += [name.encode() + b": " + value.replace(b"\r\n", b"") for name, value in headers.items()]
    return b"\r\n".join([*lines, b"Connection: close", b"", b""]) + (body or b"")


@st.composite
def _bytes(draw: st.DrawFn) -> bytes:
    """Write a request and then spoil some of its bytes."""
    spoilt = bytearray(draw(_request() | st.binary(max_size=200)))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, max(len(spoilt) - 1, 0)))
        spoilt[place : place + draw(st.integers(0, 2))] = draw(
            st.binary(max_size=3) | st.sampled_from([b"\r\n", b"\n", b"\0", b" "])
        )
    return bytes(spoilt)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Run a server that may be left in any state."""
    with ExitStack() as stack:
        variables = {}
        if request.param == "postgres":
            variables["DATABASE_URL"] = stack.enter_context(fresh_database(request.getfixturevalue("postgres_url")))
        yield stack.enter_context(served(tmp_path_factory.mktemp(f"any-{request.param}"), **variables))


TOLD_TO = {"NO_GATEWAY_AVAILABLE", "PAUSED"}
"""Refusals with a 503 that an order of these tests may lead to."""


def _faults(server: Served, sent: bytes, *, ended: bool) -> tuple[int, list[tuple[int, str | None]]]:
    """Count the answers, and list those that say it was our fault; payments may have been told to stay out."""
    refusals = [each.refusal for each in server.api.raw(sent, ended=ended)]
    return len(refusals), [each for each in refusals if each[0] >= 500 and each[1] not in TOLD_TO]


@EXAMPLES
@given(sent=_request())
def test_a_request_is_answered_once_and_never_with_a_fault_of_ours(target: Served, sent: bytes) -> None:
    assert _faults(target, sent, ended=False) == (1, [])


@EXAMPLES
@given(sent=_bytes())
def test_spoilt_bytes_are_answered_or_not_but_never_with_a_fault_of_ours(target: Served, sent: bytes) -> None:
    """Whoever stops in the middle of a request may get no answer."""
    _, faults = _faults(target, sent, ended=True)
    assert faults == []


def test_after_all_that_the_server_works_and_its_log_knows_of_no_fault(target: Served) -> None:
    assert target.api.call("POST", "/ops/resume", headers=ADMIN).status == 200
    assert target.api.call("PUT", "/scoring/config", msgspec.to_builtins(SEED_SCORING), ADMIN).status == 200
    assert target.api.get("/ops/readiness").document["status"] == "ready"
    for each in target.api.get("/circuit-breaker/status").document["items"]:
        if each["override"]:
            breaker = f"{each['gateway_id']}/{each['payment_method']}"
            assert target.api.call("POST", f"/circuit-breaker/clear/{breaker}", headers=ADMIN).status == 200
    for gateway_id in ("hdfc", "icici", "axis"):
        whole = {"is_enabled": True, "supported_methods": ["UPI"], "min_amount_minor": 1, "max_amount_minor": 10**12}
        assert target.api.call("PATCH", f"/gateways/{gateway_id}", whole, ADMIN).status == 200
    assert target.api.pay().status == 201
    log = target.log.read_text(errors="replace")
    assert [line for line in log.splitlines() if " ERROR " in line or " CRITICAL " in line or "Traceback" in line] == []
