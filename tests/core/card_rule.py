"""Text, document -> whether card data is in it: the contract's rule as one would write it down, to compare with."""

import re
import unicodedata
from collections.abc import Iterable
from itertools import accumulate
from typing import Any

from pgw.core.payment.card_data import CVV_MEMBERS
from pgw.core.payment.card_number import LENGTHS

_NONE: frozenset[int] = frozenset()

_RUN = re.compile(r"\d+(?:[ -]\d+)*")

# A UUID's groups of digits can pass for a card number, once in some ten thousand random ones; as soon as it holds a
# letter it is an id, and ids are what idempotency keys are made of.
_UUID = re.compile(
    r"(?<![0-9A-Za-z-])(?=[0-9-]*[A-Fa-f])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![0-9A-Za-z-])"
)


def in_text(text: str) -> bool:
    """Find a full card number: 13..19 digits standing alone, single spaces or dashes allowed, Luhn-valid."""
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
        case _:
            return abs(document) < 10**19 and document == int(document) and in_text(str(int(abs(document))))


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
            running = sums[end % 2]
            if end in places and (running[end] - running[start]) % 10 == 0:
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


def all_members(pairs: Iterable[tuple[str, Any]]) -> dict[str, list[Any]]:
    """Keep every value of a member given twice; for `json.loads`."""
    members: dict[str, list[Any]] = {}
    for name, value in pairs:
        members.setdefault(name, []).append(value)
    return members
