"""ASCII text -> whether a card number is in it: every window of 13 to 19 digits is checked at once.

A text of nothing but candidates has three of them for each of its bytes, too many to look at one by one in Python while
the event loop waits. So each byte becomes a lane of one long integer: a shift compares every byte with its neighbour,
an addition adds every digit to the next, and the Luhn sums of all windows of one length come of a dozen such steps,
whatever the text holds. No lane overflows: a sum is at most 19 * 9.
"""

import string

LENGTHS = {
    2: frozenset({16}),
    3: frozenset(range(14, 20)),
    4: frozenset({13, 16, 19}),
    5: frozenset(range(13, 20)),
    6: frozenset(range(13, 20)),
}
"""First digit -> lengths the schemes under it issue (ISO/IEC 7812): 2 Mastercard, 3 Amex, Diners and JCB, 4 Visa,
5 Mastercard and Maestro, 6 Discover, RuPay, UnionPay and Maestro."""

SHORTEST, LONGEST = 13, 19

LETTER = b"\x01"
"""Stands for a letter or a numeral outside ASCII."""

POINT = b"\x02"
"""Stands for the point of a JSON number: digits on both sides of it are one number, as with a letter between them."""

_DIGITS = string.digits.encode()
_OPENS, _CLOSES, _BREAK, _JOINT = 0x10, 0x20, 0x40, 0xC0
"""Above its value, a digit's lane says whether a card number may start or end there; what is no digit is a break, or a
joint: the one space or dash between two digits."""


def _table(ones: bytes) -> bytes:
    return bytes(each in ones for each in range(256))


_IS_DIGIT = _table(_DIGITS)
_IS_GAP = _table(b" -")
_IS_TOUCHING = _table(_DIGITS + string.ascii_letters.encode() + LETTER)
_IS_POINT = _table(POINT)
_VALUES = bytes(_DIGITS.index(each) if each in _DIGITS else _BREAK for each in range(256))

_ONES = bytes(each & 0xF if each < _BREAK else 0 for each in range(256))
_DOUBLED = bytes(sum(divmod(2 * (each & 0xF), 10)) if each < _BREAK else 0 for each in range(256))
_IS_BREAK = _table(bytes([_BREAK]))
_IS_END = bytes(each < _BREAK and bool(each & _CLOSES) for each in range(256))
_IS_START = {
    length: bytes(
        each < _BREAK and bool(each & _OPENS) and length in LENGTHS.get(each & 0xF, ()) for each in range(256)
    )
    for length in range(SHORTEST, LONGEST + 1)
}
_IS_TEN = _table(bytes(range(10, 9 * LONGEST + 1, 10)))

_SHAPE = bytes(_DIGITS[0] if each in _DIGITS else each for each in range(256))
_LONG_RUN = b"0" * SHORTEST


def has_long_run(text: bytes) -> bool:
    """Return False only when no 13 digits follow one another with nothing but spaces and dashes between them."""
    return _LONG_RUN in text.translate(_SHAPE, b" -")


def holds_card_number(text: bytes) -> bool:
    """Find 13..19 digits standing alone, single spaces or dashes allowed, of a scheme's first digit, Luhn-valid."""
    row = _row_of(text)
    ends = _lanes(row, _IS_END)
    starts = {table: _lanes(row, table) for table in set(_IS_START.values())}
    sums, breaks = None, None
    for length in range(SHORTEST, LONGEST + 1):
        candidates = starts[_IS_START[length]] & (ends >> 8 * (length - 1))
        if candidates:
            breaks = breaks or _Breaks(row)
            candidates = _without(candidates, breaks.within(length))
        if candidates:
            sums = sums or _Sums(row)
            if _has_multiple_of_ten(sums.of(length), candidates, len(row)):
                return True
    return False


def _row_of(text: bytes) -> bytes:
    """Write out digits and breaks only: joints are taken out, and each digit knows the ends of its group."""
    digits, gaps, touching = _lanes(text, _IS_DIGIT), _lanes(text, _IS_GAP), _lanes(text, _IS_TOUCHING)
    before, after = digits << 8, digits >> 8
    touching |= _lanes(text, _IS_POINT) & before & after
    opens = _without(digits, touching << 8)
    closes = _without(digits, touching >> 8)
    joints = gaps & before & after
    row = _lanes(text, _VALUES) + opens * _OPENS + closes * _CLOSES + joints * (_JOINT - _BREAK)
    return row.to_bytes(len(text), "little").translate(None, bytes([_JOINT]))


class _Sums:
    """Luhn sums of all windows of a length, each in the lane of the window's first digit (ISO/IEC 7812-1, annex B).

    From the right every second digit is doubled and its digits are added; a number is valid when ten divides the sum.
    """

    def __init__(self, row: bytes) -> None:
        self.ones = _lanes(row, _ONES)
        self.two = _lanes(row, _DOUBLED) + (self.ones >> 8)
        self.four = self.two + (self.two >> 16)
        self.twelve = self.four + (self.four >> 32) + (self.four >> 64)

    def of(self, length: int) -> int:
        """Put windows of even length together from windows of twelve, four and two; an odd one starts with a digit."""
        if length % 2:
            return self.ones + (self.of(length - 1) >> 8)
        sums = self.twelve
        if length >= 16:  # noqa: PLR2004  # twelve and four
            sums += self.four >> 96
        return sums if length % 4 == 0 else sums + (self.two >> 8 * (length - 2))


def _lanes(text: bytes, table: bytes) -> int:
    """Make the first byte the lowest lane, so that `>> 8` puts each byte's successor in its place."""
    return int.from_bytes(text.translate(table), "little")


def _without(lanes: int, taken: int) -> int:
    return lanes ^ (lanes & taken)


class _Breaks:
    """The lanes whose window of a length holds a break."""

    def __init__(self, row: bytes) -> None:
        lanes = _lanes(row, _IS_BREAK)
        for reach in (1, 2, 4):
            lanes |= lanes >> 8 * reach
        self.eight = lanes
        self.sixteen = lanes | (lanes >> 64)

    def within(self, length: int) -> int:
        """Cover the window with two of eight, or of sixteen, that may overlap."""
        if length <= 16:  # noqa: PLR2004  # twice eight
            return self.eight | (self.eight >> 8 * (length - 8))
        return self.sixteen | (self.sixteen >> 8 * (length - 16))


def _has_multiple_of_ten(sums: int, candidates: int, width: int) -> bool:
    """Whether ten divides the sum in a candidate's lane; no candidate's sum is 0, its first digit is 2 to 6."""
    found = (sums & ((candidates << 8) - candidates)).to_bytes(width, "little")
    return b"\1" in found.translate(_IS_TEN)
