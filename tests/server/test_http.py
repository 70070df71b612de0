"""Whatever bytes arrive, the answer is HTTP: a problem document, a request id; and the log holds no foreign word."""

import json
import re
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from sanic import Sanic

from tests.server.serving import Inside, Served, inside
from tests.server.wire import ADMIN, PATIENCE_S, Answer, Api, new_key, payment

UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")

END = b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

MALFORMED = {
    "nothing": b"\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "no version": b"GET /payments\r\n\r\n",
    "another version": b"GET /payments HTTP/3.0\r\n\r\n",
    "http2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "two spaces": b"GET  /payments HTTP/1.1\r\n\r\n",
    "no colon": b"GET /payments HTTP/1.1\r\nHost\r\n\r\n",
    "no path": b"GET payments" + END,
    "an authority": b"CONNECT x:443" + END,
    "control character in the path": b"GET /payments\x00" + END,
    "line feed in the path": b"GET /payments\nX-A:b" + END,
    "line feed in the method": b"GET\n2026-01-01 /payments" + END,
    "not ascii in the path": "GET /é HTTP/1.1\r\n\r\n".encode(),
    "line feed in a header": b"GET /ops/liveness HTTP/1.1\r\nA: b\nC: d\r\n\r\n",
    "carriage return in a header": b"GET /ops/liveness HTTP/1.1\r\nA: b\rC: d\r\n\r\n",
    "NUL in a header": b"GET /ops/liveness HTTP/1.1\r\nA: b\0\r\n\r\n",
    "folded header": b"GET /ops/liveness HTTP/1.1\r\nA: b\r\n c: d\r\n\r\n",
    "space before the colon": b"POST /payments HTTP/1.1\r\nContent-Length : 5\r\n\r\nabcde",
    "two lengths": b"POST /payments HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
    "length and chunks": b"POST /payments HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "another encoding": b"POST /payments HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "negative length": b"POST /payments HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    "signed length": b"POST /payments HTTP/1.1\r\nContent-Length: +5\r\n\r\nabcde",
    "length in other digits": "POST /payments HTTP/1.1\r\nContent-Length: \u0665\r\n\r\nabcde".encode(),
    "endless length": b"POST /payments HTTP/1.1\r\nContent-Length: " + b"1" * 5000 + b"\r\n\r\n",
    "chunk of no size": b"POST /payments HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n0\r\n\r\n",
    "chunk of negative size": b"POST /payments HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabcde\r\n0\r\n\r\n",
    "trailers": b"POST /payments HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nGET /gateways HTTP/1.1\r\n\r\n",
}
"""What is no HTTP, or could be read in two ways."""


def _log_lines(server: Served) -> list[str]:
    return server.log.read_text(errors="replace").splitlines()


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED)
def test_malformed_http_is_a_problem_and_the_end_of_the_connection(server: Served, sent: bytes) -> None:
    """Nothing behind it is read: where it ends is a matter of opinion."""
    answers = server.api.raw(sent + b"GET /ops/liveness" + END)
    assert [each.refusal for each in answers] == [(400, "INVALID_REQUEST")]
    assert answers[0].headers["connection"] == "close"
    assert UUID7.fullmatch(answers[0].headers["x-request-id"])


def test_an_unknown_expectation_is_417(server: Served) -> None:
    (refused,) = server.api.raw(b"POST /payments HTTP/1.1\r\nExpect: gold\r\nContent-Length: 2\r\n\r\n{}")
    assert (refused.status, refused.headers["content-type"]) == (417, "application/problem+json")


def test_headers_beyond_8_kib_are_413(server: Served) -> None:
    (refused,) = server.api.raw(b"GET /ops/liveness HTTP/1.1\r\nA: " + b"b" * 9000 + b"\r\n\r\n")
    assert refused.refusal == (413, "BODY_TOO_LARGE")


