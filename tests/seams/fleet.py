"""A home, a ledger, a Redis -> pgw as it runs in production: servers and workers, each a process of its own."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp

from tests.seams.serving import START_LIMIT_S, wait_until

ROOT = Path(__file__).parents[2]
ADMIN_KEY = "dev-internal-key"
ANSWER_LIMIT_S = 30.0
STOP_LIMIT_S = 20.0

LAUNCHER = """#!{python}
import sys
from pgw.cli.app import main
sys.exit(main())
"""
"""What pip writes for `pgw`, for an environment that pgw is not installed in."""

_SERVES = re.compile(r"pgw serves (http://\S+)")


@dataclass
class Member:
    """One process. What it says is in its own file."""

    process: subprocess.Popen[bytes]
    log: Path

    def words(self) -> str:
        """Return what it has said."""
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        """End it without a chance to do anything, a stopped one too."""
        self.process.kill()
        self.process.wait(STOP_LIMIT_S)

    def stop(self) -> int:
        """Ask it to end, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_LIMIT_S)


@dataclass
class Server(Member):
    """A process that takes payments at an address."""

    @property
    def address(self) -> str:
        """Where it listens."""
        found = _SERVES.search(self.words())
        assert found, self.words()
        return found[1]

    def ask(self, method: str, path: str, document: object = None, **headers: str) -> tuple[int, Any]:
        """Send one request with the admin key; return status and document."""
        data = None if document is None else json.dumps(document).encode()
        given = {"X-Internal-Api-Key": ADMIN_KEY, "Content-Type": "application/json", **headers}
        request = urllib.request.Request(self.address + path, data, given, method=method)
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_LIMIT_S) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, json.load(refused)

    def breaker(self, gateway_id: str, method: str = "UPI") -> dict[str, Any]:
        """Return what this process knows of one breaker."""
        items = self.ask("GET", "/circuit-breaker/status")[1]["items"]
        return next(each for each in items if (each["gateway_id"], each["payment_method"]) == (gateway_id, method))


@dataclass(frozen=True)
class Spoken:
    """A command that has ended: its code, what it wrote, and the seconds of processor it took."""

    code: int
    out: str
    err: str
    cpu_s: float


class Fleet:
    """Processes that share a folder, and in it the default home, a ledger and a Redis."""

    def __init__(self, folder: Path, **environ: str) -> None:
        """Take the settings all of them are started with."""
        self.folder = folder
        foreign = ("PGW_", "METRICS_", "RAZORPAY_", "DATABASE_URL", "REDIS_URL", "INTERNAL_API_KEY", "BIND_ADDR")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        self.bare = {**kept, "PYTHONPATH": str(ROOT), "PATH": f"{self._launcher()}:{os.environ['PATH']}"}
        self.environ = {**self.bare, "PGW_LOG_LEVEL": "warning", **environ}
        self.members: list[Member] = []

    def _launcher(self) -> Path:
        """Return the folder in which a shell finds `pgw`."""
        beside = Path(sys.executable).parent
        if shutil.which("pgw", path=str(beside)):
            return beside
        folder = self.folder / "bin"
        folder.mkdir()
        (folder / "pgw").write_text(LAUNCHER.format(python=sys.executable))
        (folder / "pgw").chmod(0o755)
        return folder

    def upgrade(self) -> None:
        """Make the ledger."""
        said = self.type("pgw db upgrade")
        assert said.code == 0, said.err

    def serve(self, *options: str) -> Server:
        """Start one more server and wait until it says where it is."""
        server = Server(*self._start("serve", "--bind", "127.0.0.1:0", "--no-embedded-workers", *options))
        self._wait(server, "pgw serves http")
        return server

    def work(self, kind: str) -> Member:
        """Start one more worker and wait until it says what it does."""
        worker = Member(*self._start("worker", kind))
        self._wait(worker, f"pgw worker {kind}: ")
        return worker

    def type(self, line: str, *, cwd: Path | None = None, environ: dict[str, str] | None = None) -> Spoken:
        """Type a line as it stands, where the servers run or elsewhere; no terminal is there."""
        out, err = self.folder / "typed.out", self.folder / "typed.err"
        with out.open("wb") as to_out, err.open("wb") as to_err:
            settings = self.environ if environ is None else environ
            name, *arguments = line.split()
            program = shutil.which(name, path=settings["PATH"])
            assert program, settings["PATH"]
            process = subprocess.Popen(
                [program, *arguments],
                cwd=cwd or self.folder,
                env=settings,
                stdin=subprocess.DEVNULL,
                stdout=to_out,
                stderr=to_err,
            )
            _, status, usage = os.wait4(process.pid, 0)
        # It was waited for here, for its usage; Popen must not look for it again.
        process.returncode = os.waitstatus_to_exitcode(status)
        return Spoken(process.returncode, out.read_text(), err.read_text(), usage.ru_utime + usage.ru_stime)

    def close(self) -> None:
        """End what runs."""
        for each in self.members:
            if each.process.poll() is None:
                each.kill()

    def _start(self, *arguments: str) -> tuple[subprocess.Popen[bytes], Path]:
        log = self.folder / f"{len(self.members)}-{arguments[0]}.log"
        with log.open("ab") as said:
            command = [sys.executable, "-m", "pgw.cli", *arguments]
            process = subprocess.Popen(
                command, cwd=self.folder, env=self.environ, stdout=said, stderr=said, start_new_session=True
            )
        return process, log

    def _wait(self, member: Member, word: str) -> None:
        self.members.append(member)

        def has_spoken() -> bool:
            assert member.process.poll() is None, member.words()
            return word in member.words()

        wait_until(has_spoken, f"'{word}'", START_LIMIT_S)


