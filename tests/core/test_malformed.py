"""Bytes that are no document are malformed for every reader, whichever exception this msgspec raises for them."""

import ast
from pathlib import Path

import msgspec
import pytest

from pgw.core.breakers.breaker import Breaker
from pgw.core.gateways.book import BookLine, BookStatus, SandboxBook
from pgw.core.gateways.razorpay_answers import RazorpayOrder, read
from pgw.core.hot import on_redis
from pgw.core.ledger.outbox import occurred_at
from pgw.core.ports import StoredBreaker
from pgw.razorpay_simulator.requests import CreateOrder, decode
from tests.doubles import NOON
from tests.sandbox.books import refusal

PGW = Path(__file__).parents[2] / "pgw"

CAUGHT_IN_PART = frozenset({"DecodeError", "MsgspecError", "UnicodeDecodeError"})
"""Members of MALFORMED by name: who catches one of them depends on the version of msgspec."""

LINE = msgspec.json.encode(
    BookLine(
        payment_id="p1",
        attempt_number=1,
        gateway_id="hdfc",
        amount_minor=1000,
        currency="INR",
        status=BookStatus.CAPTURED,
        transaction_ref="ref-p1",
        reason=None,
        effective_at=NOON,
    )
)

NO_UTF_8 = b'{"currency": "\xff", "id": "\xff", "state": "\xff", "occurred_at": "\xff", "process": "\xff"}'
"""Has a text that each of the readers decodes; the sandbox refuses an unknown member before it reads on."""

malformed = pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b"[]",
        NO_UTF_8,
        NO_UTF_8.replace(b"\xff", b"\xed\xa0\x80"),
        b'{"x":' * 100_000,
    ],
    ids=["torn", "no object", "no UTF-8", "surrogate", "too deep"],
)


@malformed
def test_a_malformed_answer_of_a_gateway_is_not_read(raw: bytes) -> None:
    assert read(raw, RazorpayOrder) is None


@malformed
def test_a_malformed_event_has_no_timestamp(raw: bytes) -> None:
    assert occurred_at(raw) is None


@malformed
def test_a_malformed_breaker_is_as_good_as_never_stored(raw: bytes) -> None:
    assert on_redis._held(raw) == StoredBreaker(Breaker(), raw)


@malformed
def test_a_malformed_heartbeat_is_left_out(raw: bytes) -> None:
    assert on_redis._heartbeat(b"1.0 " + raw) is None


@malformed
def test_a_malformed_line_of_the_book_is_skipped(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "book").write_bytes(raw + b"\n" + LINE + b"\n")
    assert SandboxBook(tmp_path / "book").find("hdfc", "p1", 1, NOON) is not None


@malformed
def test_a_malformed_request_is_refused_by_the_sandbox(raw: bytes) -> None:
    assert refusal(lambda: decode(raw, CreateOrder)).failure.code == "BAD_REQUEST_ERROR"


def test_no_module_catches_a_part_of_malformed() -> None:
    """msgspec has moved an input from one of these exceptions to another before: the readers catch MALFORMED."""
    parts = [
        f"{path.relative_to(PGW)}:{node.lineno}"
        for path in sorted(PGW.rglob("*.py"))
        if path != PGW / "malformed.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Name) and node.id in CAUGHT_IN_PART)
        or (isinstance(node, ast.Attribute) and node.attr in CAUGHT_IN_PART)
    ]
    assert parts == []
