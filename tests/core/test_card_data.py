"""A full card number or a security code is found wherever and however it is written; nothing else is taken for one."""

import json
import re
from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgw.core.payment import card_data
from pgw.core.payment.card_data import (
    CVV_MEMBERS,
    MAX_LARGE_FLOATS,
    in_address,
    in_json,
    in_text,
    may_hold_card_data,
)
from pgw.core.payment.card_number import LENGTHS
from tests.core import card_rule

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
def escaped(draw: st.DrawFn, plain: str) -> bytes:
    r"""Write a JSON text so that some characters of its strings stand as their \uXXXX escapes."""
    hidden = draw(st.sets(st.sampled_from("0123456789 -cvCVs_")))
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
    assert in_json(json.dumps(document).encode())


@given(documents_with(numbers().map(int) | numbers().map(lambda number: -int(number)), as_key=False))
def test_a_number_is_found_as_a_json_number(document: Any) -> None:
    raw = json.dumps(document).encode()
    assert may_hold_card_data(raw)
    assert in_json(raw)


@given(st.data())
def test_a_number_is_found_behind_escapes(data: st.DataObject) -> None:
    document = data.draw(documents_with(in_a_sentence, as_key=True))
    raw = data.draw(escaped(json.dumps(document, ensure_ascii=data.draw(st.booleans()))))
    assert may_hold_card_data(raw)
    assert in_json(raw)


DIGITS = st.text("0123456789 -\u0663\uff14\xb2a\xe9", max_size=40)
ODD_FLOATS = st.from_regex(r"-?(0|[1-9][0-9]{0,19})(\.[0-9]{1,20})?([eE][+-]?0{0,3}[0-9]{1,3})?", fullmatch=True)
LARGE_FLOATS = numbers().flatmap(
    lambda number: st.integers(-25, 25).map(
        lambda shift: f"{number[:1]}.{number[1:]}e{len(number) - 1}" if shift < 0 else f"{number}{'0' * shift}e-{shift}"
    )
)
NAMES = st.sampled_from([*sorted(CVV_MEMBERS), "CVV", "Security_Code", "\u017fecurity_code", "cvv3", "code", '"cvv":'])
LEAVES = (
    DIGITS
    | written()
    | NAMES
    | st.uuids().map(str)
    | numbers().map(int)
    | st.floats(-1e19, 1e19)
    | st.integers(-(10**20), 10**20)
    | st.tuples(st.just("number"), ODD_FLOATS | LARGE_FLOATS)
)


def _json(document: Any) -> str:
    """Write a document whose numbers may stand in it as they were drawn."""
    match document:
        case ("number", str(number)):
            return number
        case list():
            return f"[{', '.join(map(_json, document))}]"
        case dict():
            return "{" + ", ".join(f"{json.dumps(name)}: {_json(value)}" for name, value in document.items()) + "}"
        case _:
            return json.dumps(document, ensure_ascii=False)


JSON_TEXTS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | DIGITS | written(), inner, max_size=3)
).map(_json)


@settings(max_examples=400)
@given(st.data())
def test_a_body_holds_card_data_exactly_where_the_rule_finds_it_in_the_decoded_document(data: st.DataObject) -> None:
    raw = data.draw(JSON_TEXTS.flatmap(escaped))
    expected = card_rule.in_document(json.loads(raw, object_pairs_hook=card_rule.all_members))
    assert in_json(raw) == expected
    assert may_hold_card_data(raw) or not expected


@settings(max_examples=400)
@given(st.text("0123456789 -a.|\u0663\uff14\xb2\xe9", max_size=80) | st.text("456 -", max_size=60))
def test_a_text_holds_a_card_number_exactly_where_the_rule_finds_one(text: str) -> None:
    assert in_text(text) == card_rule.in_text(text)


@settings(max_examples=400)
@given(st.lists(written() | st.uuids().map(str) | st.text("04 -", max_size=24), max_size=6), st.sampled_from("|  -x"))
def test_neighbouring_numbers_are_read_as_the_rule_reads_them(parts: list[str], between: str) -> None:
    assert in_text(between.join(parts)) == card_rule.in_text(between.join(parts))


