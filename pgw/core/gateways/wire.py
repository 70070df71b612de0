"""One request to a gateway -> its Reply, or NotSent by proof, or Unknown: the one place that knows httpx and aiohttp.

httpx gives the API, aiohttp the transport: httpx's own scans all its connections at each call. The transport is called
directly, without `httpx.AsyncClient`, so there are no redirects, cookies or log lines of a client to switch off.
"""

import asyncio
import errno
import logging
import re
import ssl
from base64 import b64encode
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from functools import cache, lru_cache
from typing import Literal, cast
from urllib.parse import urlencode

import aiohttp
import httpx
import msgspec
from aiohttp.connector import Connection
from httpx_aiohttp import AiohttpTransport
from msgspec import Struct

from pgw.core.payment.outcome import Blame, NotSent, Unknown
from pgw.core.ports import NOT_SENT_LEASE

log = logging.getLogger(__name__)

Method = Literal["GET", "POST"]
"""aiohttp repeats an idempotent method, PUT and DELETE too, once after a lost connection. That is harmless for a read,
whose NOT_SENT then is the second try's; everything else is a POST, which it never repeats."""

CONNECTIONS = 64
CONNECT_S = 1.0
READ_S = 60.0
"""Read timeout of a call whose caller set no deadline: the longest budget of a payment."""
KEEPALIVE_S = 4.0
"""An idle connection is dropped before the peer drops it (5 s is the shortest common limit): reusing one while the peer
closes it is a needless UNKNOWN."""
MOST_BYTES = 256 * 1024
"""An answer about one payment is a few KB."""
SECONDS = re.compile(r"[0-9]{1,9}")

NOT_SENT_DNS = NotSent("NOT_SENT_DNS", Blame.NETWORK)
NOT_SENT_REFUSED = NotSent("NOT_SENT_REFUSED", Blame.GATEWAY)
"""The peer refused: there is no listener, or it hung up before a connection was established."""
NOT_SENT_TLS = NotSent("NOT_SENT_TLS", Blame.GATEWAY)
NOT_SENT_CONNECT_TIMEOUT = NotSent("NOT_SENT_CONNECT_TIMEOUT", Blame.GATEWAY)
NOT_SENT_UNREACHABLE = NotSent("NOT_SENT_UNREACHABLE", Blame.NETWORK)
NOT_SENT_STRAY_ANSWER = NotSent("NOT_SENT_STRAY_ANSWER", Blame.GATEWAY)
"""The idle connection held an unsolicited answer."""
NOT_SENT_POOL = NotSent("NOT_SENT_POOL", Blame.NONE)
"""The bulkhead was full: that must not count against the gateway's breaker."""
NOT_SENT_OWN_LIMIT = NotSent("NOT_SENT_OWN_LIMIT", Blame.NONE)
"""This machine had no file descriptor, port or memory for a connection."""

READ_TIMEOUT = Unknown("READ_TIMEOUT", Blame.GATEWAY)
CONNECTION_LOST = Unknown("CONNECTION_LOST", Blame.GATEWAY)
"""A reset or an end is a packet of the peer, and a gateway that sends it for every call must open its breaker."""
CONNECTION_LOST_ON_THE_WAY = Unknown("CONNECTION_LOST", Blame.NETWORK)
UNREADABLE_ANSWER = Unknown("UNREADABLE_ANSWER", Blame.GATEWAY)
ANSWER_TOO_LARGE = Unknown("ANSWER_TOO_LARGE", Blame.GATEWAY)
WIRE_FAULT = Unknown("WIRE_FAULT", Blame.NONE)

ON_THE_WAY = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.ETIMEDOUT})
OWN_LIMITS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})


class Reply(Struct, frozen=True):
    """A complete answer of any status; the adapter interprets it."""

    status: int
    body: bytes
    retry_after_s: float | None


Answer = Reply | NotSent | Unknown


class StrayAnswerError(Exception):
    """An answer was there before the request was sent; the connection is dropped, nothing was sent."""


