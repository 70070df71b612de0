"""Every fault of the sandbox server -> what pgw answers, what it ends as, and the sandbox's book: docs/faults.md.

Run with `PGW_WRITE_DOCS=1` to write the table from what was seen; without, the page must say what was seen.
"""

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.page import SANDBOX, tell_section

ROOT = Path(__file__).parent.parent.parent
READY_WITHIN_S = 20.0
ENDS_WITHIN_S = 25.0

BODY = {
    "amount_minor": 1000,
    "currency": "INR",
    "payment_method": "UPI",
    "merchant_id": "m_001",
    "customer_id": "cust_001",
    "instrument": {"type": "UPI", "flow": "intent"},
    "customer": {"email": "asha@example.com", "contact": "+919000000000"},
    "client": {"ip": "192.0.2.1", "user_agent": "Mozilla/5.0", "referer": "https://shop.example"},
    "return_url": "https://shop.example/done",
}


@dataclass(frozen=True)
class Row:
    """What must come of one fault: the answer, the end, the attempts' gateways, charges in the book."""

    fault: str
    answer: str
    end: str
    gateways: str
    charges: int


ROWS = (
    Row("none", "202 REQUIRES_ACTION", "SUCCESS", "razorpay", 1),
    Row("commit_then_hang", "202 PENDING_VERIFICATION", "SUCCESS", "razorpay", 1),
    Row("commit_then_reset", "202 PENDING_VERIFICATION", "SUCCESS", "razorpay", 1),
    Row("truncated_json", "202 PENDING_VERIFICATION", "SUCCESS", "razorpay", 1),
    Row("bad_status_line", "202 PENDING_VERIFICATION", "SUCCESS", "razorpay", 1),
    Row("html502", "202 PENDING_VERIFICATION", "SUCCESS", "razorpay", 1),
    Row("slow_drip", "202 PENDING_VERIFICATION", "SUCCESS", "razorpay", 1),
    Row("slow", "202 REQUIRES_ACTION", "SUCCESS", "razorpay", 1),
    Row("wrong_amount", "202 REQUIRES_ACTION", "MANUAL_REVIEW", "razorpay", 0),
    Row("hang", "202 PENDING_VERIFICATION", "PENDING_VERIFICATION", "razorpay", 0),
    Row("late_success", "201 FAILURE", "FAILURE", "razorpay", 0),
    Row("decline_customer", "201 FAILURE", "FAILURE", "razorpay", 0),
    Row("decline_gateway", "201 SUCCESS", "SUCCESS", "razorpay, hdfc", 0),
    Row("429", "201 SUCCESS", "SUCCESS", "razorpay, hdfc", 0),
    Row("401", "201 SUCCESS", "SUCCESS", "razorpay, hdfc", 0),
)


def call(url: str, method: str = "GET", body: object = None, **headers: str) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **given}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)


