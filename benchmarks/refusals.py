"""`python benchmarks/refusals.py` -> what each kind of junk costs the event loop before it is refused.

Each body of 64 KiB is refused beside two plain ones, by turns: a small body with an unknown member, and one of the same
size that is one long text. The times are of the checks a request runs in its handler, without the socket and the
answer, the lowest of all rounds: what else runs on the machine only adds. Then the body of huge floats over HTTP,
against `pgw serve` at the address given, one at a time.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parents[1]))

from pgw.core.errors import PgwError
from pgw.core.payment.card_data import may_hold_card_data
from pgw.server.http import codec, guards
from pgw.server.routes.payments import _REQUEST, ListQuery
from tests.server.junk import BODIES, TARGETS, asked

SIZE = 64 * 1024
GOAL_MS, GOAL_RATIO = 2.0, 20
HTTP_ROUNDS = 20

PAYMENT = (
    b'{"amount_minor": 1000, "currency": "INR", "payment_method": "UPI", "merchant_id": "m_001", '
    b'"customer_id": "cust_001", "instrument": {"type": "UPI", "vpa": "test@okhdfcbank"}}'
)
SMALL = PAYMENT[:-1] + b', "x": 1}'
PLAIN = b'{"x":"' + b"a" * (SIZE - 8) + b'"}'


def refused(target: bytes, body: bytes) -> float:
    """Return the ms until this request is refused."""
    request = asked(target, body)
    began = time.perf_counter()
    try:
        if not guards._carries_card_data(request):  # noqa: SLF001
            if request.query_string:
                codec.read_query(request, ListQuery)
            codec.read_body(request, _REQUEST)
    except PgwError:
        pass
    return (time.perf_counter() - began) * 1000


def side_by_side(junk: Callable[[], float], rounds: int) -> tuple[float, float, float]:
    """Return the lowest ms of junk, of a small plain refusal and of a plain one of the same size."""
    runs = (junk, lambda: refused(b"/payments", SMALL), lambda: refused(b"/payments", PLAIN))
    taken = [[run() for run in runs] for _ in range(rounds)]
    junk_ms, small_ms, plain_ms = (min(column) for column in zip(*taken, strict=True))
    return junk_ms, small_ms, plain_ms


def report(rounds: int) -> None:
    print(f"{'junk':40}{'bytes':>8}{'ms':>8}{'of a small refusal':>20}{'of one of its size':>20}")
    kinds = [(kind, b"/payments", make(SIZE)) for kind, make in BODIES.items()]
    kinds += [(f"target, {kind}", target, b"{}") for kind, target in TARGETS.items()]
    for kind, target, body in kinds:
        ms, small_ms, plain_ms = side_by_side(lambda target=target, body=body: refused(target, body), rounds)  # type: ignore[misc]
        missed = "" if ms <= GOAL_MS and ms <= GOAL_RATIO * plain_ms else "  *"
        size = len(target) + len(body)
        print(f"{kind:40}{size:>8}{ms:>8.2f}{ms / small_ms:>20.1f}{ms / plain_ms:>20.1f}{missed}")
    print(f"goal: <= {GOAL_MS:.0f} ms, and <= {GOAL_RATIO} times a plain refusal of the same size; * is above it")


def report_payment(rounds: int) -> None:
    def scan() -> float:
        began = time.perf_counter()
        for _ in range(1000):
            may_hold_card_data(PAYMENT)
        return (time.perf_counter() - began) * 1000

    print(f"a payment's body is cleared in {min(scan() for _ in range(rounds)):.2f} us")


def report_http(address: str) -> None:
    with httpx.Client(base_url=address, trust_env=False) as client:
        for name, body in (
            ("huge floats", BODIES["floats, huge"](SIZE)),
            ("plain, same size", PLAIN),
            ("small", SMALL),
        ):
            took = []
            for _ in range(HTTP_ROUNDS):
                began = time.perf_counter()
                headers = {"Content-Type": "application/json", "Idempotency-Key": "k"}
                status = client.post("/payments", content=body, headers=headers).status_code
                took.append((time.perf_counter() - began) * 1000)
            took.sort()
            print(f"over HTTP, {name:20}{status}  p50 {took[len(took) // 2]:.2f} ms, highest {took[-1]:.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--address", help="of a running pgw serve, such as http://127.0.0.1:8000")
    wanted = parser.parse_args()
    report(wanted.rounds)
    report_payment(wanted.rounds)
    if wanted.address:
        report_http(wanted.address)


if __name__ == "__main__":
    main()
