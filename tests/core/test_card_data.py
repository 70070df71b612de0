"""A full card number or a security code is found wherever and however it is written; nothing else is taken for one."""

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgw.core.payment.card_data import CVV_MEMBERS, LENGTHS, in_document, in_text, may_hold_card_data

# Published test numbers of the schemes.
TEST_NUMBERS = [
    "4111111111111111",
    "4222222222222",
    "5555555555554444",
    "2223003122003222",
    "378282246310005",
    "30569309025904",
    "6011111111111117",
    "3530111333300000",
    "6205500000000000004",
]


def _with_check_digit(digits: str) -> str:
    total = sum(int(digit) for each, digit in enumerate(reversed(digits)) if each % 2)
    total += sum(sum(map(int, str(2 * int(digit)))) for each, digit in enumerate(reversed(digits)) if not each % 2)
    return digits + str(-total % 10)


@st.composite
def numbers(draw: st.DrawFn) -> str:
    """Draw a full card number: a scheme's first digit, a length it issues, a valid check digit."""
    first = draw(st.sampled_from(sorted(LENGTHS)))
    length = draw(st.sampled_from(sorted(LENGTHS[first])))
    return _with_check_digit(str(first) + draw(st.text("0123456789", min_size=length - 2, max_size=length - 2)))


@st.composite
def written(draw: st.DrawFn) -> str:
    """Draw a number as people write it: at most one space or dash between two digits."""
    number = draw(numbers())
    gaps = draw(st.lists(st.sampled_from(["", "", "", " ", "-"]), min_size=len(number), max_size=len(number)))
    return "".join(digit + gap for digit, gap in zip(number, gaps, strict=True)).rstrip(" -")


around = st.text(st.characters(exclude_categories=["L", "N", "Cs"]), max_size=5)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
leaves = st.none() | st.booleans() | st.integers(-1000, 1000) | texts


@st.composite
def documents_with(draw: st.DrawFn, leaf: st.SearchStrategy[Any], *, as_key: bool) -> Any:
    """Draw a document with one drawn value somewhere inside."""
    held = draw(leaf)
    document: Any = {held: draw(leaves)} if as_key and isinstance(held, str) and draw(st.booleans()) else held
    for _ in range(draw(st.integers(0, 4))):
        if draw(st.booleans()):
            document = draw(st.dictionaries(texts, leaves, max_size=3)) | {draw(texts): document}
        else:
            document = [*draw(st.lists(leaves, max_size=3)), document, *draw(st.lists(leaves, max_size=3))]
    return document


@st.composite
def escaped(draw: st.DrawFn, document: Any) -> bytes:
    r"""Write a document as JSON in which some characters of its strings stand as their \uXXXX escapes."""
    hidden = draw(st.sets(st.sampled_from("0123456789 -cvCVs_")))
    plain = json.dumps(document, ensure_ascii=draw(st.booleans()))
    tokens = (_escape(token, hidden) if token[0] == '"' else token for token in re.findall(_JSON_TOKEN, plain))
    return "".join(tokens).encode()


