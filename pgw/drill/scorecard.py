"""What a drill saw: answers, calls, the ledger's end and the doubles' book -> its scorecard, by arithmetic alone."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import ceil

from msgspec import Struct

from pgw.core.gateways.book import BookStatus, Charge
from pgw.core.payment.payment import Status
from pgw.drill.scenario import DrillKind

REFUSED = "REFUSED"
"""Status of an answer that was no payment: nothing was charged, the key is free."""

BACK = 0.9
"""Part of its calm share at which a gateway counts as back."""

LEFT_BEFORE_S = 0.3
"""A gateway still called this shortly before it was healed had not been left."""

OWN_COURSE = "CLOSED"
"""State of the breaker at a call that was neither a probe nor a last resort."""


class PaymentAnswer(Struct, frozen=True, kw_only=True):
    """One payment as its client saw it; `at` is epoch seconds, `degraded` how the server then decided."""

    payment_id: str | None
    status: str
    at: float
    took_ms: float
    degraded: bool = False


class Call(Struct, frozen=True, kw_only=True):
    """One attempt of the ledger; `at` is epoch seconds."""

    payment_id: str
    number: int
    gateway_id: str
    breaker: str
    at: float


class Span(Struct, frozen=True, kw_only=True):
    """When, in epoch seconds: the calm began, the fault was there, it was healed, the load ended."""

    calm: float
    fault: float
    heal: float
    end: float


class LatencySummary(Struct, frozen=True):
    """Time to answer of the payments of one phase, in ms; None where there were none."""

    payments: int
    p50_ms: float | None
    p99_ms: float | None


class Storm(Struct, frozen=True, kw_only=True):
    """What became of the webhooks: kept once, known already, refused as forged; `wrong` were answered otherwise."""

    sent: int = 0
    kept: int = 0
    duplicates: int = 0
    refused: int = 0
    wrong: int = 0


class Observations(Struct, frozen=True, kw_only=True):
    """All that one drill saw. `ends`: payment id to the status at the very end. `opened`: whether its breaker did."""

    kind: DrillKind
    gateway_id: str | None
    span: Span
    bucket_s: float
    answers: Sequence[PaymentAnswer]
    calls: Sequence[Call]
    ends: Mapping[str, str]
    charges: Sequence[Charge]
    opened: bool = False
    storm: Storm | None = None
    notes: tuple[str, ...] = ()


class Scorecard(Struct, frozen=True, kw_only=True):
    """What is shown. Seconds count from the fault (`left_after_s`) or the healing (`back_after_s`); None: not seen.

    `left_by`: `breaker`, or `score` where that fell first and the breaker stayed closed.
    `met`: payments that were sent to the gateway before it was left, or decided before the loss was noticed.
    `pending_ended`: how the payments ended that were first answered as unknown.
    """

    drill: DrillKind
    gateway_id: str | None
    verdict: str
    passed: bool
    conclusive: bool
    payments: int
    share_before: float | None
    left_after_s: float | None
    left_by: str | None
    met: int
    failed: int
    refused: int
    pending: int
    pending_ended: dict[str, int]
    back_after_s: float | None
    double_charges: int
    lost: int
    before: LatencySummary
    during: LatencySummary
    after: LatencySummary
    storm: Storm | None
    notes: tuple[str, ...]


def share(calls: Iterable[Call], gateway_id: str, begin: float, end: float) -> float | None:
    """Return the gateway's share of first attempts in a span; None where there were none."""
    firsts = [each for each in calls if each.number == 1 and begin <= each.at < end]
    return sum(each.gateway_id == gateway_id for each in firsts) / len(firsts) if firsts else None


def left_after(calls: Iterable[Call], gateway_id: str, span: Span) -> float | None:
    """Return the seconds until the last ordinary call to a gateway at fault; None when it was not left."""
    ordinary = [each.at for each in _met(calls, gateway_id, span.fault, span.heal)]
    last = max(ordinary, default=span.fault)
    return None if last > span.heal - LEFT_BEFORE_S else last - span.fault


def recovered_after(calls: Sequence[Call], gateway_id: str, span: Span, bucket_s: float) -> float | None:
    """Return when the first bucket begins in which the gateway has its calm share again, seconds after the healing."""
    calm = share(calls, gateway_id, span.calm, span.fault)
    if not calm:
        return None
    steps = int((span.end - span.heal - bucket_s) * 2)
    for begin in (span.heal + step / 2 for step in range(max(0, steps + 1))):
        now = share(calls, gateway_id, begin, begin + bucket_s)
        if now is not None and now >= BACK * calm:
            return begin - span.heal
    return None


def noticed_after(answers: Iterable[PaymentAnswer], span: Span) -> float | None:
    """Return when the first decision knew that its state was old, seconds after the fault."""
    known = [each.at for each in answers if each.degraded and span.fault <= each.at < span.heal]
    return min(known) - span.fault if known else None


