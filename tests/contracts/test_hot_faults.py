"""Redis is stopped, killed, wiped or not there: every call ends and says so, and the next one after it simply works."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from pgw.core.breakers.breaker import Breaker
from pgw.core.hot.on_redis import CONNECTIONS, OnRedis, connect
from pgw.core.hot.stream import Stream, StreamEntry
from pgw.core.ports import Heartbeat, HotUnavailable, StoredBreaker
from tests.core.hot.mortal import MortalRedis
from tests.core.hot.streams import (
    GROUP,
    KEY,
    begun,
    blocked,
    counted,
    entries_from,
    numbers,
    once,
    opened,
    pending,
    until,
)
from tests.doubles import LEDGER_ID
from tests.services import ask_redis

RAZORPAY = ("razorpay", "UPI")
BEAT = Heartbeat(process="api-1", role="serve", config_version=1)


def _calls(hot: OnRedis, stream: Stream) -> list[Callable[[], Awaitable[object]]]:
    """Name every call there is."""
    return [
        lambda: hot.read_breakers([RAZORPAY]),
        lambda: hot.swap_breaker(RAZORPAY, StoredBreaker(Breaker(), None), Breaker(trips=1)),
        lambda: hot.changed_slices(0, {}),
        lambda: hot.beat(BEAT),
        stream.state,
        lambda: stream.append(3, entries_from(4, 1)),
        lambda: stream.deliver("worker", 1, 0),
        lambda: stream.deliver("worker", 1, 100),
        lambda: stream.claim("worker", 0, 1),
        lambda: stream.apply("worker", [1], once([1])),
        lambda: stream.bury("worker", StreamEntry(1, b"", 1), "reason"),
        stream.trim,
        stream.lag,
        lambda: stream.reset(LEDGER_ID, 3, once([1])),
    ]


async def _all_fail(hot: OnRedis, stream: Stream) -> None:
    """Make every call at once; none may hang, none may end in another way."""
    async with asyncio.timeout(50):
        answers = await asyncio.gather(*(call() for call in _calls(hot, stream)), return_exceptions=True)
    assert [type(each) for each in answers] == [HotUnavailable] * len(answers)


def test_a_stopped_redis_ends_every_call_and_answers_again_when_it_goes_on(redis: MortalRedis) -> None:
    async def scenario() -> None:
        async with begun(redis.url, 3) as stream:
            hot = OnRedis(stream._server)
            await hot.beat(BEAT)
            assert numbers(await stream.deliver("worker", 2, 0)) == [1, 2]
            redis.pause()
            with pytest.raises(HotUnavailable, match="no answer within 1 s"):
                await hot.beat(BEAT)
            await _all_fail(hot, stream)
            redis.resume()
            assert [each.process for each in await hot.beat(BEAT)] == ["api-1"]
            assert await stream.state() is not None
            assert (await hot.read_breakers([RAZORPAY]))[0] > 0

    asyncio.run(scenario())


def test_a_stopped_redis_keeps_nobody_from_leaving(redis: MortalRedis) -> None:
    async def scenario() -> None:
        hot = OnRedis(connect(redis.url))
        await asyncio.gather(*(hot.beat(BEAT) for _ in range(4)))
        redis.pause()
        async with asyncio.timeout(50):
            await hot.close()

    asyncio.run(scenario())


def test_a_killed_redis_comes_back_empty_and_every_script_is_known_again(redis: MortalRedis) -> None:
    async def scenario() -> None:
        async with begun(redis.url, 3) as stream:
            hot = OnRedis(stream._server)
            for call in _calls(hot, stream):
                await call()
            redis.kill()
            await _all_fail(hot, stream)
            redis.start()
            _, breakers = await hot.read_breakers([RAZORPAY])
            assert await hot.swap_breaker(RAZORPAY, breakers[RAZORPAY], Breaker(trips=2)) is True
            assert [each.process for each in await hot.beat(BEAT)] == ["api-1"]
            assert await stream.state() is None
            await stream.reset(LEDGER_ID, 2, once([1, 2]))
            assert await stream.append(2, entries_from(3, 2)) == 4
            assert numbers(await stream.deliver("worker", 10, 0)) == [3, 4]
            assert await stream.apply("worker", [3, 4], once([3, 4])) == set()
            assert await counted(redis.url) == once([1, 2, 3, 4])

    asyncio.run(scenario())


def test_a_reader_that_waits_learns_of_the_end_of_its_redis(redis: MortalRedis) -> None:
    async def scenario() -> None:
        async with begun(redis.url) as stream:
            waiting = asyncio.create_task(stream.deliver("worker", 1, 60_000))
            await until(lambda: blocked(redis.url))
            redis.kill()
            async with asyncio.timeout(50):
                with pytest.raises(HotUnavailable):
                    await waiting

    asyncio.run(scenario())


def test_scripts_that_were_flushed_are_sent_again(redis_url: str) -> None:
    async def scenario() -> None:
        async with begun(redis_url, 2) as stream:
            await stream.deliver("worker", 1, 0)
            ask_redis(redis_url, "SCRIPT", "FLUSH")
            assert await stream.apply("worker", [1], once([1])) == set()
            assert await stream.append(2, entries_from(3, 1)) == 3

    asyncio.run(scenario())


def test_connections_that_redis_closed_are_made_anew(redis_url: str) -> None:
    async def scenario() -> None:
        async with begun(redis_url, 1) as stream:
            hot = OnRedis(stream._server)
            await asyncio.gather(*(hot.read_breakers([RAZORPAY]) for _ in range(8)))
            ask_redis(redis_url, "CLIENT", "KILL", "TYPE", "normal")
            # The end of a connection is news like any other: it arrives when the loop looks.
            await asyncio.sleep(0)
            await asyncio.gather(*(hot.read_breakers([RAZORPAY]) for _ in range(8)))

    asyncio.run(scenario())


def test_where_nothing_listens_every_call_says_so() -> None:
    async def scenario() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            server = connect(f"redis://127.0.0.1:{taken.getsockname()[1]}/0")
            await _all_fail(OnRedis(server), Stream(server, KEY, GROUP))
            await server.close()

    asyncio.run(scenario())


def test_a_call_whose_answer_was_lost_is_not_made_again() -> None:
    """The swap may have won: made again it would lose to itself, and its winner would not know."""
    swaps = []

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Be a Redis that takes a script and goes; introductions are answered."""
        said = await reader.read(10_000)
        while said and b"EVALSHA" not in said:
            writer.write(b"+OK\r\n" * said.count(b"\r\nCLIENT\r\n"))
            said = await reader.read(10_000)
        swaps.append(said)
        writer.close()

    async def scenario() -> None:
        async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as listening:
            hot = OnRedis(connect(f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}/0"))
            with pytest.raises(HotUnavailable):
                await hot.swap_breaker(RAZORPAY, StoredBreaker(Breaker(), None), Breaker(trips=1))
            await hot.close()
        assert [b"{pgw}:breaker:razorpay:UPI" in said for said in swaps] == [True]

    asyncio.run(scenario())


def test_a_wrong_password_is_an_unavailable_redis(redis_url: str) -> None:
    async def scenario() -> None:
        server = connect("redis://:wrong@" + redis_url.rpartition("@")[2])
        await _all_fail(OnRedis(server), Stream(server, KEY, GROUP))
        await server.close()

    asyncio.run(scenario())


def test_a_caller_that_gives_up_leaves_no_answer_behind_for_the_next(redis_url: str) -> None:
    """Each is cancelled at another point of its call; an answer on a connection given back would meet a stranger."""

    async def scenario() -> None:
        async with begun(redis_url, 40) as stream:
            hot = OnRedis(stream._server)
            for turns in range(40):
                task = asyncio.create_task(hot.beat(BEAT))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait({task})
                _, breakers = await hot.read_breakers([RAZORPAY])
                assert breakers == {RAZORPAY: StoredBreaker(Breaker(), None)}
                assert [each.number for each in await stream.deliver("worker", 1, 0)] == [turns + 1]

    asyncio.run(scenario())


def test_a_cancelled_wait_gives_its_entries_to_nobody_or_to_its_consumer(redis_url: str) -> None:
    async def scenario() -> None:
        async with begun(redis_url) as stream, opened(redis_url) as another:
            waiting = asyncio.create_task(stream.deliver("worker-1", 10, 60_000))
            await until(lambda: blocked(redis_url))
            waiting.cancel()
            await asyncio.wait({waiting})
            await until(lambda: not blocked(redis_url))
            await stream.append(0, entries_from(1, 1))
            assert numbers(await another.deliver("worker-2", 10, 0)) == [1]
            assert pending(redis_url) == 1

    asyncio.run(scenario())


def test_more_callers_than_connections_are_all_answered(redis_url: str) -> None:
    async def scenario() -> None:
        hot = OnRedis(connect(redis_url))
        answers = await asyncio.gather(*(hot.read_breakers([RAZORPAY]) for _ in range(20 * CONNECTIONS)))
        assert len(answers) == 20 * CONNECTIONS
        assert int(ask_redis(redis_url, "EVAL", CLIENTS, "0") or 0) <= CONNECTIONS + 1
        await hot.close()

    asyncio.run(scenario())


CLIENTS = "return string.match(redis.call('INFO', 'clients'), 'connected_clients:(%d+)')"
