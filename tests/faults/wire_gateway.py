"""Requests, byte by byte -> a Razorpay of our own, with its own book, that breaks what it is told to break.

It shares no code with `pgw sandbox`, so that a mistake made there is not made twice; it speaks only the calls that pgw
makes (docs/razorpay-calls.md).
"""

import asyncio
import json
import threading
from base64 import b64encode
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from tests.faults.wire_book import Book, Document, Reply, refusal
from tests.faults.wire_faults import Fault, Talk, said

KEY_ID, SECRET = "rzp_test_wire", "wire-secret"
AUTHORIZATION = f"Basic {b64encode(f'{KEY_ID}:{SECRET}'.encode()).decode()}"
LIMIT_S = 10.0
"""How long a test waits for a thing that happens in milliseconds."""

CHARGES = ("/v1/payments/create/upi", "/v1/payments/create/json")


@dataclass(frozen=True)
class Request:
    """One request as it arrived; `nth`: how many the same connection had brought before."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: Any
    nth: int


@dataclass(frozen=True)
class Call:
    """A creating call that arrived, whatever became of it: `order` or `charge`, for which attempt."""

    kind: str
    receipt: str
    nth: int


class WireGateway:
    """The gateway; runs in a thread of its own, use as a context. Its faults may be set at any time, from outside."""

    def __init__(self) -> None:
        self.book = Book()
        self.calls: list[Call] = []
        self.on_charge: deque[Fault] = deque()
        """What goes wrong at the next charging calls."""
        self.on_order: deque[Fault] = deque()
        """What goes wrong at the next orders."""
        self.closed_by: Fault | None = None
        """What every call meets, while it is set."""
        self.unaskable: set[str] = set()
        """Payments of pgw whose questions are not answered."""
        self._port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        self.listen()
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self.refuse()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive()
        self._loop.close()

    @property
    def address(self) -> str:
        """Where it is, listening or not."""
        return f"http://127.0.0.1:{self._port}"

    def listen(self) -> None:
        """Take connections, at the same address as ever."""
        self._do(self._listen())

    def refuse(self) -> None:
        """Take no connection any more, and end those that stand."""
        self._do(self._refuse())

    def calls_of(self, payment_id: str, kind: str) -> list[Call]:
        """Return the creating calls of one kind that arrived for one payment of pgw."""
        return [each for each in tuple(self.calls) if (each.kind, _paid(each.receipt)) == (kind, payment_id)]

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(LIMIT_S)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
        for each in self._talks:
            each.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        talk = Talk(reader, writer)
        try:
            # `refuse` is who cancels, and it waits for the end of this.
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while not writer.is_closing():
                    await self._serve(talk, await _read(talk))
                    talk.nth += 1
        finally:
            self._talks.discard(task)
            writer.close()

    async def _serve(self, talk: Talk, request: Request) -> None:
        if request.headers.get("authorization") != AUTHORIZATION:
            self.book.odd.append(f"{request.method} {request.path} without our keys")
        fault = self._noted(request)
        truth = b""
        if fault is None or fault.commits:
            truth = said(*self._answer(request, None if fault is None else fault.takes))
        await (talk.say(truth) if fault is None else fault.breaks(talk, truth))

    def _noted(self, request: Request) -> Fault | None:
        """Note a call that creates; return what goes wrong with this one."""
        waiting: deque[Fault] = deque()
        if (request.method, request.path) == ("POST", "/v1/orders"):
            self.calls.append(Call("order", request.body["receipt"], request.nth))
            waiting = self.on_order
        elif request.method == "POST" and request.path in CHARGES:
            self.calls.append(Call("charge", self.book.orders[request.body["order_id"]].receipt, request.nth))
            waiting = self.on_charge
        if self.closed_by is None and waiting and (request.nth or not waiting[0].when_kept):
            return waiting.popleft()
        return self.closed_by

    def _answer(self, request: Request, takes: tuple[int, str] | None) -> Reply:
        """Do what is asked, and say so."""
        parts = request.path.removeprefix("/v1/").split("/")
        if request.method == "GET":
            return self._asked(parts, request.query)
        body: Document = request.body
        match parts:
            case ["orders"]:
                return self.book.place(body)
            case ["payments", "create", _]:
                return self.book.charge(body, takes)
            case ["payments", payment_id, "capture"]:
                return self.book.capture(payment_id, body)
            case ["payments", payment_id, "refund"]:
                return self.book.refund(payment_id, request.headers["x-refund-idempotency"], body)
            case _:
                return self._unknown(request.path)

    def _asked(self, parts: list[str], query: dict[str, list[str]]) -> Reply:
        match parts:
            case ["orders"] if _paid(query["receipt"][0]) in self.unaskable:
                return 504, refusal("The server took too long to respond")[1]
            case ["orders"]:
                return 200, {"items": self.book.found(query["receipt"][0])}
            case ["orders", order_id, "payments"]:
                return 200, {"items": [each.shown() for each in self.book.orders[order_id].payments]}
            case ["payments", payment_id, "refunds"]:
                return self.book.refunds(payment_id)
            case _:
                return self._unknown("/".join(parts))

    def _unknown(self, path: str) -> Reply:
        self.book.odd.append(path)
        return refusal("The requested URL was not found on the server.")


async def _read(talk: Talk) -> Request:
    head, *lines = (await talk.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, target, _ = head.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines if each)}
    body = await talk.reader.readexactly(int(headers.get("content-length", "0")))
    parts = urlsplit(target)
    return Request(method, parts.path, parse_qs(parts.query), headers, json.loads(body or b"null"), talk.nth)


def _paid(receipt: str) -> str:
    return receipt.rpartition("-")[0]
