"""A stored plan -> whether deciding again, with the configuration of its time, gives the same plan."""

from typing import Any

from msgspec import Struct, to_builtins

from pgw.core.flow.runtime.snapshot import replayed
from pgw.core.ledger.configuration import as_of
from pgw.core.ports import Dependencies
from pgw.core.routing.plan import Plan, recompute


class Recomputed(Struct, frozen=True):
    """The result of deciding again; `differences` are JSON pointers into the plan."""

    identical: bool
    differences: tuple[str, ...]


async def recomputed(deps: Dependencies, plan: Plan) -> Recomputed:
    """Decide again from the plan's own inputs; a difference means that code or ledger changed since."""
    changes = await deps.ledger.read(as_of, plan.config_version)
    again = recompute(plan, replayed(changes, deps.clock.now()))
    differences = tuple(_differences(to_builtins(plan), to_builtins(again), ""))
    return Recomputed(not differences, differences)


def _differences(before: Any, after: Any, pointer: str) -> list[str]:
    if isinstance(before, dict) and isinstance(after, dict) and before.keys() == after.keys():
        return [each for key in before for each in _differences(before[key], after[key], f"{pointer}/{key}")]
    if isinstance(before, list | tuple) and isinstance(after, list | tuple) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [each for place, (one, two) in pairs for each in _differences(one, two, f"{pointer}/{place}")]
    return [] if before == after else [pointer]
