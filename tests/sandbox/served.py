"""A clock that only moves when told -> the sandbox on a socket of its own, and a client that sees the bytes."""

import asyncio
import http.client
import json
import select
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from pgw.razorpay_simulator.app import create_app
from pgw.razorpay_simulator.faults import SimulatedFault
from pgw.razorpay_simulator.simulator import Simulator, new_simulator
from tests.doubles import VirtualClock

T = TypeVar("T")

Document = dict[str, Any]

PATIENCE_S = 20.0
"""How long a test waits for what must happen; on a quiet machine it happens in a fraction of it."""

BASIC = "Basic " + b64encode(b"rzp_test_pgw:sandbox").decode()

MANUAL: Document = {"capture": "manual", "capture_options": {"manual_expiry_period": 12, "refund_speed": "normal"}}
"""Nothing is captured but by a call; what is not, goes back after twelve minutes."""

AMOUNT = 1000


@dataclass(frozen=True)
class Answer:
    """What came back; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Document:
        document: Document = json.loads(self.body)
        return document

    @property
    def error(self) -> Document:
        error: Document = self.document["error"]
        return error


def order_of(**members: Any) -> Document:
    """Write an order with manual capture, changed as asked."""
    return {"amount": AMOUNT, "currency": "INR", "payment": MANUAL, **members}


def payment_of(order_id: str, **members: Any) -> Document:
    """Write a payment by UPI intent, changed as asked; a member set to None is left out."""
    document = {
        "amount": AMOUNT,
        "currency": "INR",
        "order_id": order_id,
        "email": "gaurav.kumar@example.com",
        "contact": "+919090909090",
        "method": "upi",
        "upi": {"flow": "intent"},
        **members,
    }
    return {name: value for name, value in document.items() if value is not None}


CARD: Document = {"method": "card", "token": "token_4lsdksD31GaZ09", "card": {"cvv": ""}, "upi": None}
NETBANKING: Document = {"method": "netbanking", "bank": "HDFC", "upi": None}
COLLECT: Document = {
    "upi": {"flow": "collect", "vpa": "gauravkumar@exampleupi"},
    "ip": "192.168.0.103",
    "referer": "https://example.com/",
    "user_agent": "Mozilla/5.0",
}


@dataclass(frozen=True)
class Gateway:
    """The sandbox, running: what a client may send it, and what a test may do to its time."""

    port: int
    sandbox: Simulator
    clock: VirtualClock
    loop: asyncio.AbstractEventLoop
    stop: asyncio.Event

    def call(
        self, method: str, target: str, body: object = None, headers: Mapping[str, str | None] | None = None
    ) -> Answer:
        """Send one request; a header set to None is left out."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            sent = {"Authorization": BASIC, "Content-Type": "application/json", **(headers or {})}
            content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, target, content, {name: value for name, value in sent.items() if value})
            received = connection.getresponse()
            found = {name.lower(): value for name, value in received.getheaders()}
            return Answer(received.status, found, received.read())
        finally:
            connection.close()

    def get(self, target: str) -> Document:
        """Look."""
        return self._done(self.call("GET", target))

    def post(self, target: str, body: object = None) -> Document:
        """Do what must succeed."""
        return self._done(self.call("POST", target, body))

    def order(self, **members: Any) -> str:
        """Make an order; return its id."""
        made: str = self.post("/v1/orders", order_of(**members))["id"]
        return made

    def charge(self, order_id: str | None = None, **members: Any) -> str:
        """Make a payment for an order, a new one unless named; return its id."""
        route = "upi" if members.get("method", "upi") == "upi" else "json"
        charged = self.post(f"/v1/payments/create/{route}", payment_of(order_id or self.order(), **members))
        made: str = charged["razorpay_payment_id"]
        return made

    def approve(self, payment_id: str) -> Document:
        """Let the customer pay."""
        return self.post(f"/sandbox/payments/{payment_id}/approve")

    def status(self, payment_id: str) -> str:
        """Tell the state of a payment."""
        found: str = self.get(f"/v1/payments/{payment_id}")["status"]
        return found

    def book(self) -> Document:
        """Read the truth about money."""
        return self.get("/sandbox/book")

    def fail_next(self, *faults: SimulatedFault) -> None:
        """Set the faults of the next charging calls."""
        assert self.call("PUT", "/sandbox/faults", {"next": faults}).status == 200

    def advance(self, seconds: float) -> None:
        """Let time pass for the server."""

        async def move() -> None:
            self.clock.advance(seconds)

        asyncio.run_coroutine_threadsafe(move(), self.loop).result(PATIENCE_S)

    @contextmanager
    def charging(self, order_id: str) -> Iterator[socket.socket]:
        """Send one charging call and leave the answer to be read as bytes."""
        body = json.dumps(payment_of(order_id)).encode()
        head = (
            "POST /v1/payments/create/upi HTTP/1.1\r\nHost: sandbox\r\n"
            f"Authorization: {BASIC}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE_S) as connection:
            connection.sendall(head.encode() + body)
            yield connection

    @staticmethod
    def _done(answer: Answer) -> Document:
        assert answer.status == 200, answer.body
        return answer.document


def eventually(look: Callable[[], bool]) -> None:
    """Look until it is so."""
    until = time.monotonic() + PATIENCE_S
    while not look():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.001)


def is_silent(connection: socket.socket) -> bool:
    """Tell whether neither a byte nor an end has arrived."""
    return select.select([connection], [], [], 0)[0] == []


@contextmanager
def served(standing: Sequence[SimulatedFault] = (), approve_after_s: float | None = None) -> Iterator[Gateway]:
    """Run a sandbox in a thread of this process."""
    ready: Future[Gateway] = Future()
    clock = VirtualClock()
    sandbox = new_simulator(clock, standing=standing, approve_after_s=approve_after_s, rng=Random(7))
    thread = threading.Thread(target=lambda: asyncio.run(_serve(sandbox, clock, ready)), name="sandbox")
    thread.start()
    running = ready.result(PATIENCE_S)
    try:
        yield running
    finally:
        running.loop.call_soon_threadsafe(running.stop.set)
        thread.join(PATIENCE_S)


async def _serve(sandbox: Simulator, clock: VirtualClock, ready: "Future[Gateway]") -> None:
    try:
        listener = socket.create_server(("127.0.0.1", 0))
        server: Any = await create_app(sandbox).create_server(
            sock=listener, return_asyncio_server=True, asyncio_server_kwargs={"start_serving": False}
        )
        await server.startup()
        await server.start_serving()
    except BaseException as fault:  # noqa: BLE001  # whoever waits for the server must learn why there is none
        ready.set_exception(fault)
        return
    running = Gateway(listener.getsockname()[1], sandbox, clock, asyncio.get_running_loop(), asyncio.Event())
    ready.set_result(running)
    await running.stop.wait()
    server.close()
    for connection in list(server.connections):
        connection.abort()
    listener.close()
