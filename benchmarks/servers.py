"""A name -> a server to measure, run as a process of its own: the bare echo, or pgw with a ledger that writes nothing.

Both listen on a free port, print it, and stop when their standard input ends.
"""

import asyncio
import dataclasses
import socket
import sys
from collections.abc import Mapping
from typing import Any

import msgspec
import uvloop
from sanic import HTTPResponse, Request, Sanic

from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.payment.payment import PaymentRequest
from pgw.server.app import create_app
from pgw.settings import load

DECODER = msgspec.json.Decoder(PaymentRequest)


def echo() -> Sanic[Any, Any]:
    """What Sanic and msgspec cost by themselves: decode the request, encode it again."""
    app: Sanic[Any, Any] = Sanic("echo", configure_logging=False)

    @app.post("/payments")
    async def post(request: Request) -> HTTPResponse:
        return HTTPResponse(msgspec.json.encode(DECODER.decode(request.body)), content_type="application/json")

    return app


class WritesNothing:
    """Every commit wins at once; reads go to the real ledger."""

    def __init__(self, ledger: OpenLedger) -> None:
        self._ledger = ledger

    async def commit(self, phase: Any, item: Mapping[str, Any]) -> bool:
        del phase, item
        return True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)


def without_store() -> Sanic[Any, Any]:
    """The whole request on a ledger that forgets: what the store adds is the difference."""
    app = create_app(load(), live=True)

    async def forget(app: Sanic[Any, Any]) -> None:
        runtime = app.ctx.runtime
        app.ctx.runtime = dataclasses.replace(runtime, ledger=WritesNothing(runtime.ledger))

    app.after_server_start(forget)
    return app


async def main(app: Sanic[Any, Any]) -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listener.settimeout(0)
    server: Any = await app.create_server(
        sock=listener, return_asyncio_server=True, asyncio_server_kwargs={"start_serving": False}, access_log=False
    )
    await server.startup()
    await server.before_start()
    await server.start_serving()
    await server.after_start()
    print(listener.getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()
    await server.before_stop()
    await server.after_stop()


if __name__ == "__main__":
    uvloop.run(main({"echo": echo, "without-store": without_store}[sys.argv[1]]()))
