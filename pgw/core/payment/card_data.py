"""Bytes, text -> whether a card number or a security code is in them; nothing here repeats what it found.

The event loop waits for this, and a client may send anything: every step is one pass of the interpreter's C code over
the text, and none of them decodes it into objects, or converts a number whose size is not bounded.
"""

import re
import string
import unicodedata
from itertools import islice

from pgw.core.payment.card_number import LETTER, LONGEST, POINT, SHORTEST, has_long_run, holds_card_number

CVV_MEMBERS = frozenset({"cvv", "cvc", "cvv2", "cvc2", "security_code"})

MAX_LARGE_FLOATS = 256
"""Numbers with a point or an exponent and a size between 10^12 and 10^19 that are read; one in twenty or so is a card
number by chance, so a body that holds more than this is taken to hold one. No request has a member for a single one."""

# A UUID's groups of digits can pass for a card number, once in some ten thousand random ones; as soon as it holds a
# letter it is an id, and ids are what idempotency keys are made of.
_UUID = re.compile(
    r"(?<![0-9A-Za-z-])(?=[0-9-]{0,35}[A-Fa-f])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![0-9A-Za-z-])"
)
_HEX_SHAPE = bytes(ord("x") if chr(each) in string.hexdigits else each for each in range(256))
_UUID_SHAPE = b"xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"

_ROW = re.compile(r"[\d -]{13}")
_LONG_ROW = re.compile(r"([^\W\d_]?)([\d -]{13,}+)(?=([^\W\d_]?))")
"""With the letters that touch it."""

_LETTER = re.compile(r"[^\W\d_]")

_NAMES = "|".join(sorted(CVV_MEMBERS, reverse=True))
_CVV_MEMBER = re.compile(rf'"(?:{_NAMES})"[ \t\r\n]*+:')
_CVV_PARAMETER = re.compile(rf"(?:^|&)(?:{_NAMES})(?![^&=])", re.IGNORECASE)

# Of a JSON number that is no plain integer, those that can be at least 10^12 and below 10^19: many digits before the
# point, or some and a small exponent, or an exponent from 10 to 19, or zeros behind the point and a larger exponent.
_LARGE_FLOAT = re.compile(
    rb"[0-9](?<![0-9.eE].)(?:"
    rb"[0-9]{12,}+(?=[.eE])(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?"
    rb"|[0-9]{3,}+(?:\.[0-9]++)?[eE]\+?0*+[0-9](?![0-9])"
    rb"|[0-9]*+(?:\.[0-9]++)?[eE]\+?0*+1[0-9](?![0-9])"
    rb"|(?<=0)\.0[0-9]*+[eE]\+?0*+[1-9][0-9]++"
    rb")"
)

_SMALL_EXPONENT = re.compile(rb"e\+?0*+1?[0-9](?![0-9])")
"""In lower case: below 20."""

_SHAPE = bytes(ord("0") if chr(each) in string.digits else ord(chr(each).lower()) & 0xFF for each in range(256))
_HIDING = (b"0" * SHORTEST, b"\\", b"0e0", b"0e+", b"cvv", b"cvc", b"security_code")
"""What may hide card data: a long run, an escape, an exponent, a security code's name; in lower case, every digit 0."""

_ESCAPED = (b"\\\\", b'\\"', b"\\/", b"\\b", b"\\f", b"\\n", b"\\r", b"\\t", b"\\u0022")
"""Escapes of what is no letter or digit, the backslash's first: behind it nothing is escaped."""


def may_hold_card_data(raw: bytes) -> bool:
    """Return False only when no decoding of `raw` can hold card data: the common request stops here."""
    shape = raw.translate(_SHAPE, b" -")
    return not raw.isascii() or any([each in shape for each in _HIDING])  # noqa: C419  # a generator takes twice as long


def in_text(text: str) -> bool:
    """Find a full card number: 13..19 digits standing alone, single spaces or dashes allowed, Luhn-valid."""
    plain = _ascii(text)
    if not has_long_run(plain) or not holds_card_number(plain):
        return False
    if _UUID_SHAPE not in plain.translate(_HEX_SHAPE):
        return True
    return holds_card_number(_ascii(_UUID.sub("|", text)))


