"""Runtime -> the loops a serving process runs beside its requests."""

from pgw.assembly import Runtime
from pgw.core.flow.metrics.consume import COUNT_EVERY_S
from pgw.core.flow.money.invariant_check import AUDIT_EVERY_S
from pgw.core.flow.runtime.merchant_keys import KEYS_EVERY_S
from pgw.core.flow.runtime.refresh import BREAKERS_EVERY_S, PUBLISH_EVERY_S, REFRESH_EVERY_S
from pgw.core.flow.runtime.snapshot import CONFIGURATION_EVERY_S
from pgw.core.flow.verification.late_capture import monitor_due
from pgw.core.flow.verification.verify import verify_due
from pgw.core.flow.verification.webhooks import HANDLE_EVERY_S, handle_waiting
from pgw.core.ledger.engine.ledger import CHECKPOINT_EVERY_S
from pgw.workers.loop import Loop
from pgw.workers.metrics import EventPipeline, open_pipeline

VERIFY_EVERY_S = 0.5
"""How often due checks are polled for; the first check of an unknown payment is due two seconds after its end."""

MONITOR_EVERY_S = 2.0
"""How often due late-capture monitors are polled for; a reversal that became due waits no longer than that."""


def refresher(runtime: Runtime) -> Loop:
    """Read the hot state and write this process's heartbeat."""
    return Loop("refresher", REFRESH_EVERY_S, runtime.refresher.beat, runtime.clock)


def verification(runtime: Runtime) -> tuple[Loop, ...]:
    """Enquire about unknown outcomes, monitor late captures, and check the money invariants."""
    return (
        Loop("verify", VERIFY_EVERY_S, lambda: verify_due(runtime), runtime.clock),
        Loop("watch", MONITOR_EVERY_S, lambda: monitor_due(runtime), runtime.clock),
        Loop("invariants", AUDIT_EVERY_S, runtime.invariant_check.step, runtime.clock),
    )


def pipeline_of(runtime: Runtime) -> EventPipeline:
    """Build this process's event pipeline."""
    return open_pipeline(
        runtime.settings, runtime.ledger, runtime.ledger_id, runtime.hot, runtime.clock, runtime.process
    )


def loops(runtime: Runtime, pipeline: EventPipeline, *, workers: bool) -> tuple[Loop, ...]:
    """List them; `workers` adds the work that any process may do for all.

    Counts into an in-process hot state are made in any case: no other process can make them.
    """
    clock = runtime.clock
    always = [
        Loop("snapshot", CONFIGURATION_EVERY_S, runtime.snapshots.refresh, clock),
        Loop("keys", KEYS_EVERY_S, runtime.merchant_keys.refresh, clock),
        refresher(runtime),
        Loop("breakers", BREAKERS_EVERY_S, runtime.refresher.step_breakers, clock),
        Loop("breaker-log", PUBLISH_EVERY_S, lambda: runtime.circuit.transition_log.publish(runtime.ledger), clock),
    ]
    if runtime.settings.on_sqlite:
        always.append(Loop("checkpoint", CHECKPOINT_EVERY_S, runtime.ledger.checkpoint, clock))
    if workers:
        always.append(Loop("webhooks", HANDLE_EVERY_S, lambda: handle_waiting(runtime), clock))
        always += [*pipeline.loops(), *verification(runtime)]
    elif runtime.hot.stream is None:
        always.append(Loop("metrics", COUNT_EVERY_S, pipeline.counter.step, clock))
    if runtime.hot.stream is None:
        runtime.refresher.count_alone(lambda: pipeline.caught_up)
    return tuple(always)
