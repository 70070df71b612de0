"""Counts of five minutes -> Health of each gateway, method and bank: thin cells lean on what is around them."""

from collections.abc import Mapping

from msgspec import Struct

from pgw.core.breakers.breaker import Key
from pgw.core.metrics.counters import SLICE_S, Cell, Counts, quantile
from pgw.core.routing.score import ALL, PRIOR_HEALTH, Health

WINDOW_SLICES = 300 // SLICE_S
"""Five minutes: long enough for a few calls of most cells, short enough to see a gateway change."""

LOOK_BACK_SLICES = 3600 // SLICE_S
"""How far back the time before an incident is looked for; what is older says nothing of the gateway as it is."""

AHEAD_SLICES = 1
"""Slices that count before the store's clock has reached them: it may be behind the clock of who saw the outcome."""

PRIOR_WEIGHT = 4.0
"""Calls that the prior counts as against a gateway's own: after a dozen calls it hardly matters."""

PARENT_WEIGHT = 10.0
"""Calls that a method's rate counts as against a bank's, and a gateway's against a method's."""

Incident = tuple[float, float | None]
"""From when to when (None: it goes on) a breaker was not well, in the epoch's seconds."""


class Evidence(Struct, frozen=True):
    """What a cell's own calls say: `attributed` ones and successes among them; the p95 in ms of `measured` ones."""

    successes: int
    attributed: int
    measured: int
    p95_ms: int


def evidence_of(counts: Counts) -> Evidence:
    """Take from counts what says something of the gateway; what customers, banks and networks did is not among it."""
    sketch = counts.latencies()
    return Evidence(counts.successes, counts.attributed, sum(sketch.values()), quantile(sketch, 0.95) or 0)


def shrunk(own: Evidence, around: Health, weight: float) -> Health:
    """Judge by own calls and, as if they were `weight` further calls, by what is known of the whole around them.

    success = (successes + weight x around) / (attributed + weight), the mean of the Beta posterior after binomial calls
    whose prior has the mean `around` and counts as `weight` calls. The latency is drawn to the whole's in the same way:
    p95 = (measured x own + weight x around) / (measured + weight). That the prior is the whole's own estimate is
    empirical Bayes (Efron and Morris, JASA 1975, after James and Stein): it lies between the two, nearer to the own
    rate the more calls there are, and errs less over all cells together than their bare rates do.
    """
    return Health(
        (own.successes + weight * around.success_rate) / (own.attributed + weight),
        (own.measured * own.p95_ms + weight * around.latency_p95_ms) / (own.measured + weight),
        float(own.attributed),
    )


def healths(
    gateways: Mapping[str, Evidence], methods: Mapping[Key, Evidence], cells: Mapping[Cell, Evidence]
) -> dict[Cell, Health]:
    """Judge every cell, drawn to its method at that gateway, that to the gateway, and that to the prior.

    Every method has its gateway among the evidence, every cell its method. The wholes stand under `*`.
    """
    found = {(gateway_id, ALL, ALL): shrunk(own, PRIOR_HEALTH, PRIOR_WEIGHT) for gateway_id, own in gateways.items()}
    for (gateway_id, method), own in methods.items():
        found[gateway_id, method, ALL] = shrunk(own, found[gateway_id, ALL, ALL], PARENT_WEIGHT)
    for cell, own in cells.items():
        # A bank that calls itself `*` is not the whole.
        if cell[2] != ALL:
            found[cell] = shrunk(own, found[cell[0], cell[1], ALL], PARENT_WEIGHT)
    return found


def window(newest: int, slices: int = WINDOW_SLICES) -> range:
    """Return the slices of a window that ends with the newest, which has only begun."""
    return range(newest - slices + 1, newest + AHEAD_SLICES + 1)


def window_outside(newest: int, incident: Incident) -> frozenset[int]:
    """Return the newest five minutes of slices that hold nothing of the incident, however long it was.

    So a breaker that closes scores from its state before the incident, and from what came after it.
    """
    began, ended = incident
    first = int(began // SLICE_S)
    last = newest + AHEAD_SLICES if ended is None else int(ended // SLICE_S)
    ahead = range(newest + 1, newest + AHEAD_SLICES + 1)
    past = [n for n in range(newest, newest - LOOK_BACK_SLICES, -1) if not first <= n <= last]
    return frozenset([*past[:WINDOW_SLICES], *(n for n in ahead if not first <= n <= last)])
