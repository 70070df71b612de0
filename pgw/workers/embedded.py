"""House -> the loops a serving process runs beside its requests."""

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
"""How often due checks are looked for; the first check of an unknown payment is due two seconds after its end."""

WATCH_EVERY_S = 2.0
"""How often due watches are looked for; a reversal that a verifier found to be due waits no longer than that."""


def refresher(runtime: Runtime) -> Loop:
    """Look at the hot state, and say that this process lives."""
    return Loop("refresher", REFRESH_EVERY_S, runtime.refresher.beat, runtime.deps.clock)


def verification(runtime: Runtime) -> tuple[Loop, ...]:
    """Ask about what nobody knows the end of, watch what must not capture, and check that the money is right."""
    deps = runtime.deps
    return (
        Loop("verify", VERIFY_EVERY_S, lambda: verify_due(deps), deps.clock),
        Loop("watch", WATCH_EVERY_S, lambda: monitor_due(deps), deps.clock),
        Loop("invariants", AUDIT_EVERY_S, runtime.invariant_check.step, deps.clock),
    )


def pipeline_of(runtime: Runtime) -> EventPipeline:
    """Build this house's own way of events back to the metrics."""
    deps = runtime.deps
    return open_pipeline(runtime.settings, runtime.ledger, deps.ledger_id, runtime.hot, deps.clock, runtime.process)


def loops(runtime: Runtime, line: EventPipeline, *, workers: bool) -> tuple[Loop, ...]:
    """List them; `workers` adds the work that any process may do for all.

    What a process counts for itself alone it counts in any case: nobody else can do it.
    """
    clock = runtime.deps.clock
    always = [
        Loop("snapshot", CONFIGURATION_EVERY_S, runtime.snapshots.refresh, clock),
        Loop("keys", KEYS_EVERY_S, runtime.merchant_keys.refresh, clock),
        refresher(runtime),
        Loop("breakers", BREAKERS_EVERY_S, runtime.refresher.step_breakers, clock),
        Loop("breaker-log", PUBLISH_EVERY_S, lambda: runtime.circuit.publish(runtime.ledger), clock),
    ]
    if runtime.settings.on_sqlite:
        always.append(Loop("checkpoint", CHECKPOINT_EVERY_S, runtime.ledger.checkpoint, clock))
    if workers:
        always.append(Loop("webhooks", HANDLE_EVERY_S, lambda: handle_waiting(runtime.deps), clock))
        always += [*line.loops(), *verification(runtime)]
    elif runtime.hot.stream is None:
        always.append(Loop("metrics", COUNT_EVERY_S, line.counter.step, clock))
    if runtime.hot.stream is None:
        runtime.refresher.count_alone(lambda: line.caught_up)
    return tuple(always)
