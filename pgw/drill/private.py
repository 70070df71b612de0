"""A ledger's configuration -> a private copy of it: what a drill is about, and nothing that is anybody's."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from msgspec import structs

from pgw.core.errors import Code, PgwError
from pgw.core.ledger.configuration import BANKS, GATEWAY, RAZORPAY, RETRY_POLICY, SANDBOX_GATEWAYS, SCORING, SEED
from pgw.core.payment.payment import Card, Client, Customer, Instrument, Method, Netbanking, PaymentRequest, Upi
from pgw.core.routing.context import make_context
from pgw.core.routing.gateway import GatewayConfig
from pgw.core.routing.plan import Snapshot, make_plan
from pgw.drill.scenario import Timing, scaled_rules, scaled_timeout_ms

USUAL_AMOUNT_MINOR = 10_000
MERCHANT = "drill"

INSTRUMENTS: dict[Method, Instrument] = {
    Method.UPI: Upi(),
    Method.CARD: Card(token="tok_drill"),  # noqa: S106  # no secret: no gateway takes it
    Method.NETBANKING: Netbanking(bank_code="DRILL"),
}
CUSTOMER = Customer(email="drill@example.com", contact="+910000000000")
CLIENT = Client(ip="127.0.0.1", user_agent="pgw drill", referer="https://drill.example")


NEW = 0
"""Version of a configuration that was never changed."""


def as_served(configuration: Snapshot | None, now: datetime) -> Snapshot:
    """Return the configuration payments would meet: one never changed is the seed's, once it is served."""
    return seed(now) if configuration is None or configuration.config_version == len(SEED) else configuration


def seed(now: datetime) -> Snapshot:
    """Return what a new development ledger holds once it is served: its sandbox gateways are enabled."""
    sandboxes = (structs.replace(each, is_enabled=True) for each in SANDBOX_GATEWAYS)
    return Snapshot(config_version=NEW, as_of=now, gateways=(RAZORPAY, *sandboxes))


def copy_of(configuration: Snapshot, timing: Timing, timeout_ms: int) -> Snapshot:
    """Copy gateways, routing, banks and policies; orders of the day (overrides, a pause) are not part of it.

    `timeout_ms`: an attempt's time where its gateway names none.
    """
    return structs.replace(
        configuration,
        gateways=tuple(_double_of(each, timing, timeout_ms) for each in configuration.gateways),
        scoring=structs.replace(
            configuration.scoring, breaker=scaled_rules(configuration.scoring.breaker, timing.breakers_by)
        ),
        unavailable={},
        overrides={},
        paused=None,
        health={},
        views={},
    )


def subjects(copy: Snapshot) -> Iterable[tuple[str, Any]]:
    """List what is to be written into the private ledger."""
    yield SCORING, copy.scoring
    yield BANKS, copy.banks
    yield from ((RETRY_POLICY + merchant_id, policy) for merchant_id, policy in copy.policies.items())
    yield from ((GATEWAY + each.gateway_id, each) for each in copy.gateways)


def request_for(gateway: GatewayConfig) -> PaymentRequest:
    """Make a payment that this gateway takes."""
    methods = sorted(gateway.supported_methods, key=list(Method).index)
    currencies = gateway.supported_currencies
    return PaymentRequest(
        amount_minor=min(max(USUAL_AMOUNT_MINOR, gateway.min_amount_minor), gateway.max_amount_minor),
        currency="INR" if "INR" in currencies else currencies[0],
        payment_method=methods[0],
        merchant_id=MERCHANT,
        customer_id=MERCHANT,
        instrument=INSTRUMENTS[methods[0]],
        customer=CUSTOMER,
        client=CLIENT,
    )


def target(copy: Snapshot, named: str | None, now: datetime) -> tuple[str, PaymentRequest, int]:
    """Choose the gateway to drill: the one named, else the first in the plan; with a payment, and who else takes it.

    Raises:
        PgwError: there is no such gateway, or none that takes payments.
    """
    enabled = [each for each in copy.gateways if each.is_enabled]
    chosen = next((each for each in copy.gateways if each.gateway_id == named), None)
    if named is not None and chosen is None:
        there_are = ", ".join(each.gateway_id for each in copy.gateways)
        raise PgwError(Code.NOT_FOUND, f"gateway '{named}' does not exist; there are {there_are}")
    if chosen is not None and not chosen.is_enabled:
        way_out = f"enable it with 'pgw gateway enable {chosen.gateway_id}', or name another"
        raise PgwError(
            Code.CONFLICT, f"gateway '{chosen.gateway_id}' is disabled, no payment could leave it: {way_out}"
        )
    if not enabled:
        raise PgwError(Code.NO_GATEWAY_AVAILABLE, "no gateway is enabled: enable one with 'pgw gateway enable NAME'")
    request = request_for(chosen or enabled[0])
    ranked = make_plan(make_context(request, now, copy.banks), copy, 0, now).ranked
    gateway_id = chosen.gateway_id if chosen is not None else ranked[0].gateway_id if ranked else enabled[0].gateway_id
    return gateway_id, request, sum(each.gateway_id != gateway_id for each in ranked)


def _double_of(gateway: GatewayConfig, timing: Timing, timeout_ms: int) -> GatewayConfig:
    own_ms = gateway.timeout_ms or timeout_ms
    return structs.replace(
        gateway,
        is_sandbox=True,
        sandbox={},
        timeout_ms=gateway.timeout_ms if timing.attempts_by == 1 else scaled_timeout_ms(own_ms, timing.attempts_by),
    )
