"""A fault, an answer -> the bytes that really leave, or none: how a gateway's answer gets lost."""

import asyncio
import socket
import struct
from typing import NoReturn

import msgspec
from sanic import HTTPResponse, Request

from pgw.razorpay_simulator.clock import SimulatorClock
from pgw.razorpay_simulator.faults import SimulatedFault

SLOW_S = 1.5
DRIP_S = 1.0
"""Between two bytes of a dripping answer."""

BAD_GATEWAY = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n"
    b"<body>\r\n<h1>502 Bad Gateway</h1>\r\n</body>\r\n</html>\r\n"
)
NO_STATUS_LINE = b"ICY this is no status line\r\n\r\n"

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER on, for no time: closing sends RST and forgets what was not sent."""


def answer(document: object, status: int = 200, headers: dict[str, str] | None = None) -> HTTPResponse:
    """Answer as it should be."""
    return HTTPResponse(msgspec.json.encode(document), status, headers, content_type="application/json")


async def deliver(
    document: object, request: Request, clock: SimulatorClock, fault: SimulatedFault | None
) -> HTTPResponse:
    """Answer as the fault will have it; after some faults there is nothing left to answer, until the client goes."""
    whole = _raw(document)
    match fault:
        case SimulatedFault.COMMIT_THEN_HANG:
            await never()
        case SimulatedFault.COMMIT_THEN_RESET:
            _reset(request)
            await never()
        case SimulatedFault.HTML502:
            return HTTPResponse(BAD_GATEWAY, 502, content_type="text/html")
        case SimulatedFault.TRUNCATED_JSON:
            await _send_and_close(request, whole[: (whole.index(b"{") + len(whole)) // 2])
        case SimulatedFault.BAD_STATUS_LINE:
            await _send_and_close(request, NO_STATUS_LINE)
        case SimulatedFault.SLOW:
            await clock.sleep(SLOW_S)
        case SimulatedFault.SLOW_DRIP:
            await _drip(request, whole, clock)
        case _:
            pass
    return answer(document)


async def never() -> NoReturn:
    """Answer nothing: Sanic cancels the handler when the connection ends."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError("nothing ends this but the end of the connection")


def _raw(document: object) -> bytes:
    body = msgspec.json.encode(document)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def _send_and_close(request: Request, sent: bytes) -> NoReturn:
    transport = _transport(request)
    transport.write(sent)
    transport.close()
    await never()


async def _drip(request: Request, whole: bytes, clock: SimulatorClock) -> NoReturn:
    transport = _transport(request)
    for each in whole:
        transport.write(bytes([each]))
        await clock.sleep(DRIP_S)
    await _send_and_close(request, b"")


def _reset(request: Request) -> None:
    transport = _transport(request)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()


def _transport(request: Request) -> asyncio.Transport:
    transport = request.transport
    assert isinstance(transport, asyncio.Transport), "a raw answer needs a socket"
    return transport
