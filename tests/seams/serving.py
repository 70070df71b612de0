"""Home, database -> real `pgw serve` processes: started, killed, stopped, and what they left on disk."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Select, Table, select

from pgw.core.ledger.engine.store import open_engine
from pgw.core.ledger.tables import attempts, payments
from pgw.core.payment.payment import AttemptStatus, Status
from pgw.settings import load

START_LIMIT_S = 30.0
POLL_EVERY_S = 0.05

GATEWAY_TIMEOUT_MS = 400
"""Short, so that the calls that never answer end soon, and their leases with them."""

DRAIN_S = 12

SERVE = ("-m", "pgw.cli", "serve", "--bind", "127.0.0.1:0")


class TimedOutError(Exception):
    """What was waited for did not come."""


def wait_until(condition: Callable[[], bool], what: str, within_s: float = START_LIMIT_S) -> None:
    """Look again and again until it is so, within a bound."""
    until = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > until:
            raise TimedOutError(f"{what} did not come within {within_s:.0f} s")
        time.sleep(POLL_EVERY_S)


class Records:
    """What is kept of all payments: the ledger, and the sandbox's book in a home."""

    def __init__(self, home: Path, database: str) -> None:
        self.home = home
        self.database = database

    def rows(self, table: Table) -> list[dict[str, Any]]:
        """Read a table of the ledger, beside the servers."""
        return self._read(select(table).order_by(*table.primary_key.columns))

    def _read(self, query: Select[Any]) -> list[dict[str, Any]]:
        engine = open_engine(self.database)
        try:
            with engine.connect() as connection:
                return [dict(row) for row in connection.execute(query).mappings()]
        finally:
            engine.dispose()

    def book(self) -> list[dict[str, Any]]:
        """Read the sandbox's book by ourselves; a line torn by a kill says nothing."""
        path = self.home / "sandbox.book"
        lines = []
        for text in path.read_bytes().splitlines() if path.exists() else ():
            with contextlib.suppress(ValueError):
                lines.append(json.loads(text))
        return lines

    def captures(self) -> Counter[str]:
        """Count the charges of each payment."""
        return Counter(line["payment_id"] for line in self.book() if line["status"] == "CAPTURED")

    def is_healed(self) -> bool:
        """Whether nothing is on its way any more, and all that a gateway has an answer for has been asked."""
        if self._read(select(payments.c.payment_id).where(payments.c.status == Status.PROCESSING)):
            return False
        unknown = attempts.c.status.in_((AttemptStatus.SENDING, AttemptStatus.TIMEOUT))
        open_ones = self._read(select(attempts).where(unknown))
        if not open_ones:
            return True
        answered = {(line["payment_id"], line["attempt_number"]) for line in self.book()}
        return not any(
            row["status"] == AttemptStatus.SENDING or (row["payment_id"], row["attempt_number"]) in answered
            for row in open_ones
        )


class Shop(Records):
    """One home and one ledger, and the server that works on them."""

    def __init__(
        self, home: Path, database_url: str | None, timeout_ms: int, drain_s: int, redis_url: str | None = None
    ) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._log = home / "serve.log"
        self._environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PGW_")},
            "PGW_HOME": str(home),
            "GATEWAY_TIMEOUT_MS": str(timeout_ms),
            "PGW_DRAIN_SECONDS": str(drain_s),
            "PGW_LOG_LEVEL": "warning",
        }
        for name in ("DATABASE_URL", "INTERNAL_API_KEY", "BIND_ADDR", "REDIS_URL"):
            self._environ.pop(name, None)
        if database_url:
            self._environ["DATABASE_URL"] = database_url
        if redis_url:
            self._environ["REDIS_URL"] = redis_url
        super().__init__(home, load(self._environ).database)
        self.process: subprocess.Popen[bytes] | None = None
        self.address = ("127.0.0.1", 0)

    def start(self, command: Sequence[str] = SERVE, **environ: str) -> None:
        """Start a server, with more settings if there are any, and wait until it says where it is."""
        settings = {**self._environ, **environ}
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command], env=settings, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(self._is_ready, "the server's address")
        parts = urlsplit(self._note()["address"])
        self.address = (str(parts.hostname), int(parts.port or 0))

    def _note(self) -> dict[str, Any]:
        with contextlib.suppress(FileNotFoundError):
            note: dict[str, Any] = json.loads((self.home / "serve.json").read_text())
            return note
        return {}

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.words()
        # A killed server leaves its note behind; ours has our process's id in it.
        return bool(self._note().get("pid") == self.process.pid)

    def kill(self) -> None:
        """End it without a chance to do anything."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(START_LIMIT_S)
        self.process = None

    def wait_dead(self) -> int:
        """Wait for a server that ends itself and return how it ended."""
        assert self.process is not None
        code = self.process.wait(START_LIMIT_S)
        self.process = None
        return code

    def stop(self, within_s: float) -> int:
        """Ask it to stop and return its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(within_s)
        self.process = None
        return code

    def words(self) -> str:
        """Return what all servers of this home have written."""
        return self._log.read_text(errors="replace")


@contextlib.contextmanager
def shop(
    home: Path,
    database_url: str | None,
    timeout_ms: int = GATEWAY_TIMEOUT_MS,
    drain_s: int = DRAIN_S,
    redis_url: str | None = None,
) -> Iterator[Shop]:
    """Give a home, and end its server whatever happens."""
    opened = Shop(home, database_url, timeout_ms, drain_s, redis_url)
    try:
        yield opened
    finally:
        if opened.process is not None:
            opened.kill()


@dataclass(frozen=True, slots=True)
class Audit:
    """What the ledger and the sandbox's book say of all payments, after everything has healed."""

    payments: dict[str, dict[str, Any]]
    last_attempts: dict[str, dict[str, Any]]
    orphans: list[dict[str, Any]]
    captures: Counter[str]

    def ended(self, status: Status) -> set[str]:
        """Name the payments of one status."""
        return {key for key, row in self.payments.items() if row["status"] == status}

    def unscheduled(self) -> set[str]:
        """Name the payments that are neither ended nor under a check."""
        return {
            key
            for key, row in self.payments.items()
            if not Status(row["status"]).is_final and self.last_attempts[key]["next_check_at"] is None
        }


def audit(kept: Records) -> Audit:
    """Compare ledger and book."""
    attempted = kept.rows(attempts)
    announced = {(row["payment_id"], row["attempt_number"], row["gateway_id"]) for row in attempted}
    return Audit(
        payments={row["payment_id"]: row for row in kept.rows(payments)},
        last_attempts={row["payment_id"]: row for row in attempted},
        orphans=[
            line
            for line in kept.book()
            if (line["payment_id"], line["attempt_number"], line["gateway_id"]) not in announced
        ],
        captures=kept.captures(),
    )
