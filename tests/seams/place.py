"""A folder, a database, a bank -> a ledger that commands and servers work on, and the ways they die there."""

import json
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Table, select

from pgw.core.gateways.book import BookLine, BookStatus, SandboxBook
from pgw.core.ledger.engine.store import open_engine
from pgw.core.ledger.tables import attempts
from pgw.core.money.audit_rows import SettlementLine as Settled
from tests.faults.proof import ledger_of, settled_in, violations
from tests.ledgers import new_file
from tests.seams.ageing import pass_time
from tests.seams.bank import Bank
from tests.seams.fleet import Fleet, Server, Spoken, body_of, fleet

FROM_RAZORPAY_MINOR = 100_000
"""Payments of this amount or more go to razorpay, the smaller ones to the sandbox gateways."""

GATEWAYS = ("hdfc", "icici", "axis", "razorpay")

CHECK = "pgw worker verify --once"

_numbers = count(1)


@dataclass
class Place:
    """One ledger, the processes on it, and the bank they ask."""

    running: Fleet
    bank: Bank
    database: str
    home: Path
    server: Server = field(init=False)
    _others: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        """Note whose payments are at the bank already: it may serve several places."""
        self._others = frozenset(each.payment_id for each in self.bank.lines())

    def serve(self, failpoint: str | None = None) -> None:
        """Start a server, with a failpoint if given."""
        if failpoint is not None:
            self.running.environ["PGW_FAILPOINT"] = failpoint
        try:
            self.server = self.running.serve()
        finally:
            self.running.environ.pop("PGW_FAILPOINT", None)

    def share_out(self) -> None:
        """Let the amount of a payment decide where it goes."""
        for name in GATEWAYS[:-1]:
            changed = {"max_amount_minor": FROM_RAZORPAY_MINOR - 1}
            assert self.server.ask("PATCH", f"/gateways/{name}", changed)[0] == 200
        changed = {"min_amount_minor": FROM_RAZORPAY_MINOR}
        assert self.server.ask("PATCH", "/gateways/razorpay", changed)[0] == 200

    def pay(self, code: int, status: str, **changes: Any) -> str:
        """Take a payment that is answered so; return its id."""
        body = {**body_of("cust_001"), **changes}
        answer, document = self.server.ask("POST", "/payments", body, **{"Idempotency-Key": f"key-{next(_numbers)}"})
        assert (answer, document["status"]) == (code, status), document
        payment_id: str = document["payment_id"]
        return payment_id

    def pay_at_bank(self) -> str:
        """Take a payment whose customer has to act."""
        return self.pay(202, "REQUIRES_ACTION", amount_minor=FROM_RAZORPAY_MINOR)

    def pay_in_vain(self) -> str:
        """Take a payment that its gateway declines, and that is watched from then on."""
        return self.pay(201, "FAILURE", instrument={"type": "UPI", "vpa": "failure@sandbox"})

    def approve(self, payment_id: str) -> None:
        """Be the customer, who acts."""
        self.bank.approve(self.attempts(payment_id)[-1]["transaction_ref"])

    def attempts(self, payment_id: str) -> list[dict[str, Any]]:
        """Read its attempts."""
        return [row for row in self.rows(attempts) if row["payment_id"] == payment_id]

    def status(self, payment_id: str) -> str:
        """Ask how it stands."""
        status: str = self.server.ask("GET", f"/payments/{payment_id}")[1]["status"]
        return status

    def later(self, by: timedelta, payment_id: str) -> None:
        """Let time pass for one payment."""
        pass_time(self.database, by, payment_id)

    def move_late(self, payment_id: str, **changes: Any) -> None:
        """Let the gateway that declined a payment have taken its money after all."""
        book = SandboxBook(self.home / "sandbox.book")
        try:
            (declined,) = [each for each in self._book() if each["payment_id"] == payment_id][:1]
            moved = {
                **declined,
                "status": BookStatus.CAPTURED,
                "reason": None,
                "effective_at": datetime.now(UTC),
                **changes,
            }
            book.write(msgspec.convert(moved, BookLine))
        finally:
            book.close()

    def moved(self, payment_id: str) -> list[str]:
        """List what the books say of one payment's money, in their order."""
        return [each.kind for each in self._lines() if each.payment_id == payment_id]

    def dies(self, line: str, failpoint: str) -> None:
        """Type a command that is to die there."""
        said = self.running.type(line, environ={**self.running.environ, "PGW_FAILPOINT": failpoint})
        assert said.code == -signal.SIGKILL, (said.out, said.err)

    def does(self, line: str) -> Spoken:
        """Type a command that does what it says."""
        said = self.running.type(line)
        assert said.code == 0, said.err
        return said

    def told(self, line: str) -> Any:
        """Type a command that shows something."""
        return json.loads(self.does(f"{line} -o json").out)

    def rows(self, table: Table) -> list[dict[str, Any]]:
        """Read a table of the ledger."""
        engine = open_engine(self.database)
        try:
            with engine.connect() as connection:
                query = select(table).order_by(*table.primary_key.columns)
                return [dict(row) for row in connection.execute(query).mappings()]
        finally:
            engine.dispose()

    def broken(self) -> tuple[Any, ...]:
        """Check everything there is, ledger and books."""
        return violations(self.database, self._lines(), GATEWAYS)

    def _lines(self) -> tuple[Settled, ...]:
        mine = (each for each in self.bank.lines() if each.payment_id not in self._others)
        return (*settled_in(self.home), *mine)

    def _book(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in (self.home / "sandbox.book").read_bytes().splitlines()]


@contextmanager
def place(folder: Path, bank: Bank, database_url: str | None = None, **environ: str) -> Iterator[Place]:
    """Give a new ledger without a process on it, and end all processes there in the end."""
    settings: Mapping[str, str] = {"DATABASE_URL": database_url} if database_url else {}
    with fleet(folder, **bank.settings(), **settings, **environ) as running:
        home = folder / ".pgw"
        home.mkdir(mode=0o700)
        if database_url is None:
            new_file(home)
        yield Place(running, bank, ledger_of(home, database_url), home)