def test_a_chunked_body_has_the_same_limit(server: Served) -> None:
    head = b"POST /payments HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    (refused,) = server.api.raw(head + b"10001\r\n" + b" " * 0x10001 + b"\r\n0\r\n\r\n")
    assert refused.refusal == (413, "BODY_TOO_LARGE")


def test_a_chunked_body_is_a_body(server: Served) -> None:
    body = json.dumps(payment()).encode()
    head = f"POST /payments HTTP/1.1\r\nConnection: close\r\nIdempotency-Key: {new_key()}\r\n"
    halves = b"".join(b"%x\r\n%b\r\n" % (len(half), half) for half in (body[:50], body[50:]))
    (taken,) = server.api.raw(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + halves + b"0\r\n\r\n")
    assert taken.status == 201


@pytest.mark.parametrize("target", ["http://elsewhere.example", "http://elsewhere.example?a=b"])
def test_an_address_that_ends_with_its_host_is_the_roots(server: Served, target: str) -> None:
    (refused,) = server.api.raw(b"GET " + target.encode() + END)
    assert refused.refusal == (404, "NOT_FOUND")


def test_an_absolute_address_is_its_path(server: Served) -> None:
    (answer,) = server.api.raw(b"GET http://elsewhere.example/ops/liveness" + END)
    assert answer.document == {"status": "alive", "checks": []}


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/nothing",
        "/payments/x/y",
        "//payments",
        "/Payments",
        "/payments/../gateways",
        "/%70ayments",
        "/gateways;x",
    ],
)
def test_an_unknown_path_is_404(server: Served, target: str) -> None:
    (refused,) = server.api.raw(b"GET " + target.encode() + END)
    assert refused.refusal == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "target", "allowed"),
    [
        ("DELETE", "/payments", {"GET", "POST"}),
        ("PUT", "/payments", {"GET", "POST"}),
        ("POST", "/payments/x", {"GET"}),
        ("GET", "/gateways/hdfc", {"PATCH"}),
        ("POST", "/retry-policy/m_001", {"GET", "PUT"}),
        ("OPTIONS", "/gateways", {"GET"}),
        ("get", "/gateways", {"GET"}),
        ("BREW", "/ops/liveness", {"GET"}),
    ],
)
def test_another_method_is_405_and_names_those_allowed(
    server: Served, method: str, target: str, allowed: set[str]
) -> None:
    (refused,) = server.api.raw(f"{method} {target}".encode() + END)
    assert refused.refusal == (405, "METHOD_NOT_ALLOWED")
    assert set(refused.headers["allow"].split(", ")) == allowed


def test_a_head_request_gets_no_body(server: Served) -> None:
    with socket.create_connection(("127.0.0.1", server.api.port), PATIENCE_S) as connection:
        connection.sendall(b"HEAD /payments" + END)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    assert received.startswith(b"HTTP/1.1 405 ")
    assert received.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("name", ["r", "abc-123", "!" * 128, 'a"b<c>&\\', "01a209cb-cfba-7a2d-9dd2-09fd5755e3dd"])
def test_a_request_id_is_echoed(server: Served, name: str) -> None:
    assert server.api.get("/ops/liveness", X_Request_Id=name).headers["x-request-id"] == name
    assert server.api.get("/nothing", X_Request_Id=name).document["request_id"] == name


@pytest.mark.parametrize("name", ["", "r" * 129, "a b", "naïve", "a\tb"], ids=repr)
def test_a_request_id_of_another_form_is_replaced(server: Served, name: str) -> None:
    assert UUID7.fullmatch(server.api.get("/ops/liveness", X_Request_Id=name).headers["x-request-id"])


def test_requests_without_an_id_get_one_each(server: Served) -> None:
    given = [
        server.api.get(target).headers["x-request-id"] for target in ("/ops/liveness", "/nothing", "/payments") * 5
    ]
    assert len(set(given)) == 15
    assert all(UUID7.fullmatch(each) for each in given)