def in_json(raw: bytes) -> bool:
    """Find a card number in a string, name or number of a JSON document, or a security code's member.

    Names given twice count twice. What is no JSON document is searched all the same, as far as it reads like one.
    """
    if b"\\" in raw:
        for escape in _ESCAPED:
            raw = raw.replace(escape, b"||")
    shape = raw.translate(_SHAPE)
    has_exponent, has_many_digits = b"0e" in shape, _HIDING[0] in shape
    if has_exponent or (has_many_digits and b"0.0" in shape):
        # Every quote opens or closes a string by now, and two that touch are an empty one.
        parts = raw.replace(b'""', b"||").split(b'"')
        outside = b'"'.join(parts[::2])
        if _may_hold_large_floats(outside, shape) and _in_floats(outside):
            return True
        parts[::2] = _without_floats(outside).split(b'"')
        raw = b'"'.join(parts)
    text = _unescaped(raw)
    return in_text(text) or _has_cvv_member(text)


def in_address(raw: bytes) -> bool:
    """Find a card number in a target or a header, as it is and decoded as a path and a query, or a CVV parameter."""
    text = raw.decode("utf-8", "replace")
    decoded = _percent_decoded(raw)
    if in_text(text) or in_text(decoded) or ("+" in decoded and in_text(decoded.replace("+", " "))):
        return True
    query = raw.partition(b"?")[2]
    # An escaped delimiter delimits nothing.
    for escaped in (b"%26", b"%3D", b"%3d"):
        query = query.replace(escaped, b"|")
    return _CVV_PARAMETER.search(_percent_decoded(query)) is not None


def _ascii(text: str) -> bytes:
    """Write a text in ASCII: the digits of any script as such, a letter beside them as LETTER."""
    if text.isascii():
        return text.encode()
    if _ROW.search(text) is None:
        return b""
    rows = _LETTER.sub(LETTER.decode(), "|".join(map("".join, _LONG_ROW.findall(text))))
    return rows.translate({ord(each): str(unicodedata.decimal(each, each)) for each in set(rows)}).encode()


def _may_hold_large_floats(outside: bytes, shape: bytes) -> bool:
    """Whether 13 digits precede a point or an exponent, an exponent is below 20, or zeros need a larger one."""
    if _HIDING[0] + b"." in shape or _HIDING[0] + b"e" in shape:
        return True
    return b"0e" in shape and (b"0.0" in outside or _SMALL_EXPONENT.search(outside.lower()) is not None)


def _in_floats(outside: bytes) -> bool:
    """Look at the numbers that are no plain integers: each is what it is worth, rounded as every reader rounds it."""
    found = list(islice(_LARGE_FLOAT.finditer(outside), MAX_LARGE_FLOATS + 1))
    if len(found) > MAX_LARGE_FLOATS:
        return True
    values = {float(each.group()) for each in found}
    whole = [str(int(each)) for each in values if each < 10**LONGEST and each.is_integer()]
    return bool(whole) and in_text("|".join(whole))


def _without_floats(outside: bytes) -> bytes:
    """Keep the digits of a fraction or an exponent from being read as a number of their own."""
    return outside.translate(_POINTED).replace(b"e-", b"ee").replace(b"E-", b"ee")


_POINTED = bytes.maketrans(b".", POINT)


def _unescaped(raw: bytes) -> str:
    r"""Decode UTF-8 and `\uXXXX`; a backslash before anything else is no JSON."""
    if b"\\" not in raw:
        return _decoded(raw)
    lone = raw.replace(b"\0", b"|").replace(b"\\u", b"\0").replace(b"\\", b"|").replace(b"\0", b"\\u")
    halves = _decoded(lone).encode("ascii", "backslashreplace").decode("unicode_escape", "replace")
    return halves if halves.isascii() else halves.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _decoded(raw: bytes) -> str:
    """Read what is no UTF-8, and so no JSON, for its ASCII alone: replacing its faults one by one takes far longer."""
    try:
        return raw.decode()
    except UnicodeError:
        return raw.translate(_BARRED).decode()


_BARRED = bytes(each if each < ord("\x80") else ord("|") for each in range(256))


def _has_cvv_member(text: str) -> bool:
    lower = text.lower() if text.isascii() else text.replace("\u017f", "s").lower()
    return any([f'"{each}"' in lower for each in CVV_MEMBERS]) and _CVV_MEMBER.search(lower) is not None  # noqa: C419


_PERCENT = re.compile(rb"%(?=[0-9A-Fa-f]{2})")


def _percent_decoded(raw: bytes) -> str:
    """Decode as `urllib.parse.unquote` does, which takes a loop in Python for it."""
    if b"%" not in raw:
        return raw.decode("utf-8", "replace")
    escaped = _PERCENT.sub(rb"\\x", raw.replace(b"\\", b"\\\\"))
    return escaped.decode("unicode_escape").encode("latin-1").decode("utf-8", "replace")
