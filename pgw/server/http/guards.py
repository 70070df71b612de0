"""Request -> who may pass: request ids, keys, and what must not stand in a path or header."""

import hmac
import logging
import random
import re
from typing import Any

from sanic import Request
from sanic.constants import HTTP_METHODS
from sanic.exceptions import BadURL
from sanic.http import Http
from sanic.response import BaseHTTPResponse
from sanic.server import HttpProtocol

from pgw.assembly import Runtime
from pgw.core.errors import Code, PgwError
from pgw.core.ids import uuid7
from pgw.core.payment import card_data
from pgw.server.http.codec import card_data_refusal
from pgw.settings import Settings

access = logging.getLogger("pgw.access")

ONE_IN = 100
"""At log level info one successful answer in so many is logged; each line costs as much as a database row."""

SERVER_FAULT = 500

KEY_HEADER = "x-internal-api-key"
ADMIN_KEY = "the admin key as X-Internal-Api-Key"
CHALLENGE = 'Bearer realm="pgw"'
"""The challenge a refused merchant gets (RFC 9110, 11.6.1; RFC 6750, 3)."""

NOT_HTTP = "the request is not well-formed HTTP/1.1"
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_IDEMPOTENCY_KEY = re.compile(r"[\x20-\x7e]{1,255}")
_ACTOR = re.compile(r"[\x20-\x7e]{1,64}")
_LONG_OR_ENCODED = re.compile(rb"[0-9 +-]{13}|[%\x80-\xff]")
"""Where a card number may be, found in far less time than it takes to look at one: every payment's key passes here."""

_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_NO_FIELD_NAME = re.compile(rb"\n[!#-'*+.0-9A-Z^-z|~-]*[^!#-'*+.0-9A-Z^-z|~:-]")
"""A header line that does not begin with a token and a colon (RFC 9112, 5.1 and 5.2)."""


class HttpRequest(Request[Any, Any]):
    """A request whose target need not be an address: it gets its answer all the same, and no line in the log."""

    __slots__ = ("has_address",)

    def __init__(self, url_bytes: bytes, *given: Any, **named: Any) -> None:
        self.has_address = True
        try:
            super().__init__(url_bytes, *given, **named)
        except BadURL:
            # Sanic builds a request again to answer this fault, fails again, and logs the target with a traceback.
            super().__init__(b"*", *given, **named)
            self.raw_url = url_bytes
            self.has_address = False
        if "upgrade" in self.headers and isinstance(protocol := self.transport.get_protocol(), HttpProtocol):
            # No route speaks WebSocket, and Sanic would wait without end for a body that comes with this header.
            protocol.http.upgrade_websocket = False

    @property
    def path(self) -> str:
        """The path; an address that ends with its host has the root's (RFC 9110, 4.2.3)."""
        return (self._parsed_url.path or b"/").decode()


def runtime_of(request: Request) -> Runtime:
    """Return the opened world of this process."""
    runtime: Runtime = request.app.ctx.runtime
    return runtime


async def identify(request: Request) -> None:
    """Give the request its id, and refuse card data outside the body; runs before every route."""
    runtime = runtime_of(request)
    request.ctx.began = runtime.clock.elapsed()
    given = request.headers.get("x-request-id", "")
    request.ctx.request_id = uuid7(runtime.clock.now(), runtime.rng)
    if _carries_card_data(request):
        raise card_data_refusal()
    if _REQUEST_ID.fullmatch(given):
        request.ctx.request_id = given
    if not isinstance(request.stream, Http):
        return
    if _is_malformed(request):
        # Where this request ends is a matter of opinion: nothing that follows it is read.
        request.stream.keep_alive = False
        raise PgwError(Code.INVALID_REQUEST, NOT_HTTP)
    if request.stream.request_body:
        # No route asked for it; a body left over would end up as a line in the log, with the path's values.
        await request.receive_body()  # type: ignore[no-untyped-call]


def _is_malformed(request: Request) -> bool:
    """Find what two readers of one connection could read differently (RFC 9112, 11.2)."""
    head = request.head
    lines = head.count(b"\r\n")
    return (
        not getattr(request, "has_address", True)
        or head.count(b"\n") != lines
        or head.count(b"\r") != lines
        or _CONTROL.search(head) is not None
        or _NO_FIELD_NAME.search(head) is not None
        or not (head.isascii() or request.headers.get("content-length", "").isascii())
    )


def request_id(request: Request) -> str:
    """Return the request's id; one that failed before it could be identified is given its own here."""
    if not hasattr(request.ctx, "request_id"):
        runtime = runtime_of(request)
        request.ctx.request_id = uuid7(runtime.clock.now(), runtime.rng)
    named: str = request.ctx.request_id
    return named


