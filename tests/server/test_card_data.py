"""A full card number or a security code, wherever it stands, is refused as that, and is in no file, log or row."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.server.serving import Served, served
from tests.server.wire import ADMIN, Answer, new_key, payment
from tests.services import fresh_database

PAN = "4111111111111111"
SPACED = "4111 1111 1111 1111"
DASHED = "5555-5555-5555-4444"
AMEX = "378282246310005"
FULL_WIDTH = "".join(chr(ord(digit) + 0xFEE0) for digit in PAN)
NUMBERS = {"visa": PAN, "spaced": SPACED, "dashed": DASHED, "amex": AMEX, "full width": FULL_WIDTH}
PERCENT = "".join(f"%{ord(digit):02x}" for digit in PAN)
REFUSED = (400, "CARD_DATA_NOT_ACCEPTED")

UUID = "01a209cb-cfba-7a2d-9dd2-09fd5755e3dd"


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def secretive(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Run a server of the module's own that logs all it can; the last test looks into all it kept."""
    folder = tmp_path_factory.mktemp(f"cards-{request.param}")
    with ExitStack() as stack:
        variables = {}
        if request.param == "postgres":
            postgres_url = request.getfixturevalue("postgres_url")
            variables["DATABASE_URL"] = stack.enter_context(fresh_database(postgres_url))
        yield stack.enter_context(served(folder, **variables))


def _holds_digits(text: str) -> bool:
    plain = text.replace(" ", "").replace("-", "")
    return any(number.replace(" ", "").replace("-", "") in plain for number in NUMBERS.values()) or PERCENT in text


def _files_with_digits(folder: Path) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"serve.log", "sandbox.book"} <= {path.name for path in files}
    return [path for path in files if _holds_digits(path.read_bytes().decode("utf-8", "replace"))]


def _rows_with_digits(url: str) -> list[str]:
    found = []
    with psycopg.connect(url) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        for (table,) in tables:
            rows = connection.execute(
                sql.SQL("SELECT to_json(t)::text FROM {} t").format(sql.Identifier(table))
            ).fetchall()
            found += [str(table) for (row,) in rows if _holds_digits(row)]
    return found


def _check(answer: Answer) -> None:
    assert answer.refusal == REFUSED
    assert not _holds_digits(json.dumps(answer.document) + json.dumps(dict(answer.headers)))


def _somewhere_in_a_body(number: str) -> dict[str, dict[str, Any]]:
    return {
        "a member": payment(merchant_reference=number),
        "within a sentence": payment(merchant_reference=f"card: {number}, thanks"),
        "merchant": payment(merchant_id=number),
        "a value of metadata": payment(metadata={"note": number}),
        "a key of metadata": payment(metadata={number: "note"}),
        "an unknown member": payment(number=number),
        "a name of a member": payment(**{number: 1}),  # type: ignore[arg-type]  # a member, no address
        "deep inside": payment(metadata={"a": {"b": [{"c": [number]}]}}),
        "token": payment(payment_method="CARD", instrument={"type": "CARD", "token": number}),
        "customer": payment(customer={"contact": number}),
        "an address": payment(return_url=f"https://shop.example/?card={number}"),
    }


@pytest.mark.parametrize("number", NUMBERS.values(), ids=NUMBERS)
@pytest.mark.parametrize("place", _somewhere_in_a_body(PAN))
def test_in_a_body(secretive: Served, number: str, place: str) -> None:
    key = new_key()
    _check(secretive.api.pay(_somewhere_in_a_body(number)[place], key=key))
    assert secretive.api.pay(key=key).status == 201


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(payment()).replace('"UPI"', f'"UPI", "n": {PAN}', 1),
        json.dumps(payment()).replace("1000", PAN, 1),
        json.dumps(payment()).replace("1000", f"-{PAN}", 1),
        json.dumps(payment()).replace("1000", f"{PAN}.0", 1),
        json.dumps(payment()).replace("1000", "4.111111111111111e15", 1),
        json.dumps(payment(merchant_reference=PAN)).replace(PAN, "".join(f"\\u{ord(each):04x}" for each in PAN)),
        json.dumps(payment(merchant_reference="x")).replace('"x"', f'"x\\n{PAN}"'),
        # The one that is overwritten counts too: another reader may take the first.
        json.dumps(payment()).replace('"currency"', f'"customer_id": "{PAN}", "currency"'),
        f'{{"amount_minor": "{PAN}"',
        f"card={PAN}&amount=1000",
        f'["{PAN}"]',
        f'"{PAN}"',
        PAN,
        f"{{{PAN}}}",
    ],
    ids=lambda body: body[:20],
)
@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
def test_in_a_body_written_in_an_odd_way(secretive: Served, body: str, content_type: str) -> None:
    _check(secretive.api.pay(body.encode(), headers={"Content-Type": content_type}))


@pytest.mark.parametrize("name", ["cvv", "cvc", "cvv2", "cvc2", "security_code", "CVV", "Security_Code"])
def test_a_member_for_a_security_code(secretive: Served, name: str) -> None:
    """Whatever its value, at any depth, in any body, and in a query."""
    card = {"type": "CARD", "token": "t", name: "123"}
    _check(secretive.api.pay(payment(payment_method="CARD", instrument=card)))
    _check(secretive.api.pay(payment(metadata={name: ""})))
    _check(secretive.api.pay(json.dumps(payment(x={name: None})).replace(name[1], f"\\u{ord(name[1]):04x}").encode()))
    _check(secretive.api.call("PATCH", "/gateways/hdfc", {name: 1}, ADMIN))
    _check(secretive.api.call("PUT", "/retry-policy/m_001", {"merchant_id": "m_001", name: 1}, ADMIN))
    _check(secretive.api.call("POST", f"/payments?{name}=123", payment(), {"Idempotency-Key": new_key()}))
    _check(secretive.api.get(f"/payments?%{ord(name[0]):02x}{name[1:]}="))


