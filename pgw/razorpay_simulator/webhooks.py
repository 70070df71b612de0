"""The book and a target -> signed events about payments that moved: once or often, in order or not, until taken.

Form and events: "Webhooks: payments, orders, refunds: payloads" of Razorpay's documentation; signature and repetition:
its "Webhooks: validate and test" and "best practices".
"""

import asyncio
import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from pgw.razorpay_simulator.book import SimulatorBook
from pgw.razorpay_simulator.clock import SimulatorClock
from pgw.razorpay_simulator.documents import Document, order_document, payment_document, refund_document
from pgw.razorpay_simulator.states import SimulatedPayment, SimulatedStatus

LOOK_EVERY_S = 0.1
"""How often the book is searched for payments that moved."""

ANSWER_WITHIN_S = 5.0
"""How long a target may take; then the event is sent again later, as documented."""

FIRST_PAUSE_S = 1.0
MAX_TRIES = 10
"""Documented are repetitions with growing pauses for 24 hours; here they double, and end after a quarter of an hour."""

WEBHOOK_SECRET = "sandbox-webhooks"  # noqa: S105  # it guards no money, and it is printed


class Target(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where events go, and how badly: each `copies` times; those of `reorder_within_s` together, the newest first."""

    url: str
    secret: Annotated[str, Meta(min_length=1, max_length=200)] = WEBHOOK_SECRET
    copies: Annotated[int, Meta(ge=1, le=100)] = 1
    reorder_within_s: Annotated[float, Meta(ge=0, le=60)] = 0.0


@dataclass(slots=True)
class Delivery:
    """One event on its way."""

    event_id: str
    body: bytes
    due_at: datetime
    tries: int = 0


class Webhooks:
    """Sends a target what happened. Without one nothing is sent, also not later."""

    def __init__(self, book: SimulatorBook, clock: SimulatorClock, rng: Random) -> None:
        self._book = book
        self._clock = clock
        self._rng = rng
        self._seen: set[tuple[str, str]] = set()
        self._waiting: list[Delivery] = []
        self._task: asyncio.Task[None] | None = None
        self.target: Target | None = None
        self.taken = 0
        self.refused = 0
        """Times that a target took an event, or did not."""

    def publish(self, target: Target | None) -> None:
        """Send to this target from now on, what happens from now on; needs a running event loop."""
        if target is not None and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="sandbox-webhooks")
        if self.target is None:
            self._new_events()
        self.target = target
        self._waiting = [] if target is None else self._waiting

    @property
    def document(self) -> Document:
        """Show where events go and how far they are; never the secret."""
        target = self.target
        return {
            "url": target and target.url,
            "copies": target and target.copies,
            "reorder_within_s": target and target.reorder_within_s,
            "waiting": len(self._waiting),
            "taken": self.taken,
            "refused": self.refused,
        }

    async def _run(self) -> None:
        while True:
            if self.target is not None:
                await self._step(self.target)
            await self._clock.sleep(LOOK_EVERY_S)

    async def _step(self, target: Target) -> None:
        now = self._clock.now()
        due_at = now + timedelta(seconds=target.reorder_within_s)
        if target.reorder_within_s and any(not each.tries for each in self._waiting):
            # What waits for company leaves with it.
            due_at = min(each.due_at for each in self._waiting if not each.tries)
        for event in self._new_events():
            body = msgspec.json.encode({**event, "created_at": int(now.timestamp())})
            self._waiting.append(Delivery(f"{self._rng.getrandbits(64):016x}", body, due_at))
        due = [each for each in self._waiting if each.due_at <= now]
        for each in reversed(due) if target.reorder_within_s else due:
            if await self._deliver(target, each, now):
                # A target that was changed meanwhile may have thrown it away.
                with suppress(ValueError):
                    self._waiting.remove(each)

    async def _deliver(self, target: Target, each: Delivery, now: datetime) -> bool:
        """Send one event, as often as configured; return whether nothing is left to do about it."""
        answers = [await _post(target, each) for _ in range(target.copies)]
        self.taken += sum(answers)
        self.refused += len(answers) - sum(answers)
        each.tries += 1
        each.due_at = now + timedelta(seconds=FIRST_PAUSE_S * 2 ** (each.tries - 1))
        return all(answers) or each.tries == MAX_TRIES

    def _new_events(self) -> list[Document]:
        found = []
        for payment in self._book.payments():
            for name, subject, contained in _events_of(payment):
                if (name, subject) not in self._seen:
                    self._seen.add((name, subject))
                    found.append(_event(name, contained))
        return found


def loopback_of(url: str) -> tuple[str, int, str] | None:
    """Take a target apart: host, port, path; None for any that is not plain HTTP to this machine."""
    try:
        parts = urlsplit(url)
        port = parts.port or 80
        is_loopback = parts.hostname == "localhost" or ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return None
    host, path = parts.hostname or "", parts.path or "/"
    is_plain = parts.scheme == "http" and url.isascii() and url.isprintable() and " " not in url
    return (host, port, path) if is_loopback and is_plain else None


def _events_of(payment: SimulatedPayment) -> Iterator[tuple[str, str, dict[str, Document]]]:
    """Name all that has happened to a payment so far, each with what it happened to and the entities it shows."""
    entity = payment_document(payment)
    if payment.status is SimulatedStatus.FAILED:
        yield "payment.failed", payment.id, {"payment": entity}
    if payment.authorized_at is not None:
        at_that_time = {**entity, "status": "authorized", "captured": False}
        yield "payment.authorized", payment.id, {"payment": at_that_time}
    if payment.captured_at is not None:
        yield "payment.captured", payment.id, {"payment": entity}
        yield "order.paid", payment.id, {"payment": entity, "order": order_document(payment.order)}
    for refund in payment.refunds:
        yield "refund.processed", refund.id, {"refund": refund_document(refund), "payment": entity}


def _event(name: str, contained: dict[str, Document]) -> Document:
    payload = {kind: {"entity": entity} for kind, entity in contained.items()}
    return {
        "entity": "event",
        "account_id": "acc_sandbox",
        "event": name,
        "contains": list(payload),
        "payload": payload,
    }


async def _post(target: Target, each: Delivery) -> bool:
    """Send an event over a connection of its own; return whether it was taken."""
    place = loopback_of(target.url)
    assert place is not None, "a target is looked at before it is set"
    host, port, path = place
    named = f"[{host}]" if ":" in host else host
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {named}:{port}\r\nConnection: close\r\nContent-Type: application/json\r\n"
        f"X-Razorpay-Signature: {_signature(each.body, target.secret)}\r\nx-razorpay-event-id: {each.event_id}\r\n"
        f"Content-Length: {len(each.body)}\r\n\r\n"
    )
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(head.encode() + each.body)
                status = await reader.readline()
                await reader.read()
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError, ValueError):
        return False
    return re.match(rb"HTTP/1\.[01] 2\d\d ", status) is not None


def _signature(body: bytes, secret: str) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
