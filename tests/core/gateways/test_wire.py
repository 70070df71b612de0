"""Whatever goes wrong on the way to a gateway, NOT_SENT is said by proof only, and no POST arrives twice."""

import asyncio
from dataclasses import dataclass

import pytest

from pgw.core.gateways import wire
from pgw.core.gateways.wire import Answer, Reply
from pgw.core.payment.outcome import NotSent, Unknown
from tests.core.gateways.carriers import Carrier
from tests.core.gateways.faulty_server import Act, FaultyServer, Peer, answer, reply, saying

SILENCE_S = 0.1
"""For what never comes: the tests below end alike on a machine of any speed."""

OK = Reply(200, b"{}", None)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TEN_MB = b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n"
LONG_PART = b"10000\r\n" + b" " * 0x10000 + b"\r\n"


@dataclass(frozen=True, slots=True)
class Case:
    """What the server does to the POSTs of one caller, one after another, and what each comes to over aiohttp."""

    name: str
    acts: tuple[Act, ...]
    ends: tuple[Answer, ...]


def case(name: str, *acts: Act, ends: Answer | tuple[Answer, ...]) -> Case:
    return Case(name, acts, ends if isinstance(ends, tuple) else (ends,))


def babble(peer: Peer) -> None:
    """Send chunks for as long as the connection lasts."""
    peer.say(CHUNKED)
    while True:
        peer.say(LONG_PART)


def drip(peer: Peer) -> None:
    """Send a byte now and then, so that no silence is ever long."""
    peer.say(TEN_MB)
    while not peer.server.signal.wait(SILENCE_S / 10):
        peer.say(b" ")


LOST, UNREADABLE = wire.CONNECTION_LOST, wire.UNREADABLE_ANSWER
AFTER_SENDING = [
    case("reset after the request", Peer.reset, ends=LOST),
    case("end after the request", Peer.end, ends=LOST),
    case("reset in the head", saying(b"HTTP/1.1 200 OK\r\nContent-", then=Peer.reset), ends=LOST),
    case("reset on a reused connection", reply, Peer.reset, ends=(OK, LOST)),
    case("end on a reused connection", reply, Peer.end, ends=(OK, LOST)),
    case("body cut by an end", saying(TEN_MB, b'{"id":', then=Peer.end), ends=LOST),
    case("body cut by a reset", saying(TEN_MB, b'{"id":', then=Peer.reset), ends=LOST),
    case("chunks cut by an end", saying(CHUNKED, b"5\r\n{", then=Peer.end), ends=LOST),
    case("chunks of garbage", saying(CHUNKED + b"zz\r\n{}", then=Peer.wait), ends=UNREADABLE),
    case("bad status line", saying(b"HTTP/1.1 okay then\r\n\r\n", then=Peer.wait), ends=UNREADABLE),
    case("another protocol", saying(b"SSH-2.0-OpenSSH_9.6\r\n", then=Peer.end), ends=UNREADABLE),
    case("two lengths", saying(answer(b"{}", "200 OK", "Content-Length: 3"), then=Peer.wait), ends=UNREADABLE),
    case("huge header", saying(answer(b"{}", "200 OK", "X: " + "x" * 200_000), then=Peer.wait), ends=UNREADABLE),
    case("bad gzip", saying(answer(b"\x1f\x8bno", "200 OK", "Content-Encoding: gzip")), ends=UNREADABLE),
    case("huge body", saying(TEN_MB, b" " * 300_000, then=Peer.wait), ends=wire.ANSWER_TOO_LARGE),
    case("endless body", babble, ends=wire.ANSWER_TOO_LARGE),
    case("redirect", saying(answer(b"", "302 Found", "Location: /v1/elsewhere")), ends=Reply(302, b"", None)),
    case("server error", saying(answer(b"oops", "500 Internal Server Error")), ends=Reply(500, b"oops", None)),
    case("too many", saying(answer(b"", "429 Slow Down", "Retry-After: 7")), ends=Reply(429, b"", 7.0)),
    case("too many, by date", saying(answer(b"", "429 No", "Retry-After: Fri, 31 Dec 1999 23:59:59 GMT")),
         ends=Reply(429, b"", None)),
    case("body without a length", saying(b"HTTP/1.1 200 OK\r\n\r\n{}", then=Peer.end), ends=OK),
    case("early hints", saying(b"HTTP/1.1 103 Early Hints\r\n\r\n" + answer()), ends=OK),
    case("good after bad", Peer.reset, babble, reply, ends=(LOST, wire.ANSWER_TOO_LARGE, OK)),
]  # fmt: skip


@pytest.mark.parametrize("case", AFTER_SENDING, ids=lambda case: case.name)
def test_a_request_that_left_is_never_called_not_sent_and_never_repeated(carrier: Carrier, case: Case) -> None:
    async def story(server: FaultyServer) -> list[Answer]:
        client = carrier.wire(server)
        ends = [await client.call("POST", "/payments", document=number) for number in range(len(case.ends))]
        await client.close()
        return ends

    with FaultyServer(*case.acts) as server:
        ends = carrier.run(story(server))
    if carrier.proves:
        assert ends == list(case.ends)
    else:
        assert [end for end in ends if isinstance(end, NotSent)] == []
        assert [end for end, expected in zip(ends, case.ends, strict=True) if isinstance(expected, Reply)] == [
            end for end in case.ends if isinstance(end, Reply)
        ]
    assert dict(server.heads) == {"POST": len(case.ends)}
    assert [request.body for request in server.requests] == [b"%d" % number for number in range(len(case.ends))]