@pytest.mark.parametrize(
    "target",
    [
        "/payments/{}",
        "/payments/{}/attempts",
        "/{}",
        "/nothing/{}",
        "/retry-policy/{}",
        "/payments?ref={}",
        "/payments?{}=1",
        "/payments?merchant_id=m&ref=a,{}",
        "/ops/liveness?{}",
        "/sandbox/book?x={}",
        "/payments#{}",
    ],
)
@pytest.mark.parametrize(
    "number", [PAN, PERCENT, PAN[:8] + PERCENT[24:], DASHED, SPACED.replace(" ", "%20")], ids=lambda number: number[:12]
)
def test_in_an_address(secretive: Served, target: str, number: str) -> None:
    _check(secretive.api.get(target.format(number)))


def test_in_a_query_where_plus_is_a_space(secretive: Served) -> None:
    _check(secretive.api.get(f"/payments?ref={SPACED.replace(' ', '+')}"))
    _check(secretive.api.get(f"/payments?ref=a+{SPACED.replace(' ', '+')}+b"))


@pytest.mark.parametrize(
    "line",
    [
        f"GET {PAN}",
        f"GET http://x:{PAN}/",
        f"GET /payments/{PAN}\0",
        f"GET //{PAN}",
        f"BREW /{PAN}",
        f"CONNECT {PAN}:443",
    ],
)
def test_in_an_address_that_is_none(secretive: Served, line: str) -> None:
    (refused,) = secretive.api.raw(f"{line} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
    _check(refused)


@pytest.mark.parametrize(
    "line", [f"{PAN} /payments HTTP/1.1", f"GET /payments HTTP/{PAN}", PAN, f"GET /payments {PAN} HTTP/1.1"]
)
def test_in_a_request_line_that_is_none(secretive: Served, line: str) -> None:
    """Refused for what it is; it is not kept or logged."""
    (refused,) = secretive.api.raw(f"{line}\r\nConnection: close\r\n\r\n".encode())
    assert 400 <= refused.status < 500
    assert not _holds_digits(json.dumps(refused.document))


@pytest.mark.parametrize("header", ["Idempotency-Key", "X-Request-Id"])
@pytest.mark.parametrize(
    "value", [PAN, f"order_1:{PAN}", PERCENT, DASHED, SPACED, f"{PAN}{' ' * 300}x", f"a\t{PAN}"], ids=repr
)
def test_in_a_header_that_is_kept_or_echoed(secretive: Served, header: str, value: str) -> None:
    """Before every other refusal, also of the header itself."""
    _check(secretive.api.call("POST", "/payments", payment(), {"Idempotency-Key": new_key(), header: value}))
    _check(secretive.api.call("POST", "/payments", {}, {"Idempotency-Key": new_key(), header: value}))
    _check(secretive.api.get("/payments", **{header.replace("-", "_"): value}))


def test_in_the_second_of_two_headers(secretive: Served) -> None:
    head = f"GET /payments HTTP/1.1\r\nConnection: close\r\nX-Request-Id: a\r\nX-Request-Id: {PAN}\r\n\r\n"
    (refused,) = secretive.api.raw(head.encode())
    _check(refused)


def test_in_an_actor_or_a_header_nobody_reads_it_is_not_kept(secretive: Served) -> None:
    headers = {**ADMIN, "X-Actor": PAN, "User-Agent": PAN, "Cookie": f"a={PAN}", "If-Match": PAN, "Referer": f"/{PAN}"}
    assert secretive.api.call("PATCH", "/gateways/axis", {"priority": 41}, headers).status == 412
    del headers["If-Match"]
    assert secretive.api.call("PATCH", "/gateways/axis", {"priority": 41}, headers).status == 200


def test_in_the_body_of_other_routes(secretive: Served) -> None:
    _check(secretive.api.call("PATCH", "/gateways/hdfc", {"display_name": PAN}, ADMIN))
    _check(secretive.api.call("PUT", "/retry-policy/m_001", {"merchant_id": PAN}, ADMIN))


@pytest.mark.parametrize(
    "harmless",
    [
        "5105105105105101",
        "510510510510510",
        "51051051051051000000",
        "9105105105105100",
        "a5105105105105100",
        "5105105105105100b",
        "5105_1051_0510_5100",
        "5105  1051  0510  5100",
        "2026-01-31 10:00:00.123456",
        UUID,
    ],
)
def test_other_numbers_are_taken(secretive: Served, harmless: str) -> None:
    """Not Luhn, not a scheme's length or first digit, not alone, or not spaced as a card is."""
    taken = secretive.api.pay(payment(merchant_reference=harmless), key=f"{harmless}/{new_key()}")
    assert taken.document["merchant_reference"] == harmless


def test_a_token_with_bin_and_last_four_is_all_that_is_needed(secretive: Served) -> None:
    card = {"type": "CARD", "token": "tok_9", "bin": "411111", "last4": "1111", "exp_month": 1, "exp_year": 2030}
    assert secretive.api.pay(payment(payment_method="CARD", instrument=card)).status == 201


def test_after_all_that_no_file_log_or_row_knows_a_number(secretive: Served) -> None:
    """The log said what it could: it was at debug."""
    assert secretive.stop() == 0
    assert _files_with_digits(secretive.folder) == []
    assert "POST /payments 400" in secretive.log.read_text()
    if secretive.database_url is not None:
        assert _rows_with_digits(secretive.database_url) == []
