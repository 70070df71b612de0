"""The routes by which operators watch and steer routing -> what the API's description says of each."""

from pgw.core.errors import Code
from pgw.core.routing.score import Scoring
from pgw.server.http.operation import Operation, Who
from pgw.server.routes.breakers import BreakerList, History, HistoryQuery
from pgw.server.routes.metrics import GatewayMetrics, MetricsQuery
from pgw.server.routes.operator_commands import CommandBody, EndCommandBody
from pgw.server.routes.overrides import CommandQuery, CommandResponse, PreviewResponse
from pgw.server.routes.pause import PauseResponse


def _command(action: str, summary: str, *refusals: Code) -> Operation:
    """Describe one of the orders a breaker takes, which differ in little."""
    return Operation(
        method="post",
        path=f"/circuit-breaker/{action}/{{gateway_id}}/{{payment_method}}",
        tag="breakers",
        summary=summary,
        who=Who.ADMIN,
        headers=("X-Actor",),
        query=CommandQuery,
        body=CommandBody,
        may_be_bare=True,
        answers={200: (CommandResponse, PreviewResponse)},
        refusals=(Code.NOT_FOUND, Code.METHOD_NOT_SUPPORTED, *refusals, Code.CONFLICT, Code.LEDGER_UNAVAILABLE),
    )


STEERING = (
    Operation(
        method="get",
        path="/metrics/gateways/{gateway_id}",
        tag="routing",
        summary="Show how one gateway did lately, by method and bank",
        who=Who.READER,
        query=MetricsQuery,
        answers={200: GatewayMetrics},
        refusals=(Code.NOT_FOUND, Code.METHOD_NOT_SUPPORTED),
    ),
    Operation(
        method="get",
        path="/scoring/config",
        tag="routing",
        summary="Show weights, tables, breaker rules and panic policy; the ETag is their version",
        who=Who.READER,
        answers={200: Scoring},
        sends={200: ("ETag",)},
        refusals=(Code.LEDGER_UNAVAILABLE,),
    ),
    Operation(
        method="put",
        path="/scoring/config",
        tag="routing",
        summary="Put another scoring configuration in its place, whole",
        who=Who.ADMIN,
        headers=("If-Match", "X-Actor"),
        body=Scoring,
        answers={200: Scoring},
        sends={200: ("ETag",)},
        refusals=(Code.CONFLICT, Code.PRECONDITION_FAILED, Code.LEDGER_UNAVAILABLE),
    ),
    Operation(
        method="get",
        path="/circuit-breaker/status",
        tag="breakers",
        summary="Show where every breaker stands, and who forced it until when",
        who=Who.READER,
        answers={200: BreakerList},
    ),
    _command(
        "force-open",
        "Send a gateway no more payments of a method until a set time; with `dry_run` preview it",
        Code.REASON_REQUIRED,
    ),
    _command(
        "force-close",
        "Send a gateway payments of a method whatever its breaker says; with `dry_run` preview it",
        Code.REASON_REQUIRED,
    ),
    _command("clear", "End what was forced; with `dry_run` preview it"),
    Operation(
        method="get",
        path="/circuit-breaker/history",
        tag="breakers",
        summary="List what became of breakers, by themselves and by order, newest first",
        who=Who.READER,
        query=HistoryQuery,
        answers={200: History},
        refusals=(Code.NOT_FOUND, Code.METHOD_NOT_SUPPORTED, Code.LEDGER_UNAVAILABLE),
    ),
    Operation(
        method="post",
        path="/ops/pause",
        tag="operations",
        summary="Take no new payments until a set time; those begun are finished, and keys are answered",
        who=Who.ADMIN,
        headers=("X-Actor",),
        body=CommandBody,
        may_be_bare=True,
        answers={200: PauseResponse},
        refusals=(Code.REASON_REQUIRED, Code.CONFLICT, Code.LEDGER_UNAVAILABLE),
    ),
    Operation(
        method="post",
        path="/ops/resume",
        tag="operations",
        summary="Take payments again",
        who=Who.ADMIN,
        headers=("X-Actor",),
        body=EndCommandBody,
        may_be_bare=True,
        answers={200: PauseResponse},
        refusals=(Code.CONFLICT, Code.LEDGER_UNAVAILABLE),
    ),
)