def test_a_security_codes_name_folds_as_the_rule_folds_it() -> None:
    """Of all characters, these are the ones whose folded form is a piece of a name."""
    pieces = {name[at : at + size] for name in CVV_MEMBERS for at in range(len(name)) for size in (1, 2, 3)}
    folded = {chr(each) for each in range(128, 0x110000) if chr(each).casefold() in pieces}
    assert folded == {"\u017f"}


@pytest.mark.parametrize(
    "raw",
    [
        b'{"share": 0.4111111111111111}',
        b"[4111111111111111.5]",
        b"[1e-4111111111111111]",
        b"[1E-4111111111111111]",
        b"[41111111111111110]",
        b"[4.111111111111111e25, 1e308, 1e400, 1e19]",
        b"[41111111111111110000, 4111111111111111e4]",
        b'{"note": "\\"cvv\\": 1"}',
        b'{"note": "\\u0022cvv\\u0022: 1"}',
        b'{"note": "x\\\\", "b": "cvv"}',
        b'["4111111111111111\\u0661"]',
        b'["4111111111111111\\ud835\\udfd2"]',
    ],
)
def test_what_only_looks_like_card_data_in_the_raw_bytes_is_none(raw: bytes) -> None:
    assert not in_json(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"[4111111111111111.0, 1]",
        b"[-4.111111111111111e15]",
        b"[0.0004111111111111111E+19]",
        b"[4111111111111111000e-0003]",
        b"[0.5, 4.3e0012]",
        b'["0.4111111111111111"]',
        b'["\\ud835\\udfd2\\u0031' + b"1" * 14 + b'"]',
        b'{"a": {"b": [[{"c": ["4111-1111\\u0020", "4111-1111\\u00201111\\u002d1111"]}]]}}',
        b'{"\\u0063vv" : 1}',
        b'{"x": "\\\\", "cvv"\n:1}',
        b'{"a": "4111111111111111", "a": 1}',
        b'{"4111111111111111": 1}',
    ],
)
def test_card_data_is_found_however_a_document_is_written(raw: bytes) -> None:
    assert may_hold_card_data(raw)
    assert in_json(raw)


def test_more_floats_of_a_card_numbers_size_than_any_request_has_are_taken_to_hold_one() -> None:
    harmless = b"4e15,"
    assert not in_json(b"[" + harmless * (MAX_LARGE_FLOATS - 1) + b"4e15]")
    assert in_json(b"[" + harmless * MAX_LARGE_FLOATS + b"4e15]")
    assert not in_json(b"[" + b"1e308," * 10_000 + b"1]")


@pytest.mark.parametrize(
    "address",
    [b"/a?cvv", b"/a?x=1&CVV2=", b"/a?%63vc=1", b"/%34111111111111111", b"/a?x=4111+1111+1111+1111", b"/?x?&cvv=1"],
)
def test_card_data_is_found_in_an_address(address: bytes) -> None:
    assert in_address(address)


@pytest.mark.parametrize(
    "address", [b"/cvv", b"/a?x=cvv", b"/a?cvv3=1", b"/a?x=%26cvv%3d1", b"/a?x%3Dcvv", b"/a?x=%4z11111111111111111"]
)
def test_what_only_looks_like_card_data_in_an_address_is_none(address: bytes) -> None:
    assert not in_address(address)


@given(st.text("%0123456789aAbBfF+?&=\\ \xe9", max_size=40))
def test_an_address_is_decoded_as_the_standard_library_decodes_it(text: str) -> None:
    assert card_data._percent_decoded(quote(text, safe="%+?&=\\ ").encode()) == unquote(quote(text, safe="%+?&=\\ "))


@pytest.mark.parametrize("raw", [b"4111111111111111.0", b"4.222222222222E12", b"41111111111111110e-1"])
def test_a_number_is_found_as_a_json_number_however_it_is_written(raw: bytes) -> None:
    assert may_hold_card_data(raw)
    assert in_json(raw)


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
    raw = json.dumps(document, ensure_ascii=False).encode()
    assert may_hold_card_data(raw)
    assert in_json(raw)


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
    assert not in_json(json.dumps(document).encode())


def test_the_common_request_is_cleared_by_the_scan_of_its_raw_bytes_alone() -> None:
    raw = (
        b'{"amount_minor": 1000, "currency": "INR", "payment_method": "UPI", "merchant_id": "m_001", '
        b'"customer_id": "cust_001", "instrument": {"type": "UPI", "vpa": "test@okhdfcbank"}}'
    )
    assert not may_hold_card_data(raw)
