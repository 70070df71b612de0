"""A gateway's or method's name as it came in -> what it names, or a refusal that says what there is."""

from difflib import get_close_matches

from pgw.core.errors import Code, PgwError
from pgw.core.payment.payment import Method
from pgw.core.routing.gateway import GatewayConfig
from pgw.core.routing.plan import Snapshot


def gateway_named(snapshot: Snapshot, name: str) -> GatewayConfig:
    """Return the gateway of exactly this name; the refusal suggests the one that may have been meant."""
    gateway = snapshot.gateway(name)
    if gateway is not None:
        return gateway
    near = get_close_matches(name.lower(), [each.gateway_id for each in snapshot.gateways], n=1)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    raise PgwError(Code.NOT_FOUND, f"there is no such gateway{hint}; GET /gateways lists them")


def method_named(name: str) -> Method:
    """Return the payment method of this name, in whatever case it came."""
    try:
        return Method(name.upper())
    except ValueError:
        raise PgwError(Code.METHOD_NOT_SUPPORTED, f"the payment method must be one of {', '.join(Method)}") from None
