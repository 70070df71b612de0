"""Routing decision -> why: what was chosen, by how much, through which terms, and whether it comes out so again."""

from pgw.cli.exits import Exit
from pgw.cli.views.ranking import COLUMNS, advantage_of, excluded_lines, ranked_rows
from pgw.cli.views.screen import Row, Screen, plain
from pgw.cli.views.timeline import timestamp
from pgw.core.payment.currency import amount_text

INPUT_COLUMNS = (
    plain("rate", right=True),
    plain("p95_ms", right=True),
    plain("calls", right=True),
)
"""The health that two of the terms come from: what one asks next after seeing the terms."""


def explanation(decision: Row, gateway_used: str | None) -> Screen:
    """Explain a decision; its exit code says whether a recomputation agrees with it."""
    ranked = ranked_rows(decision["ranked"])
    rows = [{**row, **_health(row)} for row in ranked]
    verdict, exit_code = _recomputed(decision.get("recomputed"))
    return Screen(
        document=decision,
        columns=(*COLUMNS, *INPUT_COLUMNS),
        rows=rows,
        names=(decision["selected_gateway"],),
        above=(*_situation(decision), *_choice(decision, gateway_used)),
        below=(
            *excluded_lines(decision["excluded"]),
            *_breakers(decision.get("standings") or {}),
            *_circumstances(decision),
            verdict,
        ),
        exit_code=exit_code,
    )


def _health(row: Row) -> dict[str, object]:
    inputs = row["inputs"]
    return {
        "rate": f"{inputs['success_rate']:.4f}",
        "p95_ms": f"{inputs['latency_p95_ms']:.0f}",
        "calls": f"{inputs['observations']:.0f}",
    }


def _situation(decision: Row) -> list[str]:
    lines = [f"payment     {decision['payment_id']}"]
    context = decision.get("context")
    if context:
        amount = amount_text(context["amount_minor"], context["currency"])
        lines[0] += f": {amount} by {context['payment_method']}, issuing bank {context['issuing_bank']}"
    return lines


def _choice(decision: Row, gateway_used: str | None) -> list[str]:
    chosen, ranked = decision["selected_gateway"], decision["ranked"]
    lines = [f"chosen      {chosen} with {decision['selected_score']:.4f}, by {decision['strategy']}"]
    if len(ranked) > 1:
        lines.append(f"            {advantage_of(*ranked[:2])}")
    else:
        lines.append("            the only candidate")
    if decision.get("experiment"):
        arm = decision["experiment"]
        lines.append(f"experiment  {arm['experiment_id']}, variant {arm['variant']}")
    if gateway_used not in {None, chosen}:
        way = f"pgw payment show {decision['payment_id']}"
        lines.append(f"            used in the end: {gateway_used}, by fallback ({way})")
    return lines


def _breakers(standings: Row) -> list[str]:
    """Name the breakers that were not simply closed, and what they let through."""
    lines = []
    for gateway_id, known in sorted(standings.items()):
        share = f", coming back with {known['admission']:.0%} of its payments" if known["admission"] < 1 else ""
        lines.append(f"breaker     {gateway_id}: {known['state']}{share}")
    return lines


def _circumstances(decision: Row) -> list[str]:
    lines = []
    policy = decision.get("policy")
    if policy:
        allowed = policy["max_attempts"] if policy["enabled"] else 1
        budget = policy["latency_budget_ms"]
        attempts = "1 attempt" if allowed == 1 else f"at most {allowed} attempts"
        lines.append(f"policy      of {policy['merchant_id']}: {attempts} within {budget} ms")
    state = "degraded: it knew only an old state" if decision["degraded"] else "not degraded"
    when = timestamp(decision["decided_at"])
    lines.append(f"decided     {when} on configuration {decision['config_version']}, seed {decision['seed']}, {state}")
    return lines


def _recomputed(recomputed: Row | None) -> tuple[str, Exit]:
    if recomputed is None:
        return "recomputed: not done by this server", Exit.GATE
    if recomputed["identical"]:
        return "recomputed: identical", Exit.DONE
    return f"recomputed: DIFFERENT at {', '.join(recomputed['differences'])}", Exit.GATE
