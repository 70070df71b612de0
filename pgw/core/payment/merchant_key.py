"""Random bytes -> a merchant's key; a key that is shown -> the merchant it belongs to, from digests alone."""

import re
from collections.abc import Mapping
from hashlib import sha256
from hmac import compare_digest
from string import ascii_letters, digits

from msgspec import Struct

KEY_ID_BYTES = 6

SECRET_BYTES = 32
"""256 bits: beyond guessing and beyond collision."""

MAX_LIVE = 2
"""Keys of one merchant that are valid at once: the one in use, and the one that takes its place."""

_ALPHABET = digits + ascii_letters
_SECRET_LENGTH = 43
"""Letters and digits that hold 256 bits: 62 ** 43 > 2 ** 256."""

_FORM = r"pgw_(?:development|production)_([0-9a-f]{12})_[0-9A-Za-z]{43}"
_KEY = re.compile(_FORM)
_BEARER = re.compile(rf"(?i:bearer) +({_FORM})")

_NOBODY = "0" * 64
"""Stands in for the digest of a key that is not known, so that it takes as long to refuse as one that is."""


class Kept(Struct, frozen=True):
    """What is known of a live key."""

    key_id: str
    merchant_id: str
    secret_digest: str


def make(environment: str, key_id: bytes, secret: bytes) -> str:
    """Write a key: `pgw_<environment>_<id>_<secret>`, letters and digits all through.

    `secret` comes from an unpredictable generator. The environment is for people and for scanners
    of leaked keys; it is part of what is digested, so it cannot be altered.
    """
    assert len(key_id) == KEY_ID_BYTES, "the id of a key has its length"
    assert len(secret) == SECRET_BYTES, "the secret of a key has its length"
    return f"pgw_{environment}_{key_id.hex()}_{_in_letters(int.from_bytes(secret, 'big'))}"


def _in_letters(number: int) -> str:
    letters = []
    for _ in range(_SECRET_LENGTH):
        number, place = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[place])
    return "".join(reversed(letters))


def id_of(key: str) -> str | None:
    """Return the id within a key; None where the text is no key."""
    found = _KEY.fullmatch(key)
    return found[1] if found else None


def digest(key: str) -> str:
    """Return what is kept of a key.

    SHA-256, once and without salt: a slow hash makes up for secrets that can be guessed, and this one cannot. NIST
    SP 800-63B, 5.1.2.2: secrets of at least 112 bits of entropy are hashed with an approved one-way function; only
    those with fewer are salted and stretched.
    """
    return sha256(key.encode()).hexdigest()


def holder(authorization: str, kept: Mapping[str, Kept]) -> str | None:
    """Return the merchant whose live key an Authorization header shows (RFC 6750, 2.1), None for anything else.

    `kept` holds live keys by id. The id is no secret; the digests are compared in constant time.
    """
    shown = _BEARER.fullmatch(authorization)
    if shown is None:
        return None
    found = kept.get(shown[2])
    matches = compare_digest(digest(shown[1]), found.secret_digest if found else _NOBODY)
    return found.merchant_id if found is not None and matches else None