@contextmanager
def fleet(folder: Path, **environ: str) -> Iterator[Fleet]:
    """Give a place for processes, and end them whatever happens."""
    opened = Fleet(folder, **environ)
    try:
        yield opened
    finally:
        opened.close()


def body_of(customer_id: str, merchant_id: str = "m_001") -> dict[str, Any]:
    """Write a payment that every gateway takes, razorpay too."""
    return {
        "amount_minor": 1000,
        "currency": "INR",
        "payment_method": "UPI",
        "merchant_id": merchant_id,
        "customer_id": customer_id,
        "instrument": {"type": "UPI", "flow": "intent"},
        "customer": {"email": "asha@example.com", "contact": "+919000000000"},
        "client": {"ip": "192.0.2.1", "user_agent": "Mozilla/5.0", "referer": "https://shop.example"},
        "return_url": "https://shop.example/done",
    }


@dataclass(frozen=True)
class Told:
    """One payment as its client saw it: whom he asked, when, what came back after how long."""

    key: str
    server: Server
    asked_at: float
    took_s: float
    code: int
    document: dict[str, Any]


class Customers:
    """Whoever pays over HTTP; use as a context."""

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=ANSWER_LIMIT_S)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def pay(self, server: Server, address: str, key: str, merchant_id: str = "m_001") -> Told:
        """Ask for one payment."""
        began, asked_at = time.monotonic(), time.time()
        headers = {"Idempotency-Key": key}
        async with self._session.post(f"{address}/payments", json=body_of(key, merchant_id), headers=headers) as answer:
            document = await answer.json(content_type=None)
        return Told(key, server, asked_at, time.monotonic() - began, answer.status, document)

    async def decisions(self, address: str, payment_ids: Sequence[str], at_once: int = 8) -> list[dict[str, Any]]:
        """Read why payments went where they did."""
        free = asyncio.Semaphore(at_once)

        async def decision(payment_id: str) -> dict[str, Any]:
            async with free, self._session.get(f"{address}/payments/{payment_id}/routing-decision") as answer:
                assert answer.status == 200, await answer.text()
                found: dict[str, Any] = await answer.json()
                return found

        return list(await asyncio.gather(*map(decision, payment_ids)))


@dataclass
class Crowd:
    """They pay at a fixed rate (a second), whatever comes back, at each of the servers in turn."""

    customers: Customers
    servers: list[Server]
    group: asyncio.TaskGroup
    rate: float
    paying: list[asyncio.Task[Told]] = field(default_factory=list)
    _addresses: dict[int, str] = field(default_factory=dict)

    def at(self, server: Server) -> str:
        """Return a server's address, which is looked up once."""
        return self._addresses.setdefault(server.process.pid, server.address)

    async def send(self, count: int, merchant_id: str, begin: int) -> int:
        """Send so many, and say so; their keys are numbers that go on from `begin`."""
        began = time.monotonic()
        for sent in range(count):
            await asyncio.sleep(max(0.0, began + sent / self.rate - time.monotonic()))
            server = self.servers[(begin + sent) % len(self.servers)]
            paid = self.customers.pay(server, self.at(server), f"crowd-{begin + sent}", merchant_id)
            self.paying.append(self.group.create_task(paid))
        return count

    async def answers(self) -> list[Told]:
        """Wait for the answers to all that were sent since the last time."""
        told = await asyncio.gather(*self.paying)
        self.paying.clear()
        return list(told)
