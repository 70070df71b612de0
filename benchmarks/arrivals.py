"""Servers, a rate -> payments sent at that rate whatever comes back, and what came back: the open-loop generator."""

import asyncio
import json
import time
from dataclasses import dataclass
from typing import cast

BODY = (
    '{"amount_minor":1000,"currency":"INR","payment_method":"UPI","merchant_id":"m_001",'
    '"customer_id":"%s","instrument":{"type":"UPI"}}'
)
ANSWER_LIMIT_S = 30.0


@dataclass(frozen=True)
class Sent:
    """One payment as the load saw it: which server, when, what came back."""

    server: int
    at: float
    payment_id: str
    status: str


class Connection(asyncio.Protocol):
    """One keep-alive connection: one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.answered.cancel()
        self.buffer = b""
        self.is_open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if not self.answered.done():
            self.answered.set_exception(ConnectionError(f"the server closed a connection ({exc})"))

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, gap, body = self.buffer.partition(b"\r\n\r\n")
        if gap and len(body) >= int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]):
            self.buffer = b""
            self.answered.set_result(body)

    async def ask(self, request: bytes) -> bytes:
        assert self.transport is not None
        self.answered = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        async with asyncio.timeout(ANSWER_LIMIT_S):
            return await self.answered


class Server:
    """One server: connections to it, reused when they are idle."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.idle: list[Connection] = []

    async def ask(self, request: bytes) -> bytes:
        """Send a request; once more where an idle connection turns out to be closed, which the key makes harmless."""
        for reused in (True, False):
            connection = await self.connection(reused=reused)
            try:
                answer = await connection.ask(request)
            except ConnectionError:
                if not reused:
                    raise
                continue
            self.idle.append(connection)
            return answer
        raise AssertionError("the second time the fault is raised")

    async def connection(self, *, reused: bool) -> Connection:
        while reused and self.idle:
            connection = self.idle.pop()
            if connection.is_open:
                return connection
        return (await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", self.port))[1]

    def close(self) -> None:
        for each in self.idle:
            if each.transport is not None:
                each.transport.close()


async def load(ports: list[int], rate: float, began: float, seconds: float, name: str) -> list[Sent]:
    """Send at a fixed rate, to the servers by turns; a payment that is not answered is still waited for."""
    sent: list[Sent] = []
    servers = [Server(port) for port in ports]

    async def pay(server: int, key: str) -> None:
        at = time.time()
        document = json.loads(await servers[server].ask(_request(key)))
        status = document.get("status", document.get("code", "?"))
        sent.append(Sent(server, at, document.get("payment_id", ""), str(status)))

    async with asyncio.TaskGroup() as group:
        for number in range(round(rate * seconds)):
            await asyncio.sleep(max(0.0, began + number / rate - time.time()))
            group.create_task(pay(number % len(ports), f"{name}-{number}"))
    for each in servers:
        each.close()
    return sent


def _request(key: str) -> bytes:
    body = BODY % key
    head = (
        "POST /payments HTTP/1.1",
        "Host: bench",
        "Content-Type: application/json",
        f"Idempotency-Key: {key}",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join((*head, "", body)).encode()
