"""Address, connections, seconds -> requests a second, latencies: a closed-loop generator, light enough to share a core.

Run as a script it posts payments, each under a key of its own, and prints one JSON line.
"""

import asyncio
import json
import sys
import time
import uuid
from typing import cast

import uvloop

BODY = (
    b'{"amount_minor": 1000, "currency": "INR", "payment_method": "UPI", "merchant_id": "m_001", '
    b'"customer_id": "cust_001", "instrument": {"type": "UPI", "vpa": "test@okhdfcbank"}}'
)


class Client(asyncio.Protocol):
    """One keep-alive connection: sends the next request when the answer to the last one is complete."""

    def __init__(self, run: "Run", number: int) -> None:
        self.run = run
        self.prefix = f"{run.name}-{number}-".encode()
        self.sent = 0
        self.began = 0.0
        self.transport: asyncio.Transport | None = None
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.send()

    def send(self) -> None:
        assert self.transport is not None
        self.sent += 1
        self.began = time.perf_counter()
        self.transport.write(
            b"POST /payments HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nIdempotency-Key: "
            + self.prefix
            + str(self.sent).encode()
            + b"\r\nContent-Length: "
            + str(len(self.run.body)).encode()
            + b"\r\n\r\n"
            + self.run.body
        )

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, gap, body = self.buffer.partition(b"\r\n\r\n")
        if not gap:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        now = time.perf_counter()
        self.run.record(head[9:12], now - self.began)
        self.buffer = b""
        if now < self.run.until:
            self.send()
        else:
            self.run.leave()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if not self.run.finished.done():
            self.run.finished.set_exception(ConnectionError("the server closed a connection"))


class Run:
    """One measurement."""

    def __init__(self, seconds: float, connections: int, body: bytes) -> None:
        self.body = body
        self.name = uuid.uuid4().hex
        self.until = time.perf_counter() + seconds
        self.left = connections
        self.took: list[float] = []
        self.statuses: dict[str, int] = {}
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def record(self, status: bytes, seconds: float) -> None:
        self.took.append(seconds)
        name = status.decode()
        self.statuses[name] = self.statuses.get(name, 0) + 1

    def leave(self) -> None:
        self.left -= 1
        if not self.left:
            self.finished.set_result(None)


async def load(host: str, port: int, connections: int, seconds: float, body: bytes = BODY) -> dict[str, object]:
    run = Run(seconds, connections, body)
    began = time.perf_counter()
    loop = asyncio.get_running_loop()
    for number in range(connections):
        await loop.create_connection(lambda number=number: Client(run, number), host, port)  # type: ignore[misc]
    await run.finished
    took = sorted(run.took)
    return {
        "per_s": len(took) / (time.perf_counter() - began),
        "p50_ms": took[len(took) // 2] * 1000,
        "p99_ms": took[int(len(took) * 0.99)] * 1000,
        "statuses": run.statuses,
    }


if __name__ == "__main__":
    host, port, connections, seconds, *body = sys.argv[1:]
    given = body[0].encode() if body else BODY
    print(json.dumps(uvloop.run(load(host, int(port), int(connections), float(seconds), given))))
