"""A sandbox -> its Sanic app: the two sets of routes, the key, and one way to refuse."""

import asyncio
import hmac
import logging
import uuid
from base64 import b64encode
from typing import Any

from sanic import HTTPResponse, Request, Sanic
from sanic.exceptions import MethodNotAllowed, NotFound, SanicException
from sanic.handlers import ErrorHandler

from pgw.razorpay_simulator import api, controls
from pgw.razorpay_simulator.delivery import answer
from pgw.razorpay_simulator.refusals import Failure, Refused, invalid, unauthorized
from pgw.razorpay_simulator.simulator import KEY_ID, KEY_SECRET, Simulator

log = logging.getLogger(__name__)

MAX_BODY = 64 * 1024
A_DAY_S = 86_400
"""No answer is given up before: a fault that hangs must not be ended by the sandbox itself."""

FIRST_FAULT_OF_OURS = 500

_AUTHORIZATION = b"Basic " + b64encode(f"{KEY_ID}:{KEY_SECRET}".encode())


def create_app(sandbox: Simulator) -> Sanic[Any, Any]:
    """Build the app."""
    app: Sanic[Any, Any] = Sanic(f"sandbox-{uuid.uuid4().hex}", configure_logging=False, error_handler=_Refusals())
    app.config.REQUEST_MAX_SIZE = MAX_BODY
    app.config.RESPONSE_TIMEOUT = A_DAY_S
    app.config.ACCESS_LOG = False
    # A second app in one process would find Sanic's classes already rewritten.
    app.config.TOUCHUP = False
    app.ctx.sandbox = sandbox
    for module in (api, controls):
        app.blueprint(module.blueprint.copy(module.__name__.rpartition(".")[2]))
    app.register_middleware(_check_request, "request")
    return app


async def _check_request(request: Request) -> None:
    """Ask for the key of whoever speaks Razorpay's API, and for JSON in every body."""
    if request.path.startswith("/v1/"):
        # The header must read exactly so: "basic", or quotes around the token, are refused too.
        given = request.headers.get("Authorization", "").encode(errors="surrogateescape")
        if not hmac.compare_digest(given, _AUTHORIZATION):
            raise unauthorized()
    if request.body and not request.headers.get("Content-Type", "").startswith("application/json"):
        raise invalid("The request body must be application/json")


class _Refusals(ErrorHandler):
    """Answers every exception with Razorpay's error document."""

    def default(self, _: Request | None, exception: Exception) -> HTTPResponse:
        """Turn one exception into its answer."""
        refused = exception if isinstance(exception, Refused) else _refused(exception)
        return answer(refused.document, refused.status, refused.headers)

    @staticmethod
    def log(request: Request, exception: Exception) -> None:
        """Say nothing: what deserves it is logged where it is turned into an answer."""


def _refused(exception: BaseException) -> Refused:
    if isinstance(exception, NotFound | MethodNotAllowed):
        return invalid("The requested URL was not found on the server.")
    if isinstance(exception, SanicException) and exception.status_code < FIRST_FAULT_OF_OURS:
        return invalid("The request is not valid HTTP")
    if not isinstance(exception, asyncio.CancelledError):
        # A cancelled handler is a client that went away: no client waits.
        log.error("a call failed: %s", type(exception).__name__, exc_info=exception)
    return Refused(Failure(description="The sandbox failed", code="SERVER_ERROR", source="internal"), status=500)
