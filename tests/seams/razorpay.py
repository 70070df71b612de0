"""Calls -> a Razorpay that counts them: it answers, refuses, or holds each charging call until it is let go."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Mood(Enum):
    """What it does with what reaches it."""

    ANSWERS = "answers"
    REFUSES = "refuses every order, so that nothing is charged"
    HOLDS = "takes the order, and keeps the charging call waiting"


@dataclass
class Charge:
    """One charging call: when it came (epoch seconds), for which payment; it waits while `answer` is not set."""

    at: float
    payment_id: str
    answer: asyncio.Event = field(default_factory=asyncio.Event)


class CountingRazorpay:
    """Speaks the few calls that a payment makes. Never says more than what was asked of it; books nothing."""

    def __init__(self) -> None:
        self.mood = Mood.ANSWERS
        self.orders: list[float] = []
        """When each order was placed, epoch seconds."""
        self.charges: list[Charge] = []
        self.waiting = 0
        self.most_waiting = 0
        """Charging calls that were open at one time."""
        self.address = ""
        self._receipts: dict[str, str] = {}
        self._open: set[asyncio.Task[None]] = set()

    def let_go(self) -> None:
        """Answer every call that waits."""
        for each in self.charges:
            each.answer.set()

    def reset(self, mood: Mood) -> None:
        """Count anew, in another mood."""
        self.mood, self.most_waiting = mood, 0
        self.orders.clear()
        self.charges.clear()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection until it ends."""
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.lower().partition("content-length:")[2].split("\r\n")[0] or 0)
                body = json.loads(await reader.readexactly(length) or "null")
                status, document = await self._answer(head.split()[1].partition("?")[0], body, reader)
                told = json.dumps(document).encode()
                begin = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(told)}\r\n\r\n"
                writer.write(begin.encode() + told)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._open.discard(task)
            writer.close()

    async def close(self) -> None:
        """End every connection."""
        for each in self._open:
            each.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _answer(self, path: str, body: Any, reader: asyncio.StreamReader) -> tuple[int, Any]:
        if path == "/v1/orders" and body is not None:
            self.orders.append(time.time())
            if self.mood is Mood.REFUSES:
                return 503, {"error": {"code": "SERVER_ERROR"}}
            order_id = f"order_{len(self._receipts)}"
            self._receipts[order_id] = body["receipt"]
            return 200, {"id": order_id, **{name: body[name] for name in ("amount", "currency", "receipt")}}
        if path == "/v1/payments/create/upi":
            await self._charge(self._receipts[body["order_id"]], reader)
            return 200, {"razorpay_payment_id": f"pay_{len(self.charges)}", "link": "upi://pay?pa=shop"}
        return 200, {"items": []}

    async def _charge(self, receipt: str, reader: asyncio.StreamReader) -> None:
        charge = Charge(time.time(), receipt.rpartition("-")[0])
        self.charges.append(charge)
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        if self.mood is not Mood.HOLDS:
            charge.answer.set()
        # Whoever waits for an answer says nothing more: what can be read is the end of his connection.
        gone = asyncio.ensure_future(reader.read(1))
        let_go = asyncio.ensure_future(charge.answer.wait())
        try:
            await asyncio.wait((gone, let_go), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.waiting -= 1
            for each in (gone, let_go):
                each.cancel()
            await asyncio.gather(gone, let_go, return_exceptions=True)
        if not charge.answer.is_set():
            raise ConnectionResetError


@asynccontextmanager
async def counting_razorpay() -> AsyncIterator[CountingRazorpay]:
    """Run one on a port of its own."""
    gateway = CountingRazorpay()
    server = await asyncio.start_server(gateway.connected, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    gateway.address = f"http://{host}:{port}"
    try:
        yield gateway
    finally:
        server.close()
        await gateway.close()
        await server.wait_closed()