def current_after(answers: Sequence[PaymentAnswer], span: Span) -> float | None:
    """Return when decisions were current again for good, seconds after the healing; None while they are not."""
    after = [each for each in answers if each.at >= span.heal]
    if not after or max(after, key=lambda each: each.at).degraded:
        return None
    return max((each.at for each in after if each.degraded), default=span.heal) - span.heal


def latency(answers: Iterable[PaymentAnswer], begin: float, end: float) -> LatencySummary:
    """Summarise the answers to payments that began in a span; percentiles by nearest rank."""
    took = sorted(each.took_ms for each in answers if begin <= each.at < end and each.status != REFUSED)
    return LatencySummary(len(took), _rank(took, 0.50), _rank(took, 0.99))


def double_charges(charges: Iterable[Charge]) -> int:
    """Count the payments of which more than one charge was kept, over all gateways."""
    return sum(kept > 1 for kept in _kept(charges).values())


def lost_payments(answers: Iterable[PaymentAnswer], ends: Mapping[str, str], charges: Iterable[Charge]) -> int:
    """Count payments whose money and record disagree at the end, and those answered that the ledger does not have.

    A success without its money, a failure whose money was kept: whatever is not settled yet is neither.
    """
    kept = _kept(charges)
    told = {each.payment_id for each in answers if each.payment_id is not None}
    missing = len((told | kept.keys()) - ends.keys())
    unpaid = sum(status == Status.SUCCESS and not kept[name] for name, status in ends.items())
    unearned = sum(status == Status.FAILURE and kept[name] > 0 for name, status in ends.items())
    return missing + unpaid + unearned


def score(seen: Observations) -> Scorecard:
    """Put everything together."""
    span, answers, gateway_id = seen.span, seen.answers, seen.gateway_id
    left = back = before = None
    met = 0
    if gateway_id is not None:
        left = left_after(seen.calls, gateway_id, span)
        met = len({each.payment_id for each in _met(seen.calls, gateway_id, span.fault, span.heal)})
        back = recovered_after(seen.calls, gateway_id, span, seen.bucket_s)
        before = share(seen.calls, gateway_id, span.calm, span.fault)
    elif seen.kind is DrillKind.REDIS_LOSS:
        left, back = noticed_after(answers, span), current_after(answers, span)
        met = sum(not each.degraded and span.fault <= each.at < span.heal for each in answers)
    since = [each for each in answers if each.at >= span.fault]
    pending = [each for each in answers if each.status not in {Status.SUCCESS, Status.FAILURE, REFUSED}]
    doubles = double_charges(seen.charges)
    lost = lost_payments(answers, seen.ends, seen.charges)
    wrong = seen.storm.wrong if seen.storm is not None else 0
    conclusive = gateway_id is None or bool(before)
    return Scorecard(
        drill=seen.kind,
        gateway_id=gateway_id,
        verdict=_verdict(doubles, lost, wrong, gateway_id if not conclusive else None),
        passed=not (doubles or lost or wrong),
        conclusive=conclusive,
        payments=len(answers),
        share_before=before,
        left_after_s=left,
        left_by=None if left is None or gateway_id is None else "breaker" if seen.opened else "score",
        met=met,
        failed=sum(each.status == Status.FAILURE for each in since),
        refused=sum(each.status == REFUSED for each in since),
        pending=len(pending),
        pending_ended=dict(Counter(seen.ends.get(each.payment_id or "", "MISSING") for each in pending)),
        back_after_s=back,
        double_charges=doubles,
        lost=lost,
        before=latency(answers, span.calm, span.fault),
        during=latency(answers, span.fault, span.heal),
        after=latency(answers, span.heal, span.end),
        storm=seen.storm,
        notes=seen.notes,
    )


def _met(calls: Iterable[Call], gateway_id: str, begin: float, end: float) -> list[Call]:
    return [
        each
        for each in calls
        if each.gateway_id == gateway_id and each.breaker == OWN_COURSE and begin <= each.at < end
    ]


def _kept(charges: Iterable[Charge]) -> Counter[str]:
    """Count the charges of each payment that were not given back."""
    kept: Counter[str] = Counter()
    for each in charges:
        kept[each.payment_id] += -1 if each.status is BookStatus.REVERSED else 1
    return kept


def _rank(took: Sequence[float], quantile: float) -> float | None:
    return round(took[ceil(quantile * len(took)) - 1], 1) if took else None


def _verdict(doubles: int, lost: int, wrong: int, idle: str | None) -> str:
    if doubles or lost:
        return f"failed: {doubles} charged twice, {lost} lost"
    if wrong:
        return f"failed: {wrong} webhooks were not answered as they must be"
    if idle is not None:
        return f"says nothing: {idle} took no payment before the fault, so none could leave it"
    return "passed: no payment was charged twice, and none was lost"