@contextmanager
def running(*command: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PGW_", "DATABASE_", "RAZORPAY_"))
    }
    with subprocess.Popen(
        [sys.executable, "-m", "pgw.cli", *command],
        env={**kept, "PYTHONPATH": str(ROOT), **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as started:
        try:
            yield started
        finally:
            started.terminate()


@dataclass(frozen=True)
class Pair:
    """A sandbox and the pgw that was started with the line it printed."""

    sandbox: str
    pgw: str


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    home = tmp_path_factory.mktemp("faults")
    with running("sandbox", "--bind", "127.0.0.1:0") as sandbox:
        assert sandbox.stdout is not None
        line = sandbox.stdout.readline()
        environ = dict(each.split("=", 1) for each in line.split() if "=" in each)
        assert line.split()[-4:] == ["pgw", "serve", "--gateways", "razorpay"]
        command = ("serve", "--bind", "127.0.0.1:0", "--gateways", "razorpay,hdfc")
        with running(*command, PGW_HOME=str(home), GATEWAY_TIMEOUT_MS="2000", **environ):
            until = time.monotonic() + READY_WITHIN_S
            while not (home / "serve.json").exists():
                assert time.monotonic() < until
                time.sleep(0.05)
            found = Pair(environ["RAZORPAY_BASE_URL"], json.loads((home / "serve.json").read_text())["address"])
            stay_with_razorpay(found)
            yield found


def stay_with_razorpay(pair: Pair) -> None:
    """Route by affinity alone and trip late: here every fault is to be seen, elsewhere that a sick gateway is left."""
    scoring = call(f"{pair.pgw}/scoring/config")[1]
    scoring["weights"] = {name: float(name == "method_affinity") for name in scoring["weights"]}
    scoring["method_affinity"] = {"razorpay": {"UPI": 1.0}, "hdfc": {"UPI": 0.1}}
    scoring["breaker"] |= {"min_calls": 1000, "failures_in_a_row": 1000, "not_sent_in_a_row": 1000}
    status, refused = call(f"{pair.pgw}/scoring/config", "PUT", scoring, X_Internal_Api_Key="dev-internal-key")
    assert status == 200, refused


def seen(pair: Pair, row: Row) -> tuple[Row, int]:
    """Take one payment under a fault; return what came of it, and how many payments the gateway created."""
    faults = [] if row.fault == "none" else [row.fault]
    assert call(f"{pair.sandbox}/sandbox/faults", "PUT", {"next": faults})[0] == 200
    status, payment = call(f"{pair.pgw}/payments", "POST", BODY, Idempotency_Key=f"fault-{row.fault}")
    payment_id, answer = payment["payment_id"], f"{status} {payment['status']}"
    if payment["status"] == "REQUIRES_ACTION" and row.fault != "wrong_amount":
        call(f"{pair.sandbox}/sandbox/payments/{payment['transaction_ref']}/approve", "POST")
    until = time.monotonic() + ENDS_WITHIN_S
    checked: dict[str, Any] = {}
    while payment["status"] != row.end or (row.end == "PENDING_VERIFICATION" and not checked.get("checks_made")):
        assert time.monotonic() < until, f"{row.fault}: {payment['status']}, not {row.end}"
        time.sleep(0.1)
        payment = call(f"{pair.pgw}/payments/{payment_id}")[1]
        checked = call(f"{pair.pgw}/payments/{payment_id}/status-verification")[1]
    attempts = call(f"{pair.pgw}/payments/{payment_id}/attempts")[1]["attempts"]
    book = call(f"{pair.sandbox}/sandbox/book")[1]
    mine = [each for each in book["payments"] if each["receipt"].startswith(payment_id)]
    gateways = ", ".join(each["gateway_id"] for each in attempts)
    charges = sum(each["captured_amount"] > 0 for each in mine)
    return Row(row.fault, answer, payment["status"], gateways, charges), len(mine)


def table(rows: list[Row]) -> str:
    lines = [
        "One payment for each fault of `pgw sandbox`, through a real `pgw serve --gateways razorpay,hdfc`, by",
        "`tests/faults/test_razorpay_faults.py`. A charge is a captured payment in the sandbox's book; where hdfc took",
        "the payment over, razorpay charged nothing.",
        "",
        "| fault at razorpay | answer to POST /payments | end | attempts at | charges at razorpay |",
        "|---|---|---|---|---|",
        *(f"| `{each.fault}` | {each.answer} | {each.end} | {each.gateways} | {each.charges} |" for each in rows),
        "",
        "`hang` made nothing, which a gateway that knows nothing does not prove: it stays under check. `late_success`",
        "was declined and is authorised five seconds later: it is not captured, and expires. After",
        "`401` the answer of `/ops/readiness` is degraded by the check `gateway:razorpay`.",
        "",
    ]
    return "\n".join(lines)


@pytest.mark.slow
def test_every_fault_ends_as_it_must_and_nothing_is_charged_twice(pair: Pair) -> None:
    """Each fault of the sandbox ends as its row says, and no attempt ever creates a second payment."""
    results = []
    for row in ROWS:
        result, created = seen(pair, row)
        print(f"{result.fault:18} {result.answer:26} {result.end:22} {result.gateways:16} {result.charges}")
        assert created <= 1
        results.append(result)
    checks = call(f"{pair.pgw}/ops/readiness")[1]["checks"]
    found = {each["name"]: (each["status"], re.findall(r"^AUTH", each["detail"])) for each in checks}
    assert found["gateway:razorpay"] == ("degraded", ["AUTH"])
    assert results == list(ROWS)
    tell_section(SANDBOX, table(results))
