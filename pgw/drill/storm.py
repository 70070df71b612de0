"""Payments under way -> thousands of webhooks about them, over HTTP: new, again, forged, in the wrong order."""

import asyncio
import json
import secrets
import socket
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import aiohttp
from sanic import Sanic

from pgw.assembly import Runtime
from pgw.core.gateways.razorpay_events import RECEIPT, receipt_of
from pgw.core.ledger.configuration import RAZORPAY
from pgw.core.ports import Reference
from pgw.core.verification.webhook import signature_of
from pgw.drill.scorecard import PaymentAnswer, Storm
from pgw.server.http.guards import HttpRequest, identify, label
from pgw.server.http.problems import Problems
from pgw.server.routes import webhooks

PER_PAYMENT = ("payment.failed", "payment.captured", "payment.authorized")
"""Called with each payment, in the order in which it cannot have happened."""

SENDERS = 8
ANSWER_WITHIN_S = 10.0
CHOSEN_FROM = 200
"""Newest payments that a storm is about; earlier ones have had theirs."""


class Weather:
    """Senders that post as fast as they are answered, until they are stopped."""

    def __init__(self, address: str, secret: str, answers: Sequence[PaymentAnswer]) -> None:
        self._address = address
        self._secret = secret
        self._answers = answers
        self._count: Counter[str] = Counter()
        self._senders: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        """Let it rage."""
        self._senders = [asyncio.create_task(self._rage(number)) for number in range(SENDERS)]

    async def calm(self) -> Storm:
        """End it, and say what it came to."""
        for each in self._senders:
            each.cancel()
        await asyncio.gather(*self._senders, return_exceptions=True)
        return Storm(**self._count)

    async def _rage(self, number: int) -> None:
        timeout = aiohttp.ClientTimeout(total=ANSWER_WITHIN_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            turn = number
            while True:
                known = [each.payment_id for each in self._answers[-CHOSEN_FROM:] if each.payment_id is not None]
                if not known:
                    await asyncio.sleep(0.01)
                    continue
                turn += SENDERS
                for body, signature, forged in _event(known[turn % len(known)], turn, self._secret):
                    await self._post(session, body, signature, forged=forged)

    async def _post(self, session: aiohttp.ClientSession, body: bytes, signature: str, *, forged: bool) -> None:
        headers = {webhooks.SIGNATURE: signature, "Content-Type": "application/json"}
        async with session.post(self._address, data=body, headers=headers) as answer:
            said = (await answer.json()).get("status")
        self._count["sent"] += 1
        if forged:
            self._count["refused" if answer.status == HTTPStatus.UNAUTHORIZED else "wrong"] += 1
        elif answer.status == HTTPStatus.OK:
            self._count["kept" if said == "received" else "duplicates"] += 1
        else:
            self._count["wrong"] += 1


def _event(payment_id: str, turn: int, secret: str) -> Iterator[tuple[bytes, str, bool]]:
    """Send one payment's events: each twice, then once with a forged signature."""
    for event in PER_PAYMENT:
        entity = {"id": f"pay_{turn:014d}", "notes": {RECEIPT: receipt_of(Reference(payment_id, 1))}}
        moment = int(uuid.UUID(payment_id).int >> 80) // 1000
        document = {"event": event, "created_at": moment, "payload": {"payment": {"entity": entity}}}
        body = json.dumps(document).encode()
        signed = signature_of(body, secret)
        yield body, signed, False
        yield body, signed, False
        yield body, signature_of(body, secrets.token_hex(16)), True


@asynccontextmanager
async def webhook_address(runtime: Runtime) -> AsyncIterator[str]:
    """Open the server's own route of webhooks for this house, on a free port of this machine; yield its address."""
    app: Sanic[Any, Any] = Sanic(
        f"pgw-{uuid.uuid4().hex}", configure_logging=False, error_handler=Problems(), request_class=HttpRequest
    )
    app.config.TOUCHUP = False
    app.config.ACCESS_LOG = False
    app.ctx.runtime, app.ctx.draining = runtime, False
    app.blueprint(webhooks.blueprint.copy(webhooks.__name__))
    app.register_middleware(identify, "request")
    app.register_middleware(label, "response")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(SENDERS)
        listener.settimeout(0)
        server: Any = await app.create_server(sock=listener, return_asyncio_server=True, access_log=False)
        await server.startup()
        await server.before_start()
        await server.after_start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/webhooks/{RAZORPAY.gateway_id}"
        finally:
            server.close()
            for connection in list(server.connections):
                connection.abort()
            await server.before_stop()
            await server.after_stop()
