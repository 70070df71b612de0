"""`pgw sandbox`, a process -> Razorpay as a customer and a tester meet it, and what its book says of money."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pgw.core.money.audit_rows import CAPTURED, REVERSED, SettlementLine

ANSWER_LIMIT_S = 20.0
WEBHOOK_SECRET = "the secret of both"  # of a sandbox


@dataclass(frozen=True)
class Bank:
    """Where it is."""

    address: str

    def settings(self) -> dict[str, str]:
        """Return what pgw is started with."""
        keys = {"RAZORPAY_KEY_ID": "rzp_test_pgw", "RAZORPAY_KEY_SECRET": "sandbox"}
        return {**keys, "RAZORPAY_BASE_URL": self.address, "RAZORPAY_WEBHOOK_SECRET": WEBHOOK_SECRET}

    def approve(self, transaction_ref: str) -> None:
        """Be the customer, who pays."""
        self._ask("POST", f"/sandbox/payments/{transaction_ref}/approve")

    def lines(self) -> tuple[SettlementLine, ...]:
        """List the money it moved, as a settlement list would."""
        found: list[SettlementLine] = []
        for each in self._ask("GET", "/sandbox/book")["payments"]:
            payment_id, number = each["receipt"].rsplit("-", 1)
            for kind, amount in ((CAPTURED, each["captured_amount"]), (REVERSED, each["refunded_amount"])):
                if amount:
                    line = SettlementLine(
                        gateway_id="razorpay",
                        payment_id=payment_id,
                        attempt_number=int(number),
                        amount_minor=amount,
                        currency=each["currency"],
                        kind=kind,
                    )
                    found.append(line)
        return tuple(found)

    def _ask(self, method: str, path: str) -> Any:
        data = b"{}" if method == "POST" else None
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=ANSWER_LIMIT_S) as answer:
            return json.load(answer)


@contextmanager
def bank() -> Iterator[Bank]:
    """Start one, and end it whatever happens."""
    command = [sys.executable, "-m", "pgw.cli", "sandbox", "--bind", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield Bank(process.stdout.readline().split(" ")[0].partition("=")[2])
        finally:
            process.kill()
