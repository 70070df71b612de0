"""A time, random bits -> UUIDv7 text: ids that sort by time and cannot be guessed (RFC 9562, section 5.7)."""

from datetime import datetime
from random import Random


def uuid7(now: datetime, rng: Random) -> str:
    """Make one id: 48 bits of Unix milliseconds, then 74 bits from `rng`, which in production is the system's."""
    random = rng.getrandbits(74)
    # 12 bits beside the version 7, 2 + 12 bits beside the variant 10, 48 bits: the random ones in one number.
    millis = f"{int(now.timestamp() * 1000):012x}"
    rest = f"{random & 0xFFFF_FFFF_FFFF:012x}"
    return f"{millis[:8]}-{millis[8:]}-7{random >> 62:03x}-{0x8000 | (random >> 48) & 0x3FFF:04x}-{rest}"
