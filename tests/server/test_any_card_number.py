"""Any card number of any scheme, however it is written and wherever it stands: refused, or in nothing that is kept."""

import json
import os
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import inspect, text

from pgw.core.ledger.engine.store import open_engine
from pgw.core.payment.card_number import LENGTHS
from pgw.core.verification.webhook import signature_of
from tests.faults.proof import ledger_of
from tests.server.kept import violated_by
from tests.server.serving import Served, served
from tests.server.wire import ADMIN, Answer, new_key, payment
from tests.services import fresh_database

SECRET = "the gateway's secret"
REFUSED = (400, "CARD_DATA_NOT_ACCEPTED")
NOBODY = "01980c5e-7f4a-7cc2-9a5c-6b3f7d2e1a90"

ZEROS = [chr(each) for each in (0x30, 0xFF10, 0x0660, 0x0966)]
"""The zero of ASCII, full width, Arabic and Devanagari; their nines stand nine places behind."""


@dataclass
class Spied:
    """A server, all numbers it was shown, how it refused them, and how often it repeated one."""

    running: Served
    name: str
    shown: set[str] = field(default_factory=set)
    refusals: set[tuple[int, str | None]] = field(default_factory=set)
    repeated: int = 0

    def show(self, number: str, method: str, target: str, body: object, headers: dict[str, str]) -> Answer:
        self.shown.add(_digits(number))
        answer = self.running.api.call(method, target, body, headers)
        self.repeated += self.is_in(json.dumps([answer.document, dict(answer.headers)], ensure_ascii=False))
        return answer

    def refuse(self, number: str, method: str, target: str, body: object, headers: dict[str, str]) -> None:
        answer = self.show(number, method, target, body, headers)
        assert answer.refusal == REFUSED
        self.refusals.add(answer.refusal)

    def is_in(self, kept: str) -> bool:
        """Whether one of the numbers stands there, in whatever digits and groups."""
        plain = _digits(kept)
        return any(number in plain for number in self.shown)


def _digits(written: str) -> str:
    plain = written.replace(" ", "").replace("-", "")
    return "".join(str(unicodedata.decimal(each)) if each.isdecimal() else each for each in plain)


@pytest.fixture(scope="module", params=["SQLite", "PostgreSQL"])
def spied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spied]:
    """Run a server that logs all it can; the last test looks into all it kept."""
    variables = {"RAZORPAY_WEBHOOK_SECRET": SECRET}
    with ExitStack() as stack:
        if request.param == "PostgreSQL":
            postgres_url = request.getfixturevalue("postgres_url")
            variables["DATABASE_URL"] = stack.enter_context(fresh_database(postgres_url))
        folder = tmp_path_factory.mktemp(f"any-card-{request.param}")
        yield Spied(stack.enter_context(served(folder, **variables)), request.param)


def _check_digit(digits: str) -> str:
    doubled = (sum(divmod(int(each) * (2 - place % 2), 10)) for place, each in enumerate(reversed(digits)))
    return str(-sum(doubled) % 10)


@st.composite
def plain_numbers(draw: st.DrawFn) -> str:
    """Draw digits that a scheme could have issued."""
    first = draw(st.sampled_from(sorted(LENGTHS)))
    length = draw(st.sampled_from(sorted(LENGTHS[first])))
    digits = str(first) + draw(st.text("0123456789", min_size=length - 2, max_size=length - 2))
    return digits + _check_digit(digits)


@st.composite
def numbers(draw: st.DrawFn, zeros: tuple[str, ...] = ("0",)) -> str:
    """Draw such a number in groups of any length, in any digits."""
    zero = ord(draw(st.sampled_from(zeros)))
    gaps = st.sampled_from(["", "", "", " ", "-"])
    return "".join(chr(zero + int(each)) + draw(gaps) for each in draw(plain_numbers())).strip(" -")


within = st.sampled_from(["{}", "card: {}, thanks", "({})", "#{}\n", "é {}", "https://shop.example/?card={}&x=1"])

STRINGS = ("currency", "payment_method", "merchant_id", "customer_id", "merchant_reference", "return_url", "x")
GROUPS = {
    "customer": ("email", "contact", "x"),
    "client": ("ip", "user_agent", "referer"),
    "instrument": ("type", "flow", "vpa", "token", "bin", "last4", "name", "bank_code", "exp_month", "x"),
    "metadata": ("note",),
}


@st.composite
def bodies(draw: st.DrawFn, text: str, digits: str) -> dict[str, Any]:
    """Put a text with a number, or the number itself, somewhere into a payment."""
    group = draw(st.sampled_from([*GROUPS, "", "", "name", "number", "deep"]))
    member = draw(st.sampled_from(GROUPS.get(group, STRINGS)))
    if group in GROUPS:
        return {**payment(), group: {member: text}}
    number = draw(st.sampled_from([int(digits), -int(digits), [int(digits)]]))
    places: dict[str, dict[str, Any]] = {
        "": {member: text},
        "name": draw(st.sampled_from([{text: 1}, *({holder: {text: "x"}} for holder in GROUPS)])),
        "number": {draw(st.sampled_from(["amount_minor", "metadata", "x"])): number},
        "deep": {"metadata": {"a": [{"b": [text]}]}},
    }
    return {**payment(), **places[group]}


