"""Razorpay's address -> a real `pgw serve` that charges there first and at hdfc next; what came of each payment."""

import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgw.core.ledger.tables import outbox
from tests.faults.proof import settled, violations
from tests.faults.wire_gateway import KEY_ID, SECRET, WireGateway
from tests.seams.fleet import ADMIN_KEY, body_of
from tests.seams.serving import SERVE, Shop, shop, wait_until

TIMEOUT_MS = 2_000
ANSWER_LIMIT_S = 30.0
ENDS_WITHIN_S = 30.0

LATE = {"min_calls": 1000, "failures_in_a_row": 1000, "not_sent_in_a_row": 1000}
"""Breakers that let a gateway be seen failing for a whole module of tests."""


@dataclass(frozen=True)
class Answer:
    """What a client was told."""

    code: int
    document: dict[str, Any]
    headers: Mapping[str, str]

    @property
    def words(self) -> str:
        """Its code, and the status or the refusal."""
        return f"{self.code} {self.document.get('status') if self.code < 400 else self.document['code']}"


@dataclass(frozen=True)
class Seen:
    """One payment: what its client was told, how it ended, what it was at the gateways.

    `tried`: each attempt's gateway with the error it was told with; `orders` and `posts`: the creating calls that
    razorpay got; `charges`: payments that were captured, at either gateway; `broken`: invariants violated.
    """

    payment_id: str
    answer: str
    end: str
    tried: tuple[str, ...]
    orders: int
    posts: int
    charges: int
    broken: int

    @property
    def words(self) -> str:
        """Write it for the page of faults."""
        end = "" if self.answer.endswith(f" {self.end}") else f", then {self.end}"
        calls = f"{self.posts} charging call{'' if self.posts == 1 else 's'}"
        money = f"{self.charges} charge{'' if self.charges == 1 else 's'}"
        return f"{self.answer}{end}; {', '.join(self.tried)}; {calls}, {money}; {self.broken} violations"


def razorpay_first(scoring: dict[str, Any], breaker: Mapping[str, int]) -> dict[str, Any]:
    """Route by affinity alone: razorpay first, whatever becomes of it while its breaker is closed."""
    return scoring | {
        "weights": {name: float(name == "method_affinity") for name in scoring["weights"]},
        "method_affinity": {"razorpay": {"UPI": 1.0}, "hdfc": {"UPI": 0.1}},
        "breaker": scoring["breaker"] | breaker,
    }


class Till:
    """A server, and who pays there."""

    def __init__(self, opened: Shop) -> None:
        self.shop = opened
        self._paid = 0

    def ask(self, method: str, path: str, document: object = None, **headers: str) -> Answer:
        """Send one request with the admin key."""
        host, port = self.shop.address
        data = None if document is None else json.dumps(document).encode()
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(
            f"http://{host}:{port}{path}",
            data,
            {"X-Internal-Api-Key": ADMIN_KEY, "Content-Type": "application/json", **given},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_LIMIT_S) as told:
                return Answer(told.status, json.load(told), dict(told.headers))
        except urllib.error.HTTPError as refused:
            with refused:
                return Answer(refused.code, json.load(refused), dict(refused.headers))

    def prefer_razorpay(self, breaker: Mapping[str, int]) -> None:
        """Let razorpay be tried first, by breakers of these rules."""
        scoring = self.ask("GET", "/scoring/config").document
        answer = self.ask("PUT", "/scoring/config", razorpay_first(scoring, breaker))
        assert answer.code == 200, answer.document

    def pay(self) -> Answer:
        """Ask for one more payment."""
        self._paid += 1
        return self._pay(f"wire-{self._paid}")

    def again(self, answer: Answer) -> Answer:
        """Ask for a payment once more, under its key."""
        return self._pay(answer.document["customer_id"])

    def _pay(self, key: str) -> Answer:
        return self.ask("POST", "/payments", body_of(key), Idempotency_Key=key)

    def wait_for(self, answer: Answer, status: str) -> None:
        """Wait until a payment has a status."""
        path = f"/payments/{answer.document['payment_id']}"
        wait_until(lambda: bool(self.ask("GET", path).document["status"] == status), f"{path} {status}", ENDS_WITHIN_S)

    def wait_checked(self, answer: Answer, times: int) -> dict[str, Any]:
        """Wait until the gateway was asked so often about a payment; return what became of it."""
        path = f"/payments/{answer.document['payment_id']}/status-verification"
        wait_until(
            lambda: bool(self.ask("GET", path).document["checks_made"] >= times), f"{path} {times}", ENDS_WITHIN_S
        )
        return self.ask("GET", path).document

    def failures_in_a_row(self) -> int:
        """Return what razorpay's breaker counts against it."""
        items = self.ask("GET", "/circuit-breaker/status").document["items"]
        (shown,) = (each for each in items if (each["gateway_id"], each["payment_method"]) == ("razorpay", "UPI"))
        return int(shown["consecutive_failures"])

    def seen(self, answer: Answer, razorpay: WireGateway) -> Seen:
        """Say what came of a payment so far, and check all that the ledger and both gateways know."""
        assert answer.code < 400, answer.document
        payment_id = answer.document["payment_id"]
        lines = (*razorpay.book.statement(), *settled(self.shop.book()))
        broken = violations(self.shop.database, lines, ("razorpay", "hdfc"))
        assert broken == ()
        return Seen(
            payment_id,
            answer.words,
            self.ask("GET", f"/payments/{payment_id}").document["status"],
            tuple(self._tried(payment_id)),
            len(razorpay.calls_of(payment_id, "order")),
            len(razorpay.calls_of(payment_id, "charge")),
            sum(each.payment_id == payment_id for each in lines),
            len(broken),
        )

    def _tried(self, payment_id: str) -> Iterator[str]:
        """Read how attempts ended at first: an end that a check found later is told by another event."""
        for row in self.shop.rows(outbox):
            event = row["event"] if isinstance(row["event"], dict) else json.loads(row["event"])
            if (event.get("payment_id"), event["type"]) == (payment_id, "payment.attempted"):
                yield f"{event['gateway_id']} {event.get('error_code') or event['status']}"


@contextlib.contextmanager
def till(home: Path, base_url: str, breaker: Mapping[str, int] = LATE) -> Iterator[Till]:
    """Start a server whose razorpay is at an address."""
    with shop(home, None, TIMEOUT_MS) as opened:
        opened._environ |= {
            "RAZORPAY_BASE_URL": base_url,
            "RAZORPAY_KEY_ID": KEY_ID,
            "RAZORPAY_KEY_SECRET": SECRET,
        }
        opened.start((*SERVE, "--gateways", "razorpay,hdfc"))
        served = Till(opened)
        served.prefer_razorpay(breaker)
        yield served