class Wire:
    """One pool of connections to one gateway, with its credentials."""

    def __init__(
        self,
        base_url: str,
        auth: tuple[str, str],
        *,
        connections: int = CONNECTIONS,
        connect_s: float = CONNECT_S,
        read_s: float = READ_S,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        # httpx.Headers keeps the secret out of its repr, and so out of tracebacks that show local values.
        self._headers = httpx.Headers(
            {
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "Authorization": f"Basic {b64encode(':'.join(auth).encode()).decode()}",
                "User-Agent": "pgw",
            }
        )
        self._connect_s = connect_s
        self._slots = asyncio.Semaphore(connections)
        # `pool` must not be below `connect`: this transport counts connecting as part of waiting for the pool.
        timeout = httpx.Timeout(connect=connect_s, pool=connect_s, read=read_s, write=read_s)
        self._extensions = {"timeout": timeout.as_dict()}
        self._transport = transport or pooled(connections)

    def __repr__(self) -> str:
        return f"Wire({self._base_url!r})"

    async def call(
        self,
        method: Method,
        path: str,
        *,
        document: object | None = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        may_send: Callable[[], bool] | None = None,
    ) -> Answer:
        """Send once and read the whole answer. The total deadline is the caller's, as `asyncio.timeout`.

        `path` is sent verbatim: the caller quotes its parts. `may_send` is called when the bulkhead has admitted the
        call; False is NOT_SENT_LEASE.
        """
        request = self._request(method, path, document, query, headers)
        if not await self._admitted():
            return NOT_SENT_POOL
        try:
            if may_send is not None and not may_send():
                return NOT_SENT_LEASE
            try:
                response = await self._transport.handle_async_request(request)
            except StrayAnswerError:
                return NOT_SENT_STRAY_ANSWER
            except Exception as fault:  # noqa: BLE001  # not only httpx.HTTPError: aiohttp's own come through as well
                return _not_sent(fault.__cause__) or _unknown(fault)
            try:
                return await _reply(response)
            except Exception as fault:  # noqa: BLE001  # as above; from here on nothing proves NOT_SENT
                return _unknown(fault)
        finally:
            self._slots.release()

    async def close(self) -> None:
        """Close the connections, those in use as well."""
        await self._transport.aclose()

    def _request(
        self,
        method: Method,
        path: str,
        document: object | None,
        query: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
    ) -> httpx.Request:
        if method not in ("GET", "POST"):
            raise ValueError(f"{method} may be repeated on the way; only GET and POST are sent")
        merged = self._headers.copy()
        if headers is not None:
            merged.update(headers)
        content = None
        if document is not None:
            merged["Content-Type"] = "application/json"
            content = msgspec.json.encode(document)
        url = f"{self._base_url}{path}?{urlencode(query)}" if query else self._base_url + path
        return httpx.Request(method, _url(url), headers=merged, content=content, extensions=self._extensions)

    async def _admitted(self) -> bool:
        if not self._slots.locked():
            return await self._slots.acquire()
        try:
            async with asyncio.timeout(self._connect_s):
                return await self._slots.acquire()
        except TimeoutError:
            return False


class _Request(aiohttp.ClientRequest):
    """Is sent on a connection without unread data only: aiohttp would take a stray answer for the next payment's."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        if conn.protocol is None or conn.protocol.should_close:
            raise StrayAnswerError
        return await super().send(conn)


def pooled(connections: int, trusted: ssl.SSLContext | None = None) -> httpx.AsyncBaseTransport:
    """Make the production transport; its session is opened by the first call, inside the running loop."""
    context = trusted or _trusted()

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=connections,
            keepalive_timeout=KEEPALIVE_S,
            ssl=context,
            # The system's own resolver, even where aiodns is installed.
            resolver=aiohttp.ThreadedResolver(),
        )
        return aiohttp.ClientSession(
            connector=connector, request_class=_Request, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
        )

    return AiohttpTransport(verify=context, trust_env=False, client=session)


_url = lru_cache(maxsize=256)(httpx.URL)
"""Parsing an address costs a tenth of a call, and what charges goes to one and the same."""


@cache
def _trusted() -> ssl.SSLContext:
    """Load the authorities once: reading them takes longer than a hundred calls."""
    return httpx.create_ssl_context(trust_env=False)


async def _reply(response: httpx.Response) -> Reply | Unknown:
    try:
        if response.headers.get("content-encoding", "identity") != "identity":
            return UNREADABLE_ANSWER
        body = bytearray()
        # Both transports read by an async generator, which must be closed where it is left early.
        parts = cast("AsyncGenerator[bytes, None]", aiter(cast("httpx.AsyncByteStream", response.stream)))
        async with aclosing(parts):
            async for part in parts:
                body += part
                if len(body) > MOST_BYTES:
                    return ANSWER_TOO_LARGE
    finally:
        await response.aclose()
    return Reply(response.status_code, bytes(body), _seconds(response.headers.get("retry-after")))


def _seconds(retry_after: str | None) -> float | None:
    """Read Retry-After in seconds; its other form, a date, would need a clock that agrees with the gateway's."""
    return float(retry_after) if retry_after is not None and SECONDS.fullmatch(retry_after) else None


def _not_sent(cause: BaseException | None) -> NotSent | None:
    """Return the verdict if the request cannot have left, by the only proof there is: aiohttp was still connecting.

    The class of the httpx error proves nothing: a reset after a charge arrives as `httpx.ConnectTimeout`.
    """
    match cause:
        case aiohttp.ClientConnectorDNSError():
            return NOT_SENT_DNS
        case aiohttp.ClientSSLError():
            return NOT_SENT_TLS
        case aiohttp.ConnectionTimeoutError():
            return NOT_SENT_CONNECT_TIMEOUT
        case aiohttp.ClientConnectorError(errno=number):
            return _not_connected(number)
        case _:
            return None


def _not_connected(number: int | None) -> NotSent:
    if number in OWN_LIMITS:
        return NOT_SENT_OWN_LIMIT
    return NOT_SENT_UNREACHABLE if number in ON_THE_WAY else NOT_SENT_REFUSED


def _unknown(fault: Exception) -> Unknown:
    """Name what happened, for operators: the verdict is UNKNOWN for all. aiohttp's error comes before httpx's."""
    match fault.__cause__ if isinstance(fault.__cause__, aiohttp.ClientError) else fault:
        case aiohttp.SocketTimeoutError() | httpx.ReadTimeout() | httpx.WriteTimeout():
            return READ_TIMEOUT
        case aiohttp.ClientOSError(errno=number) if number in ON_THE_WAY:
            return CONNECTION_LOST_ON_THE_WAY
        case aiohttp.ClientConnectionError() | aiohttp.ClientPayloadError() | httpx.NetworkError():
            return CONNECTION_LOST
        case aiohttp.ClientResponseError() | httpx.RemoteProtocolError():
            return UNREADABLE_ANSWER
        case _:
            # The type alone: a message may repeat what was sent.
            log.error("the call ended in %s, caused by %s", type(fault).__name__, type(fault.__cause__).__name__)
            return WIRE_FAULT
