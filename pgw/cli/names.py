"""A name as typed -> the thing it names, or a refusal that suggests what was meant."""

from collections.abc import Iterable, Mapping
from typing import Any

from pgw.cli.client import Client
from pgw.cli.exits import CommandError, Exit


def unknown(kind: str, name: str, known: Iterable[str]) -> CommandError:
    """Return the refusal of a name nobody has, with the nearest one that somebody has."""
    from difflib import get_close_matches  # noqa: PLC0415  # only a mistake pays for it

    names = sorted(known)
    near = get_close_matches(name.lower(), names, n=1)
    others = f"there are {', '.join(names)}" if names else "there are none"
    hint = f"did you mean '{near[0]}'?" if near else others
    return CommandError(Exit.NOT_FOUND, f"{kind} '{name}' does not exist ({hint})")


def gateway_named(name: str, api: Client) -> Mapping[str, Any]:
    """Return the configuration of one gateway."""
    gateways = {each["gateway_id"]: each for each in api.get("/gateways")["items"]}
    if name not in gateways:
        raise unknown("gateway", name, gateways)
    return gateways[name]  # type: ignore[no-any-return]


def words_of(listed: str) -> list[str]:
    """Read a comma-separated list of upper-case words, as methods and currencies are."""
    return [word.strip().upper() for word in listed.split(",") if word.strip()]