_JSON_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|[^"]+', re.DOTALL)
_CHARACTER = re.compile(r"\\u[0-9a-f]{4}|\\.|.", re.DOTALL)


def _escape(string: str, hidden: set[str]) -> str:
    return _CHARACTER.sub(lambda found: f"\\u{ord(found[0]):04x}" if found[0] in hidden else found[0], string)


in_a_sentence = st.tuples(around, written(), around).map("".join)


@pytest.mark.parametrize("number", TEST_NUMBERS)
def test_the_schemes_own_test_numbers_are_found(number: str) -> None:
    assert in_text(number)


@given(in_a_sentence)
def test_a_number_is_found_with_any_single_separators_and_any_marks_around_it(text: str) -> None:
    assert in_text(text)


@given(documents_with(in_a_sentence, as_key=True))
def test_a_number_is_found_in_any_string_of_a_document_and_in_its_keys(document: Any) -> None:
    assert in_document(document)


@given(documents_with(numbers().map(int) | numbers().map(lambda number: -int(number)), as_key=False))
def test_a_number_is_found_as_a_json_number(document: Any) -> None:
    raw = json.dumps(document).encode()
    assert may_hold_card_data(raw)
    assert in_document(msgspec.json.decode(raw))


@given(st.data())
def test_a_number_is_found_behind_escapes(data: st.DataObject) -> None:
    raw = data.draw(escaped(data.draw(documents_with(in_a_sentence, as_key=True))))
    assert may_hold_card_data(raw)
    assert in_document(msgspec.json.decode(raw))


@given(st.data())
def test_the_scan_of_the_raw_bytes_lets_no_card_data_pass(data: st.DataObject) -> None:
    """Also for documents that hold some by accident: digits, separators and members of all kinds."""
    digits = st.text("0123456789 -\u0663\uff14\xb2a\xe9", max_size=40)
    members = st.sampled_from([*sorted(CVV_MEMBERS), "CVV", "Security_Code", "\u017fecurity_code", "cvv3", "code"])
    values = digits | numbers() | numbers().map(int) | st.floats(-1e19, 1e19) | st.integers(-(10**20), 10**20)
    document = data.draw(
        st.recursive(
            values, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(members | digits, inner, max_size=3)
        )
    )
    raw = data.draw(escaped(document))
    assert may_hold_card_data(raw) or not in_document(msgspec.json.decode(raw))


@pytest.mark.parametrize("raw", [b"4111111111111111.0", b"4.222222222222E12", b"41111111111111110e-1"])
def test_a_number_is_found_as_a_json_number_however_it_is_written(raw: bytes) -> None:
    assert may_hold_card_data(raw)
    assert in_document(msgspec.json.decode(raw))


@pytest.mark.parametrize("zero", ["\u0660", "\u0966", "\uff10"])
def test_a_number_is_found_in_the_digits_of_another_script(zero: str) -> None:
    text = "".join(chr(ord(zero) + int(digit)) for digit in TEST_NUMBERS[0])
    assert may_hold_card_data(text.encode())
    assert in_text(text)


@given(numbers(), st.characters(categories=["L"]), st.booleans())
def test_digits_that_touch_a_letter_are_no_card_number(number: str, letter: str, before: bool) -> None:
    assert not in_text(letter + number if before else number + letter)


@given(numbers(), st.integers(1, 9))
def test_one_wrong_digit_makes_it_no_card_number(number: str, shift: int) -> None:
    assert not in_text(number[:-1] + str((int(number[-1]) + shift) % 10))


@given(numbers(), st.sampled_from(["  ", "--", " -", ".", "/", ", "]), st.data())
def test_more_than_one_space_or_dash_parts_two_numbers(number: str, gap: str, data: st.DataObject) -> None:
    """Each part is shorter than any card number, so neither is one by accident."""
    at = data.draw(st.integers(len(number) - 12, 12))
    assert not in_text(number[:at] + gap + number[at:])


@given(st.text("0123456789", min_size=20, max_size=60))
def test_a_longer_run_of_digits_is_no_card_number(digits: str) -> None:
    assert not in_text(digits)


@given(st.sampled_from("01789"), st.text("0123456789", min_size=11, max_size=17))
def test_a_first_digit_no_card_scheme_has_is_no_card_number(first: str, rest: str) -> None:
    assert not in_text(_with_check_digit(f"{first}{rest}"))


@given(st.sampled_from(sorted(LENGTHS)), st.integers(13, 19), st.data())
def test_a_length_the_scheme_does_not_issue_is_no_card_number(first: int, length: int, data: st.DataObject) -> None:
    rest = data.draw(st.text("0123456789", min_size=length - 2, max_size=length - 2))
    assert in_text(_with_check_digit(f"{first}{rest}")) == (length in LENGTHS[first])


@pytest.mark.parametrize(
    "name", ["cvv", "cvc", "cvv2", "cvc2", "security_code", "CVV", "Security_Code", "\u017fecurity_code"]
)
def test_a_security_codes_member_is_found_at_any_depth(name: str) -> None:
    document = {"instrument": {"cards": [{name: "123"}]}}
    assert may_hold_card_data(json.dumps(document, ensure_ascii=False).encode())
    assert in_document(document)


@pytest.mark.parametrize(
    "document",
    [
        {"amount_minor": 10**12, "merchant_reference": "order 4111", "ok": True, "nothing": None},
        {"cvv_result": "M", "code": "123", "note": "cvv"},
        {"id": "01890a5d-ac96-774b-bcce-b302099a8057"},
        {"at": "2026-01-01T00:00:00Z", "phone": "+919876543210", "share": 0.5, "many": [1.5, 1e300, -3]},
    ],
)
def test_what_a_payment_says_otherwise_is_no_card_data(document: Any) -> None:
    assert not in_document(document)


def test_the_common_request_is_cleared_by_the_scan_of_its_raw_bytes_alone() -> None:
    raw = (
        b'{"amount_minor": 1000, "currency": "INR", "payment_method": "UPI", "merchant_id": "m_001", '
        b'"customer_id": "cust_001", "instrument": {"type": "UPI", "vpa": "test@okhdfcbank"}}'
    )
    assert not may_hold_card_data(raw)
