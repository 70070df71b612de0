"""A way to carry requests, and a server's address -> a wire over it: what each suite of the wire runs over."""

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import uvloop

from pgw.core.gateways.wire import Wire, pooled
from tests.core.gateways.faulty_server import FaultyServer

T = TypeVar("T")

KEY_ID, SECRET = "rzp_test_key", "a-secret-nobody-may-see"
BASIC = "cnpwX3Rlc3Rfa2V5OmEtc2VjcmV0LW5vYm9keS1tYXktc2Vl"

CERTIFICATE = Path(__file__).with_name("loopback.pem")
"""A certificate for 127.0.0.1 with its key, signed by itself: nothing but these tests trusts it."""


def trusting() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(CERTIFICATE))


def serving() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


@dataclass(frozen=True, slots=True)
class Carrier:
    """An event loop and a transport. Only aiohttp's chain of exceptions `proves` that a request has not left."""

    loop: Callable[[], asyncio.AbstractEventLoop]
    transport: Callable[[int, ssl.SSLContext | None], httpx.AsyncBaseTransport]
    proves: bool

    def run(self, story: Coroutine[Any, Any, T]) -> T:
        with asyncio.Runner(loop_factory=self.loop) as runner:
            return runner.run(story)

    def wire(
        self,
        server: FaultyServer | int,
        *,
        scheme: str = "http",
        host: str = "127.0.0.1",
        connections: int = 4,
        at_most: int | None = None,
        trusted: ssl.SSLContext | None = None,
        connect_s: float = 5.0,
        read_s: float = 5.0,
    ) -> Wire:
        """Make a wire; `at_most` gives its transport fewer connections than the wire believes."""
        return Wire(
            f"{scheme}://{host}:{server if isinstance(server, int) else server.port}/v1",
            (KEY_ID, SECRET),
            connections=connections,
            connect_s=connect_s,
            read_s=read_s,
            transport=self.transport(at_most or connections, trusted),
        )


def _default(connections: int, trusted: ssl.SSLContext | None) -> httpx.AsyncBaseTransport:
    return httpx.AsyncHTTPTransport(
        verify=trusted or True, trust_env=False, limits=httpx.Limits(max_connections=connections)
    )


CARRIERS = {
    "aiohttp": Carrier(asyncio.new_event_loop, pooled, proves=True),
    "aiohttp-uvloop": Carrier(uvloop.new_event_loop, pooled, proves=True),
    "httpx": Carrier(asyncio.new_event_loop, _default, proves=False),
}