@settings(max_examples=250)
@given(data=st.data())
def test_in_a_payment(spied: Spied, data: st.DataObject) -> None:
    number = data.draw(numbers(tuple(ZEROS)))
    body = data.draw(bodies(data.draw(within).format(number), _digits(number)))
    content = json.dumps(body, ensure_ascii=data.draw(st.booleans())).encode()
    spied.refuse(number, "POST", "/payments", content, {"Idempotency-Key": new_key()})


@settings(max_examples=80)
@given(number=numbers(), text=st.sampled_from(["{}", "order_1:{}", "({})"]), key=st.booleans())
def test_in_a_header_that_is_kept_or_echoed(spied: Spied, number: str, text: str, key: bool) -> None:
    name = "Idempotency-Key" if key else "X-Request-Id"
    headers = {"Idempotency-Key": new_key(), name: text.format(number)}
    spied.refuse(number, "POST", "/payments", payment(), headers)


@settings(max_examples=80)
@given(number=numbers(), text=within, place=st.sampled_from(["reason", "evidence", "named", "name", "x"]))
def test_in_what_resolves_a_payment(spied: Spied, number: str, text: str, place: str) -> None:
    written = text.format(number)
    given_as = {"named": {"evidence": {"slip": written}}, "name": {"evidence": {written: "slip"}}}
    body = {"as": "SUCCESS", "reason": "seen", "evidence": "slip", **given_as.get(place, {place: written})}
    spied.refuse(number, "POST", f"/payments/{NOBODY}/resolve", body, ADMIN)


@settings(max_examples=40)
@given(number=numbers(), name=st.sampled_from(["X-Actor", "User-Agent", "Cookie", "Authorization", "traceparent"]))
def test_in_a_header_nobody_keeps(spied: Spied, number: str, name: str) -> None:
    """Not refused for it, and not kept."""
    body = {"merchant_id": "m_001", "max_attempts": 3, "latency_budget_ms": 10_000, "retry_on_timeout": False}
    headers = {**ADMIN, name: number}
    answer = spied.show(number, "PUT", "/retry-policy/m_001", {**body, "enabled": True}, headers)
    assert answer.status == 200


@settings(max_examples=120)
@given(data=st.data())
def test_in_a_webhook(spied: Spied, data: st.DataObject) -> None:
    """The gateway may say what it likes; of what it says no number is kept, whatever member it calls it."""
    number, digits = data.draw(numbers()), data.draw(plain_numbers())
    member = data.draw(st.sampled_from(["id", "card", "notes", "event", "contact"]))
    value: Any = data.draw(st.sampled_from([number, digits, f"pay_{digits}", {"receipt": digits}, int(digits)]))
    entity = {"id": "pay_1", "notes": {}, member: value}
    event = value if member == "event" else "payment.captured"
    moment = data.draw(st.sampled_from([int(time.time()), int(digits)]))
    body = json.dumps({"event": event, "payload": {"payment": {"entity": entity}}, "created_at": moment}).encode()
    spied.shown.add(digits)
    headers = {"X-Razorpay-Signature": signature_of(body, SECRET)}
    assert spied.show(number, "POST", "/webhooks/razorpay", body, headers).status in {200, 400}


@pytest.mark.parametrize("number", ["5105 1051 0510 5100", "6011111111111117"])
def test_in_the_name_of_a_key(spied: Spied, number: str) -> None:
    spied.shown.add(_digits(number))
    url = spied.running.database_url
    variables = {"PGW_HOME": str(spied.running.folder / "home"), **({} if url is None else {"DATABASE_URL": url})}
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PGW_", "DATABASE_"))}
    for options in ((number,), ("m_001", "--reason", number)):
        command = [sys.executable, "-m", "pgw.cli", "key", "create", *options]
        ended = subprocess.run(command, env={**own, **variables}, capture_output=True, check=False)
        assert ended.returncode == 2
        assert not spied.is_in(ended.stdout.decode() + ended.stderr.decode())


def test_after_all_that_no_file_log_or_row_knows_a_number(spied: Spied, saw: Callable[..., None]) -> None:
    """The log said what it could: it was at debug."""
    taken = spied.running.api.pay(payment(merchant_reference="the last one"))
    assert taken.status == 201
    violations = violated_by(spied.running)
    assert spied.running.stop() == 0
    assert "POST /payments 400" in spied.running.log.read_text()
    files = [path for path in spied.running.folder.rglob("*") if path.is_file()]
    assert {"serve.log", "sandbox.book"} <= {path.name for path in files}
    with_number = [path.name for path in files if spied.is_in(path.read_bytes().decode("utf-8", "replace"))]
    rows = list(_rows(ledger_of(spied.running.folder / "home", spied.running.database_url)))
    assert any("the last one" in row for row in rows)
    rows_with_number = [row for row in rows if spied.is_in(row)]
    assert (with_number, rows_with_number, spied.repeated) == ([], [], 0)
    refusals = ", ".join(f"{status} {code}" for status, code in sorted(spied.refusals, key=str))
    found = f"{len(with_number)} files, {len(rows_with_number)} rows, {spied.repeated} answers"
    saw(45, f"{refusals}; found in {found}; {violations} violations", case=f"on {spied.name}")


def _rows(database: str) -> Iterator[str]:
    engine = open_engine(database)
    try:
        with engine.connect() as connection:
            for name in inspect(engine).get_table_names():
                for row in connection.execute(text(f'SELECT * FROM "{name}"')):
                    yield f"{name}: {tuple(row)}"
    finally:
        engine.dispose()
