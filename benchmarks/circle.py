"""A benchmark -> pgw as it runs in production: PostgreSQL, Redis, servers and workers, each a process of its own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import Request, urlopen

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from tests.services import fresh_database, postgres_server, redis_server  # noqa: E402  # beside this folder

ADMIN_KEY = "dev-internal-key"
START_LIMIT_S = 30.0


@dataclass
class Circle:
    """The running processes. `ports` are the servers'; `environ` is what every process is started with."""

    database: str
    redis: str
    environ: dict[str, str]
    ports: list[int] = field(default_factory=list)
    servers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def change_gateway(self, gateway_id: str, document: dict[str, Any]) -> None:
        """Tell a gateway how to behave, as an operator would."""
        self.ask("PATCH", f"/gateways/{gateway_id}", document)

    def ask(self, method: str, path: str, document: object = None) -> Any:
        """Send one request with the admin key to the first server."""
        request = Request(  # our own server
            f"http://127.0.0.1:{self.ports[0]}{path}",
            method=method,
            data=None if document is None else json.dumps(document).encode(),
            headers={"X-Internal-Api-Key": ADMIN_KEY, "Content-Type": "application/json"},
        )
        with urlopen(request, timeout=10) as answer:
            return json.load(answer)


@contextmanager
def circle(*, servers: int = 2, metrics: int = 2, verify: int = 1, fsync: bool = True) -> Iterator[Circle]:
    """Start everything, yield it, end everything."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(TemporaryDirectory()))
        database = stack.enter_context(fresh_database(stack.enter_context(postgres_server(fsync=fsync))))
        redis = stack.enter_context(redis_server())
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PGW_")},
            "DATABASE_URL": database,
            "REDIS_URL": redis,
            "PYTHONPATH": str(HERE.parent),
            "PGW_LOG_LEVEL": "warning",
        }
        started = Circle(database, redis, environ)
        _pgw(["db", "upgrade"], {**environ, "PGW_HOME": str(home / "upgrade")})
        for number in range(servers):
            own = {**environ, "PGW_HOME": str(home / f"serve{number}")}
            command = ["serve", "--bind", "127.0.0.1:0", "--no-embedded-workers"]
            started.servers.append(stack.enter_context(_running(command, own)))
            started.ports.append(_port(home / f"serve{number}" / "serve.json", started.servers[-1]))
        for kind, count in (("metrics", metrics), ("verify", verify)):
            for number in range(count):
                own = {**environ, "PGW_HOME": str(home / f"{kind}{number}")}
                started.workers.append(stack.enter_context(_running(["worker", kind], own)))
        yield started


def _pgw(arguments: list[str], environ: dict[str, str]) -> None:
    subprocess.run([sys.executable, "-m", "pgw.cli", *arguments], env=environ, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def _running(arguments: list[str], environ: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-m", "pgw.cli", *arguments], env=environ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()


def _port(note: Path, process: subprocess.Popen[bytes]) -> int:
    until = time.monotonic() + START_LIMIT_S
    while not note.exists():
        if process.poll() is not None or time.monotonic() > until:
            sys.exit("pgw serve did not start")
        time.sleep(0.05)
    return int(json.loads(note.read_text())["address"].rpartition(":")[2])
