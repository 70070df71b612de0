"""One wire: what it sends, how many calls it lets through at once, and what is left of it when it is closed."""

import asyncio
import traceback
from pathlib import Path
from typing import Literal

import httpx
import pytest

from pgw.core.gateways import wire
from pgw.core.gateways.wire import Answer, Reply, Wire
from pgw.core.payment.outcome import Blame, NotSent, Unknown
from pgw.core.ports import NOT_SENT_LEASE
from tests.core.gateways.carriers import BASIC, KEY_ID, SECRET, Carrier
from tests.core.gateways.faulty_server import FaultyServer, Peer, answer, full_listener, reply, saying

OK = Reply(200, b"{}", None)
SILENCE_S = 0.1


def answers_on_a_sign(peer: Peer) -> None:
    peer.server.signal.wait()
    reply(peer)


async def _arrived(server: FaultyServer) -> None:
    assert await asyncio.to_thread(server.arrived.acquire, timeout=5)


def test_a_call_arrives_as_it_was_meant(carrier: Carrier) -> None:
    query = {"receipt": "a b&c=d/é+%41", "count": "10"}

    async def story(server: FaultyServer) -> None:
        client = carrier.wire(server)
        await client.call("POST", "/orders", document={"amount": 1000}, headers={"X-Key": "k1"})
        await client.call("GET", "/orders", query=query)
        await client.close()

    with FaultyServer(reply) as server:
        carrier.run(story(server))
    post, get = server.requests
    assert (post.method, post.target, post.body) == ("POST", "/v1/orders", b'{"amount":1000}')
    assert post.headers == {
        "host": f"127.0.0.1:{server.port}",
        "accept": "application/json",
        "accept-encoding": "identity",
        "authorization": f"Basic {BASIC}",
        "user-agent": "pgw",
        "content-type": "application/json",
        "content-length": "15",
        "x-key": "k1",
    }
    assert (get.method, get.body) == ("GET", b"")
    assert dict(httpx.URL(get.target).params) == query
    assert "content-type" not in get.headers


def test_cookies_are_not_kept_and_redirects_not_followed(carrier: Carrier) -> None:
    async def story(server: FaultyServer) -> None:
        client = carrier.wire(server)
        for _ in range(2):
            await client.call("GET", "/payments")
        await client.close()

    here = saying(answer(b"", "307 Temporary Redirect", "Location: /v1/elsewhere", "Set-Cookie: who=me"))
    with FaultyServer(here) as server:
        carrier.run(story(server))
    assert [(each.target, "cookie" in each.headers) for each in server.requests] == [("/v1/payments", False)] * 2


def test_the_environment_has_no_say_in_where_a_call_goes(carrier: Carrier, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)

    async def story(server: FaultyServer) -> Answer:
        client = carrier.wire(server)
        try:
            return await client.call("POST", "/payments")
        finally:
            await client.close()

    with FaultyServer(reply) as server:
        assert carrier.run(story(server)) == OK


def test_a_sender_that_lost_its_lease_waiting_does_not_send(carrier: Carrier) -> None:
    """It is asked when its turn has come, not while other calls are under way."""
    asked: list[int] = []

    def may_send() -> bool:
        asked.append(len(server.requests))
        return False

    async def story() -> Answer:
        client = carrier.wire(server, connections=1)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(client.call("POST", "/payments"))
            await _arrived(server)
            second = tasks.create_task(client.call("POST", "/payments", may_send=may_send))
            await asyncio.sleep(0)
            assert asked == []
            server.signal.set()
        await client.close()
        return second.result()

    with FaultyServer(answers_on_a_sign) as server:
        assert carrier.run(story()) == NOT_SENT_LEASE
    assert (asked, dict(server.heads)) == ([1], {"POST": 1})


def test_calls_beyond_the_bulkhead_wait_for_a_bounded_time_and_are_then_not_sent(carrier: Carrier) -> None:
    async def story(server: FaultyServer) -> list[Answer]:
        client = carrier.wire(server, connections=2, connect_s=SILENCE_S)
        async with asyncio.TaskGroup() as tasks:
            first = [tasks.create_task(client.call("POST", "/payments")) for _ in range(2)]
            for _ in first:
                await _arrived(server)
            refused = await asyncio.gather(*(client.call("POST", "/payments") for _ in range(5)))
            assert refused == [NotSent("NOT_SENT_POOL", Blame.NONE)] * 5
            patient = tasks.create_task(client.call("POST", "/payments"))
            server.signal.set()
        await client.close()
        return [each.result() for each in (*first, patient)]

    with FaultyServer(answers_on_a_sign) as server:
        assert carrier.run(story(server)) == [OK] * 3
    assert dict(server.heads) == {"POST": 3}


