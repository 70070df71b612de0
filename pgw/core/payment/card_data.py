"""Bytes, text, documents -> whether a card number or a security code is in them; nothing here repeats what it found."""

import re
import unicodedata
from itertools import accumulate
from typing import Any

CVV_MEMBERS = frozenset({"cvv", "cvc", "cvv2", "cvc2", "security_code"})

LENGTHS = {
    2: frozenset({16}),
    3: frozenset(range(14, 20)),
    4: frozenset({13, 16, 19}),
    5: frozenset(range(13, 20)),
    6: frozenset(range(13, 20)),
}
"""First digit -> lengths the schemes under it issue (ISO/IEC 7812): 2 Mastercard, 3 Amex, Diners and JCB, 4 Visa,
5 Mastercard and Maestro, 6 Discover, RuPay, UnionPay and Maestro."""

_NONE: frozenset[int] = frozenset()

_RUN = re.compile(r"\d+(?:[ -]\d+)*")
_LONG_RUN = re.compile(r"\d(?:[ -]?\d){12}")

# A UUID's groups of digits can pass for a card number, once in some ten thousand random ones; as soon as it holds a
# letter it is an id, and ids are what idempotency keys are made of.
_UUID = re.compile(
    r"(?<![0-9A-Za-z-])(?=[0-9-]*[A-Fa-f])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![0-9A-Za-z-])"
)

# What may hide card data from the scan of the raw bytes: a long run, a security code's name, an escape, a digit outside
# ASCII, a number written as a float. Anything else cannot decode to card data, and the common request stops here.
_SUSPICIOUS = re.compile(
    rb"[0-9](?:[ -]?[0-9]){12}|\\|[\x80-\xff]|[0-9][eE.][0-9+-]|cv[vc]|security_code", re.IGNORECASE
)


def may_hold_card_data(raw: bytes) -> bool:
    """Return False only when no decoding of `raw` can hold card data; one pass, no allocation."""
    return _SUSPICIOUS.search(raw) is not None


def in_text(text: str) -> bool:
    """Find a full card number: 13..19 digits standing alone, single spaces or dashes allowed, Luhn-valid."""
    if _LONG_RUN.search(text) is None:
        return False
    text = _UUID.sub("|", text)
    for run in _RUN.finditer(text):
        before, after = text[max(run.start() - 1, 0) : run.start()], text[run.end() : run.end() + 1]
        groups = re.split(r"[ -]", run.group())
        # A letter that touches the run takes the group it touches out of it.
        if _holds_card_number(groups[before.isalnum() : len(groups) - after.isalnum()]):
            return True
    return False


def in_document(document: Any) -> bool:
    """Find a card number or a security code anywhere in a decoded JSON document; the decoder bounds its depth."""
    match document:
        case dict():
            return any(
                key.casefold() in CVV_MEMBERS or in_text(key) or in_document(value) for key, value in document.items()
            )
        case list():
            return any(in_document(each) for each in document)
        case str():
            return in_text(document)
        case bool() | None:
            return False
        case float():
            return document.is_integer() and in_text(str(int(abs(document))))
        case _:
            return in_text(str(abs(document)))


def _holds_card_number(groups: list[str]) -> bool:
    """Look at every row of neighbouring groups; a few steps for each group, however many there are."""
    digits = [unicodedata.decimal(each) for group in groups for each in group]
    sums = _luhn_sums(digits)
    ends = list(accumulate(len(group) for group in groups))
    places = frozenset(ends)
    for group, after in zip(groups, ends, strict=True):
        start = after - len(group)
        for length in LENGTHS.get(digits[start], _NONE):
            end = start + length
            told = sums[end % 2]
            if end in places and (told[end] - told[start]) % 10 == 0:
                return True
    return False


def _luhn_sums(digits: list[int]) -> tuple[list[int], list[int]]:
    """Running Luhn sums of numbers that end at an even and at an odd place (ISO/IEC 7812-1, annex B).

    From the right every second digit is doubled and its digits are added; a number is valid when ten divides the sum.
    """
    doubled = [sum(divmod(2 * each, 10)) for each in digits]
    even, odd = (
        [
            each if place % 2 != parity else twice
            for place, (each, twice) in enumerate(zip(digits, doubled, strict=True))
        ]
        for parity in (0, 1)
    )
    return [0, *accumulate(even)], [0, *accumulate(odd)]
