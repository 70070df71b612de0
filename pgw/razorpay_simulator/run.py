"""An address, faults, a way to approve -> a serving sandbox, until it is stopped."""

import asyncio
import ipaddress
import logging
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pgw.core.errors import Code, PgwError
from pgw.core.flow.runtime.clock import SystemClock
from pgw.razorpay_simulator.app import create_app
from pgw.razorpay_simulator.faults import SimulatedFault
from pgw.razorpay_simulator.simulator import KEY_ID, KEY_SECRET, Simulator, new_simulator
from pgw.razorpay_simulator.webhooks import Target

BACKLOG = 1024
LAST_PORT = 65_535


def serve(
    bind: str,
    *,
    faults: Sequence[SimulatedFault] = (),
    approve_after_s: float | None = None,
    target: Target | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; webhooks go to `target`. Raises PgwError for every reason not to start."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    with _listening(*_loopback(bind)) as listener, asyncio.Runner() as runner:
        sandbox = new_simulator(SystemClock(), standing=faults, approve_after_s=approve_after_s)
        runner.run(_serve(sandbox, listener, target))


def _loopback(bind: str) -> tuple[str, int]:
    """Read an address that only this machine can reach: the key is public, and so is every way to move money."""
    host, _, port = bind.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > LAST_PORT:
        raise PgwError(Code.REFUSED_TO_START, "--bind must read host:port, such as 127.0.0.1:4010")
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise PgwError(
            Code.REFUSED_TO_START,
            f"the sandbox has a public key and would be reachable from other machines on {host}: bind 127.0.0.1:{port}",
        )
    return host, int(port)


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as fault:
            raise PgwError(
                Code.ADDRESS_IN_USE,
                f"cannot listen on {host}:{port} ({fault.strerror}): choose another with --bind, or 127.0.0.1:0",
            ) from None
        listener.listen(BACKLOG)
        listener.settimeout(0)
        yield listener


async def _serve(sandbox: Simulator, listener: socket.socket, target: Target | None) -> None:
    """Run the app until stopped, then end at once: nothing here is worth waiting for."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server: Any = await create_app(sandbox).create_server(
        sock=listener,
        return_asyncio_server=True,
        asyncio_server_kwargs={"start_serving": False},
        access_log=False,
    )
    await server.startup()
    await server.start_serving()
    sandbox.webhooks.publish(target)
    _greet(listener, target)
    await stop.wait()
    server.close()
    for connection in list(server.connections):
        connection.abort()


def _greet(listener: socket.socket, target: Target | None) -> None:
    """Print the line that starts pgw against this sandbox; then, for people, how to play the customer."""
    host, port = listener.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    signing = "" if target is None else f"RAZORPAY_WEBHOOK_SECRET={target.secret} "
    sys.stdout.write(
        f"RAZORPAY_BASE_URL={address} RAZORPAY_KEY_ID={KEY_ID} RAZORPAY_KEY_SECRET={KEY_SECRET} "
        f"{signing}pgw serve --gateways razorpay\n"
    )
    sys.stdout.flush()
    sys.stderr.write(
        f"the customer pays at {address}/pay/PAYMENT_ID, or by: "
        f"curl -X POST {address}/sandbox/payments/PAYMENT_ID/approve (the book: {address}/sandbox/book)\n"
    )
    sys.stderr.flush()