@pytest.mark.parametrize("while_", ["waiting", "connecting", "sent"])
def test_a_cancelled_call_stays_cancelled_and_gives_its_place_up(
    carrier: Carrier, while_: Literal["waiting", "connecting", "sent"]
) -> None:
    async def cancel(call: asyncio.Task[Answer]) -> None:
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    async def story(server: FaultyServer, port: int) -> Answer:
        client = carrier.wire(server, connections=1)
        nowhere = carrier.wire(port, connections=1, connect_s=SILENCE_S)
        first = asyncio.create_task(client.call("POST", "/payments"))
        await _arrived(server)
        if while_ == "waiting":
            second = asyncio.create_task(client.call("POST", "/payments"))
            await asyncio.sleep(0)
            await cancel(second)
            server.signal.set()
            assert await first == OK
        elif while_ == "sent":
            await cancel(first)
        else:
            third = asyncio.create_task(nowhere.call("POST", "/payments"))
            await asyncio.sleep(0)
            await cancel(third)
            assert await nowhere.call("POST", "/payments") != wire.NOT_SENT_POOL
            await cancel(first)
        server.signal.set()
        after = await client.call("POST", "/payments")
        await client.close()
        await nowhere.close()
        return after

    with FaultyServer(answers_on_a_sign) as server, full_listener() as port:
        assert carrier.run(story(server, port)) == OK
    assert dict(server.heads) == {"POST": 2}


@pytest.mark.parametrize(("keepalive_s", "connections"), [(wire.KEEPALIVE_S, 1), (-1.0, 3)])
def test_a_connection_is_used_again_unless_it_has_idled_too_long(
    carrier: Carrier, monkeypatch: pytest.MonkeyPatch, keepalive_s: float, connections: int
) -> None:
    monkeypatch.setattr(wire, "KEEPALIVE_S", keepalive_s)

    async def story(server: FaultyServer) -> None:
        client = carrier.wire(server)
        for _ in range(3):
            assert await client.call("POST", "/payments") == OK
        await client.close()

    with FaultyServer(reply) as server:
        carrier.run(story(server))
    assert server.connections == (connections if carrier.proves else 1)


def _open_files() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


def test_nothing_is_left_of_a_closed_wire(carrier: Carrier) -> None:
    acts = (reply, Peer.reset, reply, saying(b"HTTP/1.1 ?\r\n\r\n"), reply, Peer.wait, reply)

    async def twenty_calls() -> None:
        with FaultyServer(*acts) as server:
            wires = [carrier.wire(server) for _ in range(4)]
            for client in wires:
                for _ in range(5):
                    cut = asyncio.wait_for(client.call("POST", "/payments"), SILENCE_S)
                    await asyncio.gather(cut, return_exceptions=True)
            for client in wires:
                await client.close()
        await asyncio.sleep(0)

    async def story() -> None:
        # The first time, loop and libraries open what they keep; a leak would show the second time as well.
        await twenty_calls()
        before = _open_files()
        await twenty_calls()
        assert _open_files() == before
        assert asyncio.all_tasks() == {asyncio.current_task()}

    carrier.run(story())


def test_the_secret_is_in_no_repr_and_no_error(carrier: Carrier) -> None:
    async def story(server: FaultyServer) -> list[str]:
        client = carrier.wire(server, connections=1)
        told = [repr(client), repr(vars(client)), str(client)]
        for document in (object(), "\ud800"):
            try:
                await client.call("POST", "/payments", document=document)
            except (TypeError, UnicodeEncodeError) as fault:
                told += traceback.format_exception(fault)
        told.append(repr(await client.call("POST", "/payments", headers={"X-Key": "a\r\nb: c"})))
        told += [repr(await client.call("POST", "/payments")) for _ in range(2)]
        try:
            async with asyncio.timeout(SILENCE_S):
                await client.call("POST", "/payments")
        except TimeoutError as fault:
            told += traceback.format_exception(fault)
        await client.close()
        told.append(repr(await client.call("POST", "/payments")))
        return told

    with FaultyServer(saying(b"HTTP/1.1 ?\r\n\r\n"), Peer.reset, Peer.wait, Peer.reset) as server:
        told = carrier.run(story(server))
    assert len(told) > 10
    assert [word for word in (SECRET, BASIC) if word in "\n".join(told)] == []


def test_a_wire_of_its_own_making_uses_the_transport_that_proves() -> None:
    async def story() -> Answer:
        client = Wire("http://127.0.0.1:1/", (KEY_ID, SECRET))
        try:
            return await client.call("POST", "/payments")
        finally:
            await client.close()

    assert asyncio.run(story()) == wire.NOT_SENT_REFUSED


def test_a_fault_that_nobody_foresaw_is_unknown_and_logged_by_its_type(caplog: pytest.LogCaptureFixture) -> None:
    class OddTransport(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            raise LookupError(request.headers["Authorization"])

    client = Wire("http://127.0.0.1:1", (KEY_ID, SECRET), transport=OddTransport())
    assert asyncio.run(client.call("POST", "/payments")) == Unknown("WIRE_FAULT", Blame.NONE)
    assert "LookupError" in caplog.text
    assert BASIC not in caplog.text
