"""What an operator orders -> its reason and its end, checked, and how many processes have heard of it."""

import msgspec
from msgspec import Struct
from sanic import Request

from pgw.assembly import Runtime
from pgw.core.breakers.override import DEFAULT_TTL_S, UNSPECIFIED, Reason, TtlSeconds
from pgw.core.errors import Code, FieldError, PgwError
from pgw.core.payment.payment import is_clean
from pgw.server.http.codec import invalid, read_body

HEARD_WITHIN_S = 1.0
"""How long an answer waits for every process to know of an order; it holds in those that do, whoever is missing."""

ASKED_EVERY_S = 0.02


class CommandBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why, and for how long. Production wants a reason for what is forced or paused."""

    reason: Reason | None = None
    ttl_seconds: TtlSeconds = DEFAULT_TTL_S


class EndCommandBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why something is ended."""

    reason: Reason | None = None


class FleetReach(Struct, frozen=True):
    """How many of the live processes that take payments know of an order."""

    processes: int
    of: int


class CommandReach(FleetReach, frozen=True):
    """How many of the live processes that take payments know of an order, and how long the answer waited for them."""

    waited_ms: int


_ORDER = msgspec.json.Decoder(CommandBody)
_END = msgspec.json.Decoder(EndCommandBody)


def read_command(request: Request) -> CommandBody:
    """Read an order's body; without one everything has its default."""
    body = read_body(request, _ORDER) if request.body else CommandBody()
    _check(body.reason)
    return body


def read_end(request: Request) -> EndCommandBody:
    """Read the body of an order that ends another."""
    body = read_body(request, _END) if request.body else EndCommandBody()
    _check(body.reason)
    return body


def _check(reason: str | None) -> None:
    if reason is not None and not is_clean(reason):
        raise invalid(FieldError("/reason", "must be printable and not only white space"))


def reason_of(runtime: Runtime, body: CommandBody) -> str:
    """Return the reason an order is kept with; whoever asks for the order later must find one in production."""
    if body.reason is None and runtime.settings.production:
        raise PgwError(Code.REASON_REQUIRED, 'production wants a reason: send {"reason": "..."}; nothing was changed')
    return body.reason or UNSPECIFIED


def fleet_reach(runtime: Runtime, version: int) -> FleetReach:
    """Count the processes that have this version of the configuration, as far as this one knows."""
    fleet = runtime.fleet()
    return FleetReach(sum(each.config_version >= version for each in fleet), len(fleet))


async def reached(runtime: Runtime, version: int) -> CommandReach:
    """Wait until every live process has this version of the configuration, but not long; return how many have."""
    clock = runtime.clock
    began = clock.elapsed()
    while True:
        known = fleet_reach(runtime, version)
        waited_s = clock.elapsed() - began
        if known.processes == known.of or waited_s >= HEARD_WITHIN_S:
            return CommandReach(known.processes, known.of, round(waited_s * 1000))
        await clock.sleep(ASKED_EVERY_S)