def test_silence_ends_as_unknown_even_where_the_caller_set_no_deadline(carrier: Carrier) -> None:
    async def story(server: FaultyServer) -> list[Answer]:
        client = carrier.wire(server, read_s=SILENCE_S)
        ends = [await client.call("POST", "/payments", document=number) for number in range(2)]
        await client.close()
        return ends

    with FaultyServer(Peer.wait, saying(TEN_MB, b"{", then=Peer.wait)) as server:
        assert carrier.run(story(server)) == [wire.READ_TIMEOUT] * 2
    assert dict(server.heads) == {"POST": 2}


@pytest.mark.parametrize("act", [Peer.wait, drip, saying(TEN_MB, then=Peer.wait)], ids=["hang", "drip", "half"])
def test_the_deadline_of_the_caller_cuts_the_call_and_frees_its_connection(carrier: Carrier, act: Act) -> None:
    async def story(server: FaultyServer) -> Answer:
        client = carrier.wire(server, connections=1)
        await client.call("POST", "/payments")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SILENCE_S):
                await client.call("POST", "/payments")
        after = await client.call("POST", "/payments")
        await client.close()
        return after

    with FaultyServer(reply, act, reply) as server:
        assert carrier.run(story(server)) == OK
    assert dict(server.heads) == {"POST": 3}


def test_an_idle_connection_that_the_gateway_closed_is_not_used_again(carrier: Carrier) -> None:
    async def story(server: FaultyServer) -> list[Answer]:
        client = carrier.wire(server)
        ends = [await client.call("POST", "/payments")]
        await _noticed(server)
        ends.append(await client.call("POST", "/payments"))
        await client.close()
        return ends

    with FaultyServer(saying(answer(), then=Peer.end), reply) as server:
        assert carrier.run(story(server)) == [OK, OK]
    assert (dict(server.heads), server.connections) == ({"POST": 2}, 2)


def test_a_connection_that_ends_while_it_is_taken_again_leaves_unknown_at_worst(carrier: Carrier) -> None:
    """Who comes first, the end or the next request, differs from run to run; that there is no NOT_SENT does not."""

    async def story(server: FaultyServer) -> list[Answer]:
        client = carrier.wire(server)
        ends = [await client.call("POST", "/payments", document=number) for number in range(20)]
        await client.close()
        return ends

    with FaultyServer(saying(answer(), then=Peer.end)) as server:
        ends = carrier.run(story(server))
    assert [end for end in ends if end != OK and not isinstance(end, Unknown)] == []
    bodies = [request.body for request in server.requests]
    assert len(bodies) == len(set(bodies))


def says_more_at_once(peer: Peer) -> None:
    peer.say(answer(b"first") + answer(b"stray"))


def says_more_later(peer: Peer) -> None:
    peer.say(answer(b"first"))
    peer.server.signal.wait()
    peer.say(answer(b"stray"))


@pytest.mark.parametrize("act", [says_more_at_once, says_more_later])
def test_an_answer_that_nobody_asked_for_is_not_taken_for_that_of_the_next_payment(carrier: Carrier, act: Act) -> None:
    """httpx's own transport takes it when it comes at once, aiohttp when it comes later: there the wire looks first."""

    async def story(server: FaultyServer) -> list[Answer]:
        client = carrier.wire(server)
        ends = [await client.call("POST", "/payments")]
        server.signal.set()
        await _noticed(server)
        ends += [await client.call("POST", "/payments") for _ in range(2)]
        await client.close()
        return ends

    with FaultyServer(act, saying(answer(b"own"))) as server:
        ends = carrier.run(story(server))
    first, own = Reply(200, b"first", None), Reply(200, b"own", None)
    if carrier.proves:
        second = own if act is says_more_at_once else wire.NOT_SENT_STRAY_ANSWER
        assert ends == [first, second, own]
        assert server.heads["POST"] == len([end for end in ends if isinstance(end, Reply)])
    else:
        assert [end for end in ends if isinstance(end, NotSent)] == []


async def _noticed(server: FaultyServer) -> None:
    """Let the client's loop see what the server has done to the connection."""
    assert await asyncio.to_thread(server.acted.acquire, timeout=5)
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_question_may_be_asked_twice_on_the_way_and_an_order_may_not(carrier: Carrier) -> None:
    async def story(server: FaultyServer) -> list[Answer]:
        client = carrier.wire(server)
        ends = [await client.call(method, "/payments") for method in ("GET", "POST")]
        for method in ("PUT", "DELETE"):
            with pytest.raises(ValueError, match="may be repeated"):
                await client.call(method, "/payments")  # type: ignore[arg-type]
        await client.close()
        return ends

    with FaultyServer(Peer.end) as server:
        ends = carrier.run(story(server))
    assert [type(end) for end in ends] == [Unknown, Unknown]
    assert dict(server.heads) == {"GET": 2 if carrier.proves else 1, "POST": 1}
