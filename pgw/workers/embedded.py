"""House -> the loops a serving process runs beside its requests."""

from pgw.assembly import House
from pgw.core.flow.snapshot import REFRESH_EVERY_S
from pgw.core.flow.verify import verify_due
from pgw.core.ledger.ledger import CHECKPOINT_EVERY_S
from pgw.workers.loop import Loop

VERIFY_EVERY_S = 0.5
"""How often due checks are looked for; the first check of an unknown payment is due two seconds after its end."""


def loops(house: House, *, workers: bool) -> tuple[Loop, ...]:
    """List them; `workers` adds the work that any process may do for all."""
    clock = house.world.clock
    always = [Loop("snapshot", REFRESH_EVERY_S, house.snapshots.refresh, clock)]
    if house.settings.on_sqlite:
        always.append(Loop("checkpoint", CHECKPOINT_EVERY_S, house.ledger.checkpoint, clock))
    if workers:
        always.append(Loop("verify", VERIFY_EVERY_S, lambda: verify_due(house.world), clock))
    return tuple(always)
