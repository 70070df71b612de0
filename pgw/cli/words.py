"""Words for people -> stderr, one line at a time, with every secret of the environment masked."""

import os
import re
import sys

SECRETS = ("INTERNAL_API_KEY", "PGW_API_KEY", "RAZORPAY_KEY_SECRET", "RAZORPAY_WEBHOOK_SECRET")
"""Variables whose value, or each comma-separated member of it, must never be seen."""

SHORTEST_SECRET = 8
"""A shorter value may be part of any word; masking it would make messages unreadable and hide nothing worth hiding."""

_CREDENTIALS = re.compile(r"(?<=://)[^\s/@]*:[^\s/]*(?=@)")
_MASK = "***"


def masked(text: str) -> str:
    """Replace the environment's secrets, and the user and password of any address."""
    for name in SECRETS:
        for value in os.environ.get(name, "").split(","):
            if len(value.strip()) >= SHORTEST_SECRET:
                text = text.replace(value.strip(), _MASK)
    return _CREDENTIALS.sub(_MASK, text)


def clean(text: str) -> str:
    """Write control characters as escapes: what a merchant sent must not steer an operator's terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def say(text: str) -> None:
    """Tell a person something that is not data."""
    lines = masked(text).splitlines()
    print(*map(clean, lines), sep="\n", file=sys.stderr, flush=True)  # noqa: T201  # the one place words come from


def say_error(message: str) -> None:
    """Tell what went wrong, as one line."""
    say("error: " + " ".join(message.split()))
