"""A request -> the server's answer over a real socket, checked against what is promised of every answer."""

import http.client
import json
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from tests.server.documented import undescribed

T = TypeVar("T")

ADMIN = {"X-Internal-Api-Key": "dev-internal-key"}

PATIENCE_S = 20.0
"""How long a test waits for what must happen; on a quiet machine it happens in a fraction of it."""

PROBLEM = "application/problem+json"


@dataclass(frozen=True)
class Answer:
    """What came back; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    document: Any

    @property
    def code(self) -> str | None:
        """Say why it was refused."""
        return self.document.get("code") if self.headers["content-type"] == PROBLEM else None

    @property
    def refusal(self) -> tuple[int, str | None]:
        """Say with which status, and why, it was refused."""
        return self.status, self.code

    @property
    def pointers(self) -> list[str]:
        """List the members at fault."""
        return [each["pointer"] for each in self.document.get("errors", [])]


def payment(vpa: str = "test@okhdfcbank", **members: object) -> dict[str, Any]:
    """Write the contract's payment, changed as asked."""
    return {
        "amount_minor": 1000,
        "currency": "INR",
        "payment_method": "UPI",
        "merchant_id": "m_001",
        "customer_id": "cust_001",
        "instrument": {"type": "UPI", "vpa": vpa},
        **members,
    }


def new_key() -> str:
    """Make an Idempotency-Key nobody used."""
    return uuid.uuid4().hex


def eventually(look: Callable[[], T | None]) -> T:
    """Look until there is something to see."""
    until = time.monotonic() + PATIENCE_S
    while (seen := look()) is None:
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)
    return seen


@dataclass(frozen=True)
class Api:
    """Speaks to one server. Every answer must be described by /openapi.json and carry its request's id."""

    port: int

    def call(self, method: str, target: str, body: object = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Send one request; a body that is bytes goes out as it is."""
        with Sent(self, method, target, body, headers or {}) as sent:
            return sent.answer()

    def get(self, target: str, **headers: str) -> Answer:
        """Look."""
        return self.call("GET", target, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def pay(self, body: object = None, key: str | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Post a payment, under a new key unless one is given."""
        return self.call("POST", "/payments", payment() if body is None else body, _keyed(key, headers))

    def paying(self, body: object, key: str | None = None) -> "Sent":
        """Post a payment without waiting for the answer."""
        return Sent(self, "POST", "/payments", body, _keyed(key, None))

    def raw(self, sent: bytes, *, ended: bool = False) -> list[Answer]:
        """Send bytes as they are and read every answer until the server closes; `ended`: say that no more will come."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE_S) as connection:
            connection.sendall(sent)
            if ended:
                connection.shutdown(socket.SHUT_WR)
            received = b""
            while chunk := connection.recv(65536):
                received += chunk
        answers = []
        while received:
            head, _, received = received.partition(b"\r\n\r\n")
            lines = head.decode().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            length = int(headers["content-length"])
            answers.append(_checked(int(lines[0].split(" ")[1]), headers, received[:length]))
            received = received[length:]
        return answers

    def charges(self) -> list[dict[str, Any]]:
        """Read the sandbox's book."""
        found: list[dict[str, Any]] = self.call("GET", "/sandbox/book", headers=ADMIN).document["charges"]
        return found

    def set_gateways(self, *, is_enabled: bool) -> None:
        """Switch all sandbox gateways; no other one can take a payment here."""
        for each in self.get("/gateways").document["items"]:
            if not each["is_sandbox"]:
                continue
            answer = self.call("PATCH", f"/gateways/{each['gateway_id']}", {"is_enabled": is_enabled}, ADMIN)
            assert answer.status == 200


class Sent:
    """A request on its way: its answer can be waited for, or not."""

    def __init__(self, api: Api, method: str, target: str, body: object, headers: Mapping[str, str]) -> None:
        self._method, self._target = method, target
        self._connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=PATIENCE_S)
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        kind = {} if content is None or "Content-Type" in headers else {"Content-Type": "application/json"}
        self._connection.request(method, target, content, {**kind, **headers})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()

    def hang_up(self) -> None:
        """Go away, without the answer if it was not read."""
        self._connection.close()

    def answer(self) -> Answer:
        """Wait for the answer."""
        response = self._connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        answer = _checked(response.status, headers, response.read())
        path = self._target.partition("?")[0]
        assert undescribed(self._method, path, answer.status, answer.headers["content-type"], answer.document) == []
        return answer


def _keyed(key: str | None, headers: Mapping[str, str] | None) -> dict[str, str]:
    return {"Idempotency-Key": new_key() if key is None else key, **(headers or {})}


def _checked(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """Hold an answer to what is promised of all: JSON or text, a request id; a refusal says the same twice."""
    is_text = headers["content-type"].startswith("text/plain")
    answer = Answer(status, headers, body.decode() if is_text else json.loads(body))
    assert headers["x-request-id"] != ""
    if status >= 400 and answer.headers["content-type"] == PROBLEM:
        assert answer.document["status"] == status
        assert answer.document["request_id"] == headers["x-request-id"]
        assert answer.document["type"] == f"urn:pgw:problem:{answer.document['code'].lower().replace('_', '-')}"
    return answer