async def label(request: Request, response: BaseHTTPResponse) -> None:
    """Put the request's id on its answer and log it; while draining, end the connection for the stop's sake."""
    response.headers["X-Request-Id"] = request_id(request)
    if challenge := getattr(request.ctx, "challenge", None):
        response.headers["WWW-Authenticate"] = challenge
    _log(request, response)
    if request.app.ctx.draining and isinstance(request.stream, Http):
        request.stream.keep_alive = False


def _log(request: Request, response: BaseHTTPResponse) -> None:
    """Log answers: all at debug, faults and a sample at info; by the route's pattern, nothing in the client's words."""
    sampled = response.status >= SERVER_FAULT or random.random() < 1 / ONE_IN  # noqa: S311  # a sample, no secret
    level = logging.INFO if sampled else logging.DEBUG
    if not access.isEnabledFor(level):
        return
    method = request.method if request.method in HTTP_METHODS else "-"
    route = request.route.path if request.route else "-"
    now = runtime_of(request).clock.elapsed()
    took_ms = (now - getattr(request.ctx, "began", now)) * 1000
    access.log(level, "%s /%s %d %.1f ms %s", method, route, response.status, took_ms, request_id(request))


def _carries_card_data(request: Request) -> bool:
    """Search the address, and the headers that are kept or echoed, however often they are given."""
    headers = request.headers
    values = (*headers.getall("x-request-id", ()), *headers.getall("idempotency-key", ()))
    return _holds_card_data(request.raw_url) or any(
        _holds_card_data(value.encode("utf-8", "surrogateescape")) for value in values
    )


def _holds_card_data(raw: bytes) -> bool:
    """Search an address or a header, also decoded as a path and as a query."""
    if b"?" not in raw and not _LONG_OR_ENCODED.search(raw):
        return False
    return card_data.in_address(raw)


def idempotency_key(request: Request) -> str:
    """Read the one Idempotency-Key (draft-ietf-httpapi-idempotency-key-header); opaque, never logged."""
    values = request.headers.getall("idempotency-key", [])
    if not values or not values[0]:
        raise PgwError(Code.MISSING_IDEMPOTENCY_KEY, "send an Idempotency-Key header, new for each new payment")
    if len(values) > 1 or not _IDEMPOTENCY_KEY.fullmatch(values[0]):
        raise PgwError(
            Code.INVALID_IDEMPOTENCY_KEY, "Idempotency-Key must be one value of 1 to 255 printable ASCII characters"
        )
    key: str = values[0]
    return key


def admin(request: Request) -> str:
    """Let only the admin key pass; return the actor as claimed."""
    _check_key(request, runtime_of(request).settings)
    actor = request.headers.get("x-actor", "")
    return actor if _ACTOR.fullmatch(actor) and not card_data.in_text(actor) else "unknown"


def merchant(request: Request) -> str | None:
    """Let merchants pass; return the one whose key this is, None where any merchant's payments may be seen.

    That is with the admin key, and without any key on a loopback bind in development. Whoever shows a key of a
    merchant is held to it, also there; one that is malformed, unknown or revoked is refused without saying which.
    """
    runtime = runtime_of(request)
    if _is_admin(request, runtime.settings):
        return None
    shown = request.headers.getall("authorization", ())
    if shown:
        holder = runtime.merchant_keys.holder(shown[0]) if len(shown) == 1 else None
        if holder is None:
            request.ctx.challenge = CHALLENGE
            raise PgwError(Code.UNAUTHORIZED, "the Authorization header shows no merchant key that is valid here")
        return holder
    if _is_exposed(runtime.settings):
        request.ctx.challenge = CHALLENGE
        _check_key(request, runtime.settings, f"send a merchant key as Authorization: Bearer, or {ADMIN_KEY}")
    return None


def reader(request: Request) -> None:
    """Let those pass who read what concerns no merchant: keyless on a loopback bind in development, else the admin."""
    settings = runtime_of(request).settings
    if _is_exposed(settings):
        _check_key(request, settings)


def _is_exposed(settings: Settings) -> bool:
    return settings.production or not settings.on_loopback


def _is_admin(request: Request, settings: Settings) -> bool:
    given = request.headers.get(KEY_HEADER, "").encode("utf-8", "surrogateescape")
    # Every key is compared, whatever the first comparisons say: the time reveals nothing.
    return bool(given) and any([hmac.compare_digest(given, key.encode()) for key in settings.admin_keys])  # noqa: C419


def _check_key(request: Request, settings: Settings, way_in: str = f"send {ADMIN_KEY}") -> None:
    if not request.headers.get(KEY_HEADER, ""):
        raise PgwError(Code.UNAUTHORIZED, way_in)
    if not _is_admin(request, settings):
        raise PgwError(Code.FORBIDDEN, "this admin key is not valid here")


def admit(request: Request) -> None:
    """Refuse new payments while draining."""
    if request.app.ctx.draining:
        raise PgwError(Code.DRAINING, "this server is stopping: nothing was charged, try again", retry_after_s=1)
