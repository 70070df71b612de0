"""A scorecard to show, of a drill nobody ran."""

from pgw.drill.scenario import DrillKind
from pgw.drill.scorecard import LatencySummary, Scorecard

CARD = Scorecard(
    drill=DrillKind.OUTAGE,
    gateway_id="hdfc",
    verdict="passed: no payment was charged twice, and none was lost",
    passed=True,
    conclusive=True,
    payments=440,
    share_before=1.0,
    left_after_s=0.1,
    left_by="breaker",
    met=5,
    failed=0,
    refused=0,
    pending=2,
    pending_ended={"SUCCESS": 2},
    back_after_s=None,
    double_charges=0,
    lost=0,
    before=LatencySummary(80, 29.1, 74.0),
    during=LatencySummary(120, 85.1, 120.9),
    after=LatencySummary(0, None, None),
    storm=None,
    notes=("the fault: connections are refused, to charges and to enquiries",),
)
