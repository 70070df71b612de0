"""The true answer to a call -> what goes over the wire instead: nothing, a part, another, or a reset."""

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 429: "Too Many Requests"}

PAGE = b"<html><head><title>%d</title></head><body><h1>nginx</h1></body></html>"
DRIP_EVERY_S = 1.0


@dataclass
class Talk:
    """One connection; `nth`: how many requests it has brought so far."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    nth: int = 0

    async def say(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """End it with an RST instead of a FIN."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def silence(self) -> None:
        """Say nothing until the other side goes away: who waits for an answer sends nothing more."""
        await self.reader.read(1)
        self.writer.close()


Breaks = Callable[[Talk, bytes], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one call.

    `commits`: what was asked for is done all the same. `when_kept`: it waits for a call on a connection that was used
    before. `takes`: the amount and currency that are booked instead of those asked for, captured without being asked.
    """

    breaks: Breaks
    commits: bool = True
    when_kept: bool = False
    takes: tuple[int, str] | None = None


def said(status: int, document: Any, *headers: str) -> bytes:
    """Lay out an answer that is as it should be."""
    return _answer(status, json.dumps(document).encode(), "application/json", *headers)


def _answer(status: int, body: bytes, kind: str, *headers: str) -> bytes:
    lines = (f"HTTP/1.1 {status} {REASONS.get(status, 'Fault')}", f"Content-Type: {kind}", *headers)
    return "\r\n".join((*lines, f"Content-Length: {len(body)}", "", "")).encode() + body


async def tells(talk: Talk, truth: bytes) -> None:
    """Answer as it is; for faults that lie in the book."""
    await talk.say(truth)


async def hangs(talk: Talk, _: bytes) -> None:
    """Never answer."""
    await talk.silence()


async def resets(talk: Talk, _: bytes) -> None:
    """Reset the connection instead of answering."""
    talk.reset()


async def drips(talk: Talk, truth: bytes) -> None:
    """Send one byte a second: there is always something to read, and never an answer."""
    for at in range(len(truth)):
        await talk.say(truth[at : at + 1])
        await asyncio.sleep(DRIP_EVERY_S)


async def cuts_off(talk: Talk, truth: bytes) -> None:
    """Send the head, and a JSON that ends in the middle."""
    head, _, body = truth.partition(b"\r\n\r\n")
    await talk.say(head + b"\r\n\r\n" + body[: len(body) // 2])
    talk.writer.close()


async def shortens(talk: Talk, truth: bytes) -> None:
    """Send a JSON that ends in the middle, and say that this is all."""
    body = truth.partition(b"\r\n\r\n")[2]
    await talk.say(_answer(200, body[: len(body) // 2], "application/json"))


async def says_ok_in_html(talk: Talk, _: bytes) -> None:
    """Answer 200 with a page."""
    await talk.say(_answer(200, PAGE % 200, "text/html"))


def pages(status: int) -> Breaks:
    """Answer with a proxy's page for a status."""

    async def breaks(talk: Talk, _: bytes) -> None:
        await talk.say(_answer(status, PAGE % status, "text/html"))

    return breaks


def refuses(status: int, *headers: str) -> Breaks:
    """Answer with a status before anything is looked at."""

    async def breaks(talk: Talk, _: bytes) -> None:
        document = {"error": {"code": "BAD_REQUEST_ERROR", "description": "Request failed"}}
        await talk.say(said(status, document, *headers))

    return breaks


def declines(reason: str, step: str | None, source: str | None) -> Breaks:
    """Answer with a refusal that names a reason, a step and a source."""

    async def breaks(talk: Talk, _: bytes) -> None:
        error = {"code": "GATEWAY_ERROR", "description": "Payment failed", "reason": reason}
        await talk.say(said(400, {"error": {**error, "step": step, "source": source}}))

    return breaks
