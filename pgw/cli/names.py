"""A name as typed -> the thing it names, or a refusal that suggests what was meant."""

from collections.abc import Iterable, Mapping
from typing import Any

from pgw.cli.exits import CommandError, Exit
from pgw.cli.transport.client import ApiClient


def unknown(kind: str, name: str, known: Iterable[str]) -> CommandError:
    """Return the refusal of an unknown name, with the nearest known one."""
    names = sorted(known)
    near = nearest(name.lower(), names)
    others = f"there are {', '.join(names)}" if names else "there are none"
    hint = f"did you mean '{near}'?" if near else others
    return CommandError(Exit.NOT_FOUND, f"{kind} '{name}' does not exist ({hint})")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the name that was probably meant."""
    from difflib import get_close_matches  # noqa: PLC0415  # only a mistake pays for it

    return next(iter(get_close_matches(name, list(known), n=1)), None)


def gateway_named(name: str, api: ApiClient) -> Mapping[str, Any]:
    """Return the configuration of one gateway."""
    gateways = {each["gateway_id"]: each for each in api.get("/gateways")["items"]}
    if name not in gateways:
        raise unknown("gateway", name, gateways)
    return gateways[name]  # type: ignore[no-any-return]


def breaker_named(gateway: str, method: str | None, api: ApiClient) -> Mapping[str, Any]:
    """Return the configuration of a breaker's gateway; a method that it does not take is wrong usage."""
    found = gateway_named(gateway, api)
    taken = found["supported_methods"]
    if method is not None and method not in taken:
        hint = nearest(method, taken)
        suggestion = f", did you mean {hint}?" if hint else ""
        raise CommandError(Exit.USAGE, f"{gateway} does not take {method} (it takes {', '.join(taken)}{suggestion})")
    return found


def reason_text(listed: str) -> list[str]:
    """Read a comma-separated list of upper-case words, as methods and currencies are."""
    return [word.strip().upper() for word in listed.split(",") if word.strip()]
