"""An address, a key -> one payment asked for as a client does, and the whole answer."""

import json
import urllib.error
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tests.seams.load import ANSWER_LIMIT_S, Address

WELL, SLOW = "test@okhdfcbank", "slow@sandbox"
"""Who pays at once, and who takes a second, the money being taken at its beginning."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What came back: the status code, how long to wait before asking again, the payment or the refusal."""

    code: int
    retry_after: str | None
    document: dict[str, Any]

    @property
    def word(self) -> str:
        """The refusal's code, or the payment's status."""
        word: str = self.document.get("code") or self.document["status"]
        return word

    @property
    def said(self) -> str:
        """Status code and word."""
        return f"{self.code} {self.word}"

    @property
    def may_ask_again(self) -> str:
        """Return whether it says when to ask again."""
        return "with Retry-After" if self.retry_after else "without Retry-After"


def pay(address: Address, key: str, vpa: str = WELL) -> Answered:
    """Ask for the payment of a key, or again for it."""
    document = {
        "amount_minor": 1000,
        "currency": "INR",
        "payment_method": "UPI",
        "merchant_id": "m_001",
        "customer_id": "cust_001",
        "instrument": {"type": "UPI", "vpa": vpa},
    }
    return _asked(address, "/payments", json.dumps(document).encode(), {"Idempotency-Key": key})


def look(address: Address, path: str) -> Answered:
    """Read what is at a path."""
    return _asked(address, path, None, {})


def pay_at_once(address: Address, keys: list[str], vpa: str = WELL) -> list[Future[Answered]]:
    """Begin payments that are under way together."""
    with_all = ThreadPoolExecutor(len(keys))
    paying = [with_all.submit(pay, address, key, vpa) for key in keys]
    with_all.shutdown(wait=False)
    return paying


def _asked(address: Address, path: str, data: bytes | None, headers: dict[str, str]) -> Answered:
    host, port = address
    request = urllib.request.Request(f"http://{host}:{port}{path}", data, headers)
    if data is not None:
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_LIMIT_S) as answer:
            return Answered(answer.status, answer.headers["Retry-After"], json.load(answer))
    except urllib.error.HTTPError as refused:
        with refused:
            return Answered(refused.code, refused.headers["Retry-After"], json.load(refused))
