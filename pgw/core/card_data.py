"""Bytes, text, documents -> whether a card number or a security code is in them; nothing here repeats what it found."""

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

CVV_MEMBERS = frozenset({"cvv", "cvc", "cvv2", "cvc2", "security_code"})

LENGTHS = {
    "2": frozenset({16}),
    "3": frozenset({14, 15, 16, 17, 18, 19}),
    "4": frozenset({13, 16, 19}),
    "5": frozenset(range(13, 20)),
    "6": frozenset(range(13, 20)),
}
"""First digit -> lengths the schemes under it issue (ISO/IEC 7812): 2 Mastercard, 3 Amex, Diners and JCB, 4 Visa,
5 Mastercard and Maestro, 6 Discover, RuPay, UnionPay and Maestro."""

_SHORTEST, _LONGEST = 13, 19

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
    return _LONG_RUN.search(text) is not None and any(_is_card_number(digits) for digits in _runs(text))


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


def _runs(text: str) -> Iterator[str]:
    """Yield each digit string that stands alone: whole groups, no letter or digit right before or after."""
    text = _UUID.sub("|", text)
    for run in _RUN.finditer(text):
        groups = re.split(r"[ -]", run.group())
        first = 1 if _is_word(text[max(run.start() - 1, 0) : run.start()]) else 0
        last = len(groups) - (1 if _is_word(text[run.end() : run.end() + 1]) else 0)
        for start in range(first, last):
            digits = ""
            for group in groups[start:last]:
                digits += group
                if len(digits) > _LONGEST:
                    break
                if len(digits) >= _SHORTEST:
                    yield _ascii(digits)


def _is_word(character: str) -> bool:
    return character.isalnum()


def _ascii(digits: str) -> str:
    return digits if digits.isascii() else "".join(str(unicodedata.decimal(each)) for each in digits)


def _is_card_number(digits: str) -> bool:
    return len(digits) in LENGTHS.get(digits[0], ()) and _luhn(digits)


def _luhn(digits: str) -> bool:
    """ISO/IEC 7812-1 annex B: double every second digit from the right, add the digits, divisible by ten."""
    doubled = sum(sum(divmod(2 * int(each), 10)) for each in digits[-2::-2])
    return (doubled + sum(int(each) for each in digits[-1::-2])) % 10 == 0
