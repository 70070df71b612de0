"""Words for people -> stderr, one line at a time, with every secret of the environment masked."""

import os
import re
import shutil
import sys
from typing import TextIO
from urllib.parse import unquote, urlsplit

SECRETS = ("INTERNAL_API_KEY", "PGW_API_KEY", "RAZORPAY_KEY_SECRET", "RAZORPAY_WEBHOOK_SECRET")
"""Variables whose value, or each comma-separated member of it, must never be seen."""

ADDRESSES = ("DATABASE_URL", "REDIS_URL")
"""Variables whose value may hold a password, which a library's message may repeat without the address around it."""

SHORTEST_SECRET = 8
"""A shorter value may be part of any word; masking it would make messages unreadable and hide nothing worth hiding."""

_CREDENTIALS = re.compile(r"(?<=://)[^\s/@]*:[^\s/]*(?=@)")
_MASK = "***"
_PLAIN = str.maketrans({"✕": "x", "✓": "+", "◐": "~", "→": "->", "│": "|", "·": "-"})


def masked(text: str) -> str:
    """Replace the environment's secrets, and the user and password of any address."""
    text = _CREDENTIALS.sub(_MASK, text)
    members = [value.strip() for name in SECRETS for value in os.environ.get(name, "").split(",")]
    for secret in (*members, *_passwords()):
        if len(secret) >= SHORTEST_SECRET:
            text = text.replace(secret, _MASK)
    return text


def _passwords() -> list[str]:
    """Return the passwords of the addresses, as they are written there and as they are sent."""
    found = []
    for name in ADDRESSES:
        try:
            password = urlsplit(os.environ.get(name, "")).password or ""
        except ValueError:
            continue
        found += [password, unquote(password)]
    return found


def readable(text: str, stream: TextIO) -> str:
    """Write signs as letters where the terminal or the file has none for them."""
    return text if (stream.encoding or "").lower().startswith("utf") else text.translate(_PLAIN)


def clean(text: str) -> str:
    """Write control characters as escapes: what a merchant sent must not steer an operator's terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def width() -> int | None:
    """Return how many columns the terminal has that words are said to; None when it is none."""
    return shutil.get_terminal_size().columns if sys.stderr.isatty() else None


def say(text: str) -> None:
    """Write to the operator what is not data."""
    lines = readable(masked(text), sys.stderr).splitlines()
    print(*map(clean, lines), sep="\n", file=sys.stderr, flush=True)  # noqa: T201  # the one place words come from


def say_error(message: str) -> None:
    """Write what went wrong, as one line."""
    say("error: " + " ".join(message.split()))
