"""`python benchmarks/gateway_payments.py` -> payments/s through Razorpay's adapter against a gateway that takes 20 ms.

A mock gateway in a process of its own answers orders at once and payments after 20 ms; `pgw serve` runs on the embedded
ledger; the load generator is a third process. Every payment ends REQUIRES_ACTION: two calls and two commits each.
"""

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import uvloop

HERE = Path(__file__).parent
THINKS_S = 0.02
CONNECTIONS = (64, 256)
BODY = {
    "amount_minor": 1000,
    "currency": "INR",
    "payment_method": "UPI",
    "merchant_id": "m_001",
    "customer_id": "cust_001",
    "instrument": {"type": "UPI", "flow": "intent"},
    "customer": {"email": "asha@example.com", "contact": "+919000000000"},
    "client": {"ip": "192.0.2.1", "user_agent": "Mozilla/5.0", "referer": "https://shop.example"},
}
ORDER = b'{"id":"order_1","amount":1000,"currency":"INR"}'
PAYMENT = b'{"razorpay_payment_id":"pay_1","link":"upi://pay?pa=x"}'


class Gateway(asyncio.Protocol):
    """Answers orders at once and payments later; pgw sends one request at a time on a connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, gap, body = self.buffer.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        if not gap or len(body) < (int(length[1]) if length else 0):
            return
        self.buffer = b""
        if b" /v1/payments/create/" in head[:60]:
            asyncio.get_running_loop().call_later(THINKS_S, self.answer, PAYMENT)
        else:
            self.answer(b'{"items":[]}' if head.startswith(b"GET") else ORDER)

    def answer(self, body: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        self.transport.write(head + body)  # type: ignore[attr-defined]


async def serve_gateway() -> None:
    server = await asyncio.get_running_loop().create_server(Gateway, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def main(seconds: float, rounds: int) -> None:
    environ = {**os.environ, "PYTHONPATH": str(HERE.parent), "PGW_LOG_LEVEL": "warning"}
    environ.pop("DATABASE_URL", None)
    mock = [sys.executable, __file__, "--gateway"]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(mock, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as gateway,
    ):
        assert gateway.stdout is not None
        assert gateway.stdin is not None
        environ |= {
            "PGW_HOME": folder,
            "RAZORPAY_BASE_URL": f"http://127.0.0.1:{gateway.stdout.readline().strip()}",
            "RAZORPAY_KEY_ID": "rzp_test_bench",
            "RAZORPAY_KEY_SECRET": "secret",
        }
        # No worker: the checks of payments that wait for their customer are not what is measured.
        command = [sys.executable, "-m", "pgw.cli", "serve", "--bind", "127.0.0.1:0", "--gateways", "razorpay"]
        with subprocess.Popen([*command, "--no-embedded-workers"], env=environ, stderr=subprocess.DEVNULL) as server:
            until = time.monotonic() + 20
            while not (Path(folder) / "serve.json").exists():
                assert time.monotonic() < until, "pgw serve did not start"
                time.sleep(0.05)
            port = json.loads((Path(folder) / "serve.json").read_text())["address"].rpartition(":")[2]
            for connections in CONNECTIONS:
                report(connections, [measured(port, connections, seconds, environ) for _ in range(rounds)])
            server.terminate()
        gateway.stdin.close()


def measured(port: str, connections: int, seconds: float, environ: dict[str, str]) -> dict[str, float]:
    command = [sys.executable, str(HERE / "load.py"), "127.0.0.1", port, str(connections), str(seconds)]
    done = subprocess.run(
        [*command, json.dumps(BODY)], capture_output=True, text=True, check=True, env=environ, timeout=120
    )
    figures = json.loads(done.stdout)
    assert set(figures.pop("statuses")) == {"202"}, "every payment waits for its customer"
    found: dict[str, float] = figures
    return found


def report(connections: int, rounds: list[dict[str, float]]) -> None:
    per_s, p50, p99 = (statistics.median(each[key] for each in rounds) for key in ("per_s", "p50_ms", "p99_ms"))
    rate = f"c={connections:<4} {per_s:8,.0f} payments/s   p50 {p50:6.1f} ms   p99 {p99:6.1f} ms"
    print(f"{rate}   (20 ms alone: {connections / THINKS_S:,.0f}/s)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gateway", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    if asked.gateway:
        uvloop.run(serve_gateway())
    else:
        main(asked.seconds, asked.rounds)
