"""Request -> who may pass: request ids, keys, and what must not stand in a path or header."""

import hmac
import logging
import random
import re
from urllib.parse import unquote

from sanic import Request
from sanic.http import Http
from sanic.response import BaseHTTPResponse

from pgw.assembly import House
from pgw.core import card_data
from pgw.core.errors import Code, PgwError
from pgw.core.ids import uuid7
from pgw.server.codec import card_data_refusal
from pgw.settings import Settings

access = logging.getLogger("pgw.access")

ONE_IN = 100
"""At log level info one successful answer in so many is logged; each line costs as much as a database row."""

SERVER_FAULT = 500

KEY_HEADER = "x-internal-api-key"
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_IDEMPOTENCY_KEY = re.compile(r"[\x20-\x7e]{1,255}")
_ACTOR = re.compile(r"[\x20-\x7e]{1,64}")


def house_of(request: Request) -> House:
    """Return the opened world of this process."""
    house: House = request.app.ctx.house
    return house


async def identify(request: Request) -> None:
    """Give the request its id, and refuse card data outside the body; runs before every route."""
    house = house_of(request)
    request.ctx.began = house.world.clock.elapsed()
    given = request.headers.get("x-request-id", "")
    request.ctx.request_id = uuid7(house.world.clock.now(), house.world.rng)
    if _holds_card_data(request.raw_url) or _holds_card_data(given.encode("utf-8", "replace")):
        raise card_data_refusal()
    if _REQUEST_ID.fullmatch(given):
        request.ctx.request_id = given


async def label(request: Request, response: BaseHTTPResponse) -> None:
    """Put the request's id on its answer and log it; while draining, end the connection for the stop's sake."""
    response.headers["X-Request-Id"] = getattr(request.ctx, "request_id", "")
    _log(request, response)
    if request.app.ctx.draining and isinstance(request.stream, Http):
        request.stream.keep_alive = False


def _log(request: Request, response: BaseHTTPResponse) -> None:
    """Log answers: all at debug, faults and a sample at info; the route's pattern, never its values."""
    sampled = response.status >= SERVER_FAULT or random.random() < 1 / ONE_IN  # noqa: S311  # a sample, no secret
    level = logging.INFO if sampled else logging.DEBUG
    if not access.isEnabledFor(level):
        return
    route = request.route.path if request.route else "-"
    now = house_of(request).world.clock.elapsed()
    took_ms = (now - getattr(request.ctx, "began", now)) * 1000
    access.log(level, "%s /%s %d %.1f ms %s", request.method, route, response.status, took_ms, request.ctx.request_id)


def _holds_card_data(raw: bytes) -> bool:
    """Search a path, query or header, also percent-decoded."""
    if not card_data.may_hold_card_data(raw) and b"%" not in raw:
        return False
    text = raw.decode("utf-8", "replace")
    return any(card_data.in_text(form) for form in (text, unquote(text), unquote(text.replace("+", " "))))


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
    if card_data.in_text(key):
        raise card_data_refusal()
    return key


def admin(request: Request) -> str:
    """Let only the admin key pass; return the actor as claimed."""
    _check_key(request, house_of(request).settings)
    actor = request.headers.get("x-actor", "")
    return actor if _ACTOR.fullmatch(actor) and not card_data.in_text(actor) else "unknown"


def merchant(request: Request) -> None:
    """Let merchants pass: keyless on a loopback bind in development, else with the admin key."""
    settings = house_of(request).settings
    if settings.production or not settings.on_loopback:
        _check_key(request, settings)


reader = merchant
"""Who may read what concerns no merchant; the same rule today, another one once merchants have keys."""


def _check_key(request: Request, settings: Settings) -> None:
    given = request.headers.get(KEY_HEADER, "").encode("utf-8", "replace")
    if not given:
        raise PgwError(Code.UNAUTHORIZED, "send the admin key as X-Internal-Api-Key")
    # Every key is compared, whatever the first comparisons say: the time tells nothing.
    if not any([hmac.compare_digest(given, key.encode()) for key in settings.admin_keys]):  # noqa: C419
        raise PgwError(Code.FORBIDDEN, "this admin key is not valid here")


def admit(request: Request) -> None:
    """Refuse new payments while draining."""
    if request.app.ctx.draining:
        raise PgwError(Code.DRAINING, "this server is stopping: nothing was charged, try again", retry_after_s=1)
