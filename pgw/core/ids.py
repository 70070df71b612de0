"""A moment, random bits -> UUIDv7 text: ids that sort by time and cannot be guessed (RFC 9562, section 5.7)."""

from datetime import datetime
from random import Random


def uuid7(now: datetime, rng: Random) -> str:
    """Make one id: 48 bits of Unix milliseconds, then 74 bits from `rng`, which in production is the system's."""
    random = rng.getrandbits(74)
    value = (
        int(now.timestamp() * 1000) << 80
        | 0x7 << 76
        | (random >> 62) << 64
        | 0b10 << 62
        | random & 0x3FFF_FFFF_FFFF_FFFF
    )
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