def test_several_requests_of_one_connection_are_answered_in_order(server: Served) -> None:
    request = b"GET /ops/liveness HTTP/1.1\r\nX-Request-Id: %d\r\n\r\n"
    answers = server.api.raw(b"".join(request % number for number in range(5)) + b"GET /nothing" + END)
    assert [each.status for each in answers] == [200] * 5 + [404]
    assert [each.headers["x-request-id"] for each in answers[:5]] == list("01234")


def test_a_body_nobody_asked_for_is_not_read_as_the_next_request(server: Served) -> None:
    hidden = b"DELETE /gateways HTTP/1.1\r\n\r\n"
    for target in (b"/ops/liveness", b"/nothing"):
        head = b"GET " + target + b" HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(hidden)
        answers = server.api.raw(head + hidden + b"GET /gateways" + END)
        assert [each.status for each in answers] == [200 if target == b"/ops/liveness" else 404, 200]


def test_no_word_of_a_client_makes_a_line_of_the_log(server: Served) -> None:
    """Not by a method, a path, an id, an actor, or a body left over."""
    forged = "2026-01-01 00:00:00,000 CRITICAL forged"
    server.api.raw(f"GET\n{forged.replace(' ', '_')} /payments".encode() + END)
    server.api.raw(
        f"FORGED /payments/forged?forged=1 HTTP/1.1\r\nX-Request-Id: {forged}\r\nConnection: close\r\n\r\n".encode()
    )
    server.api.raw(b"GET forged" + END)
    server.api.raw(b"GET /retry-policy/forged HTTP/1.1\r\nConnection: close\r\nContent-Length: 6\r\n\r\nforged")
    server.api.call("PUT", "/retry-policy/forged", {"merchant_id": "forged"}, {**ADMIN, "X-Actor": f"a\x85{forged}"})
    server.api.pay(payment(merchant_id="forged", merchant_reference="forged"))
    assert server.api.get("/nothing", X_Request_Id="seen-in-the-log").status == 404
    assert [line for line in _log_lines(server) if "forged" in line.lower()] == []
    assert [line for line in _log_lines(server) if "seen-in-the-log" in line] != []


def test_no_fault_of_a_client_is_logged_as_ours(server: Served) -> None:
    for sent in MALFORMED.values():
        server.api.raw(sent)
    assert [
        line for line in _log_lines(server) if " ERROR " in line or " CRITICAL " in line or "Traceback" in line
    ] == []


def _impatient(app: Sanic[Any, Any]) -> None:
    app.config.REQUEST_TIMEOUT = 0.2
    app.config.RESPONSE_TIMEOUT = 0.2
    app.config.KEEP_ALIVE_TIMEOUT = 0.2


def _late(running: Inside, sent: bytes) -> list[Answer]:
    began = time.monotonic()
    answers = Api(running.api.port).raw(sent)
    assert time.monotonic() - began < PATIENCE_S / 2
    return answers


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /ops/live",
        b"POST /payments HTTP/1.1\r\nContent-Length: 10\r\n\r\n{",
        b"POST /payments HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"POST /payments HTTP/1.1\r\nUpgrade: websocket\r\nContent-Length: 10\r\n\r\n{",
        b"GET /ops/liveness HTTP/1.1\r\nContent-Length: 10\r\n\r\n{",
        b"POST /nothing HTTP/1.1\r\nContent-Length: 10\r\n\r\n{",
    ],
)
def test_a_request_that_does_not_come_to_its_end_is_408_and_closed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    """A slow client is no fault of ours: no 5xx, no error in the log, no connection kept for it."""
    with inside(tmp_path, configure=_impatient) as running:
        answers = _late(running, sent)
    assert [(each.status, each.headers["connection"]) for each in answers] == [(408, "close")]
    assert UUID7.fullmatch(answers[0].headers["x-request-id"])
    assert [each for each in caplog.records if each.levelname == "ERROR"] == []


def test_an_idle_connection_is_closed(tmp_path: Path) -> None:
    with inside(tmp_path, configure=_impatient) as running:
        answers = _late(running, b"GET /ops/liveness HTTP/1.1\r\n\r\n")
    assert [each.status for each in answers] == [200]
