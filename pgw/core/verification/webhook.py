"""Raw body, signature, time -> whether a webhook is the gateway's own and young enough, and its name for ever.

A webhook is a hint: it says which attempt to ask about now. What became of that attempt, only the gateway's answer to
an enquiry says.
"""

import hashlib
import hmac
from collections.abc import Iterable
from datetime import datetime, timedelta

from msgspec import Struct

from pgw.core.verification.enquiry import GIVE_UP_AFTER

MAX_AGE = GIVE_UP_AFTER + timedelta(hours=1)
"""An older event is refused. Until `GIVE_UP_AFTER` an attempt is asked about or watched, at the end once an hour; later
there is nothing left to bring forward. Razorpay delivers an event again for 24 hours ("Webhooks: best practices")."""

MAX_AHEAD = timedelta(minutes=5)
"""How far the gateway's clock may be before ours: the tolerance of the Standard Webhooks specification."""


class WebhookNotice(Struct, frozen=True, kw_only=True):
    """What is kept of a webhook: what happened, when, and the names of the attempt it happened to.

    `payment_id` and `attempt_number` are ours, as the gateway repeats them; `transaction_ref` is the gateway's own.
    """

    event: str
    occurred_at: datetime
    payment_id: str | None = None
    attempt_number: int | None = None
    transaction_ref: str | None = None


def signature_of(body: bytes, secret: str) -> str:
    """Sign a body: HMAC-SHA256 of its bytes, exactly as they travel, in lower-case hex."""
    return hmac.new(secret.encode("utf-8", "surrogateescape"), body, hashlib.sha256).hexdigest()


def is_signed(body: bytes, signature: str, secrets: Iterable[str]) -> bool:
    """Whether one of the secrets signed this body. Whatever the header holds, the answer is yes or no."""
    # What is not ASCII becomes a question mark, which no hex digit is.
    given = signature.encode("ascii", "replace")
    # Every secret is tried, whatever the first comparisons say: the time reveals nothing.
    found = [hmac.compare_digest(given, signature_of(body, secret).encode()) for secret in secrets]
    return any(found)


def digest_of(body: bytes) -> str:
    """Name a webhook by its body, which is signed. The event's id travels in a header that no signature covers."""
    return hashlib.sha256(body).hexdigest()


def is_in_window(occurred_at: datetime, now: datetime) -> bool:
    """Whether an event is neither too old nor from a future that clocks do not explain."""
    return now - MAX_AGE <= occurred_at <= now + MAX_AHEAD
