"""`python benchmarks/gateway.py` -> calls/s and CPU per call through `Wire`, beside bare httpx and bare aiohttp.

All are measured in one interleaved run against a mock gateway in a process of its own; what counts is the ratios,
medians over the rounds. Closed loop: each of c callers posts, reads the whole answer, posts again. CPU is that of the
calling process alone. It takes about four minutes.
"""

import argparse
import asyncio
import gc
import statistics
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, cast

import aiohttp
import httpx
import msgspec
import uvloop
from httpx_aiohttp import AiohttpTransport

sys.path.insert(0, str(Path(__file__).parents[1]))

from pgw.core.gateways.wire import Reply, Wire

KEYS = ("rzp_test_bench", "secret")
HEADERS = {
    "Authorization": f"Basic {b64encode(':'.join(KEYS).encode()).decode()}",
    "Content-Type": "application/json",
}
PATH = "/v1/payments/create/json"
ORDER = {"amount": 100_000, "currency": "INR", "order_id": "order_1", "method": "upi", "upi": {"flow": "intent"}}
CREATED = b'{"razorpay_payment_id":"pay_1","link":"upi://pay?pa=test@okhdfcbank&am=1000.00&cu=INR"}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(CREATED), CREATED)

WIRE, OVER_AIOHTTP, BY_DEFAULT, AIOHTTP = "Wire", "httpx over aiohttp", "httpx, its default transport", "aiohttp"

Call = Callable[[], Awaitable[None]]


class Cell(NamedTuple):
    """One load: how long the gateway thinks, how many callers there are."""

    answers_after_ms: int
    callers: int


CELLS = [Cell(0, 64), Cell(0, 256), Cell(20, 64), Cell(20, 256)]


class Figures(NamedTuple):
    per_s: float
    cpu_us: float


class MockGateway(asyncio.Protocol):
    """Answers every complete request alike, after a while."""

    def __init__(self, answers_after_s: float) -> None:
        self.answers_after_s = answers_after_s
        self.transport: asyncio.Transport | None = None
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, gap, body = self.received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        if not gap or len(body) < length:
            return
        self.received = b""
        if self.answers_after_s:
            asyncio.get_running_loop().call_later(self.answers_after_s, self.answer)
        else:
            self.answer()

    def answer(self) -> None:
        if self.transport is not None:
            self.transport.write(ANSWER)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.transport = None


async def answer(answers_after_s: float) -> None:
    """Listen on a free port, print it, and stop when standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: MockGateway(answers_after_s), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


@contextmanager
def mock_gateway(answers_after_ms: int) -> Iterator[str]:
    """Run the mock as a process and yield its address."""
    command = [sys.executable, __file__, "--answer-after-ms", str(answers_after_ms)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()


@asynccontextmanager
async def by_wire(address: str, callers: int) -> AsyncIterator[Call]:
    wire = Wire(address, KEYS, connections=callers)

    async def call() -> None:
        reply = await wire.call("POST", PATH, document=ORDER)
        assert isinstance(reply, Reply)
        assert reply.body == CREATED

    yield call
    await wire.close()


@asynccontextmanager
async def by_httpx(address: str, transport: httpx.AsyncBaseTransport) -> AsyncIterator[Call]:
    async with httpx.AsyncClient(base_url=address, headers=HEADERS, transport=transport) as client:

        async def call() -> None:
            response = await client.post(PATH, content=msgspec.json.encode(ORDER))
            assert response.content == CREATED

        yield call


@asynccontextmanager
async def by_aiohttp(address: str) -> AsyncIterator[Call]:
    async with aiohttp.ClientSession(headers=HEADERS, connector=aiohttp.TCPConnector(limit=0)) as session:

        async def call() -> None:
            async with session.post(address + PATH, data=msgspec.json.encode(ORDER)) as response:
                assert await response.read() == CREATED

        yield call


UNLIMITED = httpx.Limits(max_connections=None, max_keepalive_connections=None)
CLIENTS: dict[str, Callable[[str, int], AbstractAsyncContextManager[Call]]] = {
    WIRE: by_wire,
    OVER_AIOHTTP: lambda address, _: by_httpx(address, AiohttpTransport(limits=UNLIMITED)),
    BY_DEFAULT: lambda address, _: by_httpx(address, httpx.AsyncHTTPTransport(limits=UNLIMITED)),
    AIOHTTP: lambda address, _: by_aiohttp(address),
}


async def measured(name: str, address: str, callers: int, seconds: float) -> Figures:
    """Let all callers call until the time is up, and count the calls that were over by then."""
    calls = 0

    async def caller(call: Call) -> None:
        nonlocal calls
        while True:
            await call()
            calls += 1

    gc.collect()
    async with CLIENTS[name](address, callers) as call:
        began, cpu = time.perf_counter(), time.process_time()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(caller(call) for _ in range(callers)))
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
    return Figures(calls / took, cpu / max(calls, 1) * 1e6)


def calls_through_the_wire(seconds: float, rounds: int) -> None:
    found: dict[tuple[Cell, str], list[Figures]] = {(cell, name): [] for cell in CELLS for name in CLIENTS}
    with ExitStack() as stack:
        waits = {cell.answers_after_ms for cell in CELLS}
        addresses = {wait: stack.enter_context(mock_gateway(wait)) for wait in sorted(waits)}
        for number in range(rounds):
            for (cell, name), figures in found.items():
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    story = measured(name, addresses[cell.answers_after_ms], cell.callers, seconds)
                    figures.append(runner.run(story))
            print(f"round {number + 1} of {rounds} done", file=sys.stderr)
    for cell in CELLS:
        print(f"a gateway that answers after {cell.answers_after_ms} ms, {cell.callers} callers")
        print(f"  {'':30}{'calls/s':>9}{'CPU us':>8}{'lowest .. highest':>20}")
        for name in CLIENTS:
            rates = [each.per_s for each in found[cell, name]]
            cpu = statistics.median(each.cpu_us for each in found[cell, name])
            spread = f"{min(rates):,.0f} .. {max(rates):,.0f}"
            print(f"  {name:30}{statistics.median(rates):>9,.0f}{cpu:>8,.0f}{spread:>20}")
        for other in (OVER_AIOHTTP, BY_DEFAULT, AIOHTTP):
            ratios = [one.per_s / two.per_s for one, two in zip(found[cell, WIRE], found[cell, other], strict=True)]
            goal = "   goal >= 0.7" if (cell, other) == (Cell(20, 256), OVER_AIOHTTP) else ""
            print(f"  {WIRE} / {other}: {statistics.median(ratios):.2f}{goal}")
        print()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--answer-after-ms", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.answer_after_ms is not None:
        uvloop.run(answer(asked.answer_after_ms / 1000))
    else:
        calls_through_the_wire(asked.seconds, asked.rounds)
