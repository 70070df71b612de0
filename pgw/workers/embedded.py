"""House -> the loops a serving process runs beside its requests."""

from pgw.assembly import House
from pgw.core.flow.metrics.consume import COUNT_EVERY_S
from pgw.core.flow.money.invariant_check import AUDIT_EVERY_S
from pgw.core.flow.runtime.merchant_keys import KEYS_EVERY_S
from pgw.core.flow.runtime.refresh import BREAKERS_EVERY_S, PULSE_EVERY_S, TELL_EVERY_S
from pgw.core.flow.runtime.snapshot import REFRESH_EVERY_S
from pgw.core.flow.verification.late_capture import watch_due
from pgw.core.flow.verification.verify import verify_due
from pgw.core.flow.verification.webhooks import HANDLE_EVERY_S, handle_waiting
from pgw.core.ledger.engine.ledger import CHECKPOINT_EVERY_S
from pgw.workers.loop import Loop
from pgw.workers.metrics import LineBack, open_line_back

VERIFY_EVERY_S = 0.5
"""How often due checks are looked for; the first check of an unknown payment is due two seconds after its end."""

WATCH_EVERY_S = 2.0
"""How often due watches are looked for; a reversal that a verifier found to be due waits no longer than that."""


def pulse(house: House) -> Loop:
    """Look at the hot state, and say that this process lives."""
    return Loop("pulse", PULSE_EVERY_S, house.pulse.beat, house.world.clock)


def verification(house: House) -> tuple[Loop, ...]:
    """Ask about what nobody knows the end of, watch what must not capture, and check that the money is right."""
    world = house.world
    return (
        Loop("verify", VERIFY_EVERY_S, lambda: verify_due(world), world.clock),
        Loop("watch", WATCH_EVERY_S, lambda: watch_due(world), world.clock),
        Loop("invariants", AUDIT_EVERY_S, house.auditor.step, world.clock),
    )


def line_back_of(house: House) -> LineBack:
    """Build this house's own way of events back to the metrics."""
    world = house.world
    return open_line_back(house.settings, house.ledger, world.ledger_id, house.hot, world.clock, house.process)


def loops(house: House, line: LineBack, *, workers: bool) -> tuple[Loop, ...]:
    """List them; `workers` adds the work that any process may do for all.

    What a process counts for itself alone it counts in any case: nobody else can do it.
    """
    clock = house.world.clock
    always = [
        Loop("snapshot", REFRESH_EVERY_S, house.snapshots.refresh, clock),
        Loop("keys", KEYS_EVERY_S, house.keyring.refresh, clock),
        pulse(house),
        Loop("breakers", BREAKERS_EVERY_S, house.pulse.turn_breakers, clock),
        Loop("breaker-log", TELL_EVERY_S, lambda: house.circuit.tell(house.ledger), clock),
    ]
    if house.settings.on_sqlite:
        always.append(Loop("checkpoint", CHECKPOINT_EVERY_S, house.ledger.checkpoint, clock))
    if workers:
        always.append(Loop("webhooks", HANDLE_EVERY_S, lambda: handle_waiting(house.world), clock))
        always += [*line.loops(), *verification(house)]
    elif house.hot.stream is None:
        always.append(Loop("metrics", COUNT_EVERY_S, line.counter.step, clock))
    if house.hot.stream is None:
        house.pulse.count_alone(lambda: line.caught_up)
    return tuple(always)
