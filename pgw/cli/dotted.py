"""The scoring document, NAME=VALUE -> the document as it would be: dotted names, and weights that stay one whole."""

import json
from collections.abc import Iterator, Mapping, Sequence
from math import fsum
from typing import Any

from pgw.cli.exits import CommandError, Exit
from pgw.cli.names import nearest
from pgw.cli.views.screen import Row

TABLES = {
    "method_affinity": ("GATEWAY", "METHOD"),
    "amount_fit": ("GATEWAY", "BAND"),
    "time": ("GATEWAY",),
}
"""Members that are tables: they hold what operators set, so an entry that is not there may still be named."""

WHOLE = 1.0
EXACT = 1e-9
"""How near to 1 the weights must add up, as the server checks it."""


def flat(document: Row, prefix: str = "") -> dict[str, Any]:
    """Return every member that has a value, by its dotted name; a gateway's time rules are one value."""
    found: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def under(document: Row, name: str) -> dict[str, Any]:
    """Return what a name stands for: one value, all that is under it, or None for an entry that is not set."""
    steps = steps_of(document, name)
    dotted = ".".join(steps)
    whole = flat(document)
    found = {each: value for each, value in whole.items() if f"{each}.".startswith(f"{dotted}.")}
    return found or ({} if len(steps) == 1 else {dotted: None})


def steps_of(document: Row, name: str) -> list[str]:
    """Take a name apart. Raises CommandError for one that is no member, with what was probably meant."""
    steps = name.split(".")
    columns = TABLES.get(steps[0])
    if columns is not None and all(steps) and len(steps) <= len(columns) + 1:
        return [*steps[:2], *(_key(steps[0], each) for each in steps[2:])]
    place: Any = document
    for step in steps:
        if not isinstance(place, Mapping) or step not in place:
            raise _unknown(document, name)
        place = place[step]
    return steps


def _key(table: str, key: str) -> str:
    """Check the second key of a table: a typo there would set what no payment ever asks for."""
    from pgw.core.payment.payment import Method  # noqa: PLC0415
    from pgw.core.routing.context import SizeBand  # noqa: PLC0415  # msgspec

    known = [each.value for each in (Method if table == "method_affinity" else SizeBand)]
    written = key.upper() if table == "method_affinity" else key.lower()
    if written not in known:
        raise CommandError(Exit.USAGE, f"{table} has no '{key}': there are {', '.join(known)}")
    return written


def _unknown(document: Row, name: str) -> CommandError:
    known = [*flat(document), *document, *(".".join((table, *columns)) for table, columns in TABLES.items())]
    near = nearest(name, known)
    hint = f"did you mean '{near}'?" if near else f"there are {', '.join(document)}"
    return CommandError(Exit.USAGE, f"there is no setting '{name}' ({hint})")


def assigned(document: Row, assignments: Sequence[str]) -> dict[str, Any]:
    """Return the document with each NAME=VALUE in it; `null` takes an entry out of a table."""
    fresh: dict[str, Any] = json.loads(json.dumps(document))
    weights: dict[str, float] = {}
    for steps, value in _parsed(document, assignments):
        if steps[0] == "weights" and len(steps) > 1:
            weights[steps[1]] = _number(".".join(steps), value)
        else:
            _put(fresh, steps, value)
    if weights:
        fresh["weights"] = rescaled(fresh["weights"], weights)
    return fresh


def _parsed(document: Row, assignments: Sequence[str]) -> Iterator[tuple[list[str], Any]]:
    for each in assignments:
        name, equals, text = each.partition("=")
        if not equals:
            raise CommandError(Exit.USAGE, f"'{each}' is not NAME=VALUE, such as weights.success=0.4")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        yield steps_of(document, name.strip()), value


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= WHOLE:
        raise CommandError(Exit.USAGE, f"{name} must be a number from 0 to 1")
    return float(value)


def _put(document: dict[str, Any], steps: Sequence[str], value: object) -> None:
    place = document
    for step in steps[:-1]:
        place = place.setdefault(step, {})
    if value is None and steps[0] in TABLES and len(steps) > 1:
        place.pop(steps[-1], None)
    else:
        place[steps[-1]] = value


def rescaled(weights: Mapping[str, float], given: Mapping[str, float]) -> dict[str, float]:
    """Give some weights their new values and shrink or grow the others in proportion, so that they add up to 1."""
    if all(weights[name] == value for name, value in given.items()):
        return dict(weights)
    others = {name: weight for name, weight in weights.items() if name not in given}
    left, total = WHOLE - fsum(given.values()), fsum(others.values())
    if left < -EXACT:
        raise CommandError(Exit.USAGE, "the weights given add up to more than 1")
    if not total and left > EXACT:
        raise CommandError(Exit.USAGE, "the weights given add up to less than 1, and no other has any weight to grow")
    factor = max(left, 0.0) / total if total else 0.0
    return {name: given[name] if name in given else weight * factor for name, weight in weights.items()}
