"""What happens before a connection stands is NOT_SENT over aiohttp, and proves nothing over any other transport."""

import asyncio
import errno
import socket
import ssl

import aiohttp
import httpx
import pytest

from pgw.core.gateways import wire
from pgw.core.gateways.wire import Answer, Reply, Wire
from pgw.core.payment.outcome import Blame, NotSent, Unknown
from tests.core.gateways.carriers import Carrier, serving, trusting
from tests.core.gateways.faulty_server import Act, FaultyServer, Peer, answer, full_listener, reply, saying

SILENCE_S = 0.1
"""For what never comes: these tests end alike on a machine of any speed."""


async def posted(client: Wire) -> Answer:
    try:
        return await client.call("POST", "/payments")
    finally:
        await client.close()


def agrees(carrier: Carrier, end: Answer, expected: NotSent) -> bool:
    return end == expected if carrier.proves else isinstance(end, Unknown)


def test_a_refused_connection(carrier: Carrier) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    assert agrees(carrier, carrier.run(posted(carrier.wire(port))), wire.NOT_SENT_REFUSED)


def test_a_name_that_nobody_knows(carrier: Carrier) -> None:
    async def nobody(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def story() -> Answer:
        # Both carriers ask the loop, so no real resolver is asked.
        asyncio.get_running_loop().getaddrinfo = nobody  # type: ignore[method-assign, assignment]
        return await posted(carrier.wire(443, scheme="https", host="no-such-host.invalid"))

    assert agrees(carrier, carrier.run(story()), wire.NOT_SENT_DNS)


def test_a_connection_that_nobody_answers(carrier: Carrier) -> None:
    with full_listener() as port:
        end = carrier.run(posted(carrier.wire(port, connect_s=SILENCE_S)))
    assert agrees(carrier, end, wire.NOT_SENT_CONNECT_TIMEOUT)


def test_a_tls_handshake_that_nobody_answers(carrier: Carrier) -> None:
    with FaultyServer(reply) as server:
        end = carrier.run(posted(carrier.wire(server, scheme="https", connect_s=SILENCE_S)))
    assert agrees(carrier, end, wire.NOT_SENT_CONNECT_TIMEOUT)
    assert dict(server.heads) == {}


def test_a_certificate_that_nobody_vouches_for(carrier: Carrier) -> None:
    with FaultyServer(reply, tls=serving()) as server:
        end = carrier.run(posted(carrier.wire(server, scheme="https")))
    assert agrees(carrier, end, wire.NOT_SENT_TLS)
    assert (dict(server.heads), server.connections) == ({}, 1)


def test_a_server_that_speaks_plain_http_where_tls_was_asked_for(carrier: Carrier) -> None:
    with FaultyServer(reply, greeting=saying(answer(), then=Peer.wait)) as server:
        end = carrier.run(posted(carrier.wire(server, scheme="https")))
    assert agrees(carrier, end, wire.NOT_SENT_TLS)


@pytest.mark.parametrize("hang_up", [Peer.reset, Peer.end], ids=["reset", "end"])
def test_a_server_that_hangs_up_in_the_tls_handshake(carrier: Carrier, hang_up: Act) -> None:
    """Which of the two codes it gets depends on how far the handshake was; the proof does not."""
    with FaultyServer(reply, greeting=hang_up) as server:
        end = carrier.run(posted(carrier.wire(server, scheme="https")))
    assert any(agrees(carrier, end, each) for each in (wire.NOT_SENT_REFUSED, wire.NOT_SENT_TLS))


def test_a_server_that_wants_a_certificate_says_so_after_the_request_may_have_left(carrier: Carrier) -> None:
    """In TLS 1.3 the client's side of the handshake is over by then, so this refusal proves nothing."""
    strict = serving()
    strict.minimum_version = ssl.TLSVersion.TLSv1_3
    strict.verify_mode = ssl.CERT_REQUIRED
    with FaultyServer(reply, tls=strict) as server:
        end = carrier.run(posted(carrier.wire(server, scheme="https", trusted=trusting())))
    assert isinstance(end, Unknown)


@pytest.mark.parametrize("hang_up", [Peer.reset, Peer.end], ids=["reset", "end"])
def test_a_request_lost_inside_tls_is_unknown(carrier: Carrier, hang_up: Act) -> None:
    if not carrier.proves:
        pytest.skip("httpx's own transport leaves the socket of a lost TLS connection to the garbage collector")

    async def story(server: FaultyServer) -> list[Answer]:
        client = carrier.wire(server, scheme="https", trusted=trusting())
        ends = [await client.call("POST", "/payments") for _ in range(2)]
        await client.close()
        return ends

    with FaultyServer(reply, hang_up, tls=serving()) as server:
        first, second = carrier.run(story(server))
    assert first == Reply(200, b"{}", None)
    assert isinstance(second, Unknown)
    assert dict(server.heads) == {"POST": 2}


def test_a_transport_with_too_few_connections(carrier: Carrier) -> None:
    """The wire's own bulkhead stands before it, so this takes a transport that is smaller than the wire believes."""

    async def story(server: FaultyServer) -> Answer:
        client = carrier.wire(server, connections=2, at_most=1, connect_s=SILENCE_S)
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(client.call("POST", "/payments"))
            assert await asyncio.to_thread(server.arrived.acquire, timeout=5)
            second = await client.call("POST", "/payments")
            server.signal.set()
        assert first.result() == Reply(200, b"{}", None)
        await client.close()
        return second

    def answers_on_a_sign(peer: Peer) -> None:
        peer.server.signal.wait()
        reply(peer)

    with FaultyServer(answers_on_a_sign) as server:
        end = carrier.run(story(server))
    assert agrees(carrier, end, wire.NOT_SENT_CONNECT_TIMEOUT)
    assert dict(server.heads) == {"POST": 1}


def test_nothing_but_an_error_of_connecting_proves_that_nothing_left() -> None:
    """All errors that either library knows, each as the cause of each error that httpx could make of it."""
    causes = [each for module in (aiohttp, httpx) for each in vars(module).values() if _is_error(each)]
    proofs = {each for each in causes if wire._not_sent(each.__new__(each)) is not None}
    assert len(causes) > 50
    assert proofs == {each for each in causes if issubclass(each, aiohttp.ClientConnectorError)} | {
        aiohttp.ConnectionTimeoutError
    }
    assert wire._not_sent(None) is None


def _is_error(each: object) -> bool:
    return isinstance(each, type) and issubclass(each, Exception)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ECONNREFUSED, NotSent("NOT_SENT_REFUSED", Blame.GATEWAY)),
        (errno.ECONNRESET, NotSent("NOT_SENT_REFUSED", Blame.GATEWAY)),
        (errno.EHOSTUNREACH, NotSent("NOT_SENT_UNREACHABLE", Blame.NETWORK)),
        (errno.EMFILE, NotSent("NOT_SENT_OWN_LIMIT", Blame.NONE)),
        (errno.EADDRNOTAVAIL, NotSent("NOT_SENT_OWN_LIMIT", Blame.NONE)),
    ],
)
def test_a_limit_of_this_machine_is_not_held_against_the_gateway(number: int, expected: NotSent) -> None:
    fault = aiohttp.ClientConnectorError(None, OSError(number, "so it is"))  # type: ignore[arg-type]
    assert wire._not_sent(fault) == expected
