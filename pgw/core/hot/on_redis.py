"""Breakers, slices of metrics, heartbeats -> the hot state that a fleet of processes shares, on Redis."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from pgw.core.breakers.breaker import Breaker, Key
from pgw.core.hot import scripts
from pgw.core.hot.in_process import LIVE_S
from pgw.core.ports import Heartbeat, HotUnavailable, Slices, StoredBreaker
from pgw.malformed import MALFORMED

ANSWER_WITHIN_S = 1.0
"""How long Redis may take for one call, connecting included; of payments only a probe waits for it."""

CONNECTIONS = 16
"""Concurrent calls; further ones wait for a connection within their own limit."""

REMEMBERED_S = 60
"""Age of a heartbeat from which it is deleted."""

SLICES_A_TRIP = 60
"""Slices read in one trip: ten minutes of metrics are far less than a call's time."""

STATE = "{pgw}:state"
"""Hash of generation, ledger id and base; without it the whole hot state counts as lost."""

GENERATION = "{pgw}:generation"
FLEET = "{pgw}:fleet"
METRICS = "{pgw}:metrics:"
BREAKER = "{pgw}:breaker:"

GONE = "its state was lost, or never there"
"""Why a reachable hot state is unusable: it was wiped, or is not initialised yet."""

Argument = str | bytes | int


class Server:
    """One Redis. Every call ends within its limit, and every fault is HotUnavailable; replies are as Redis gives them.

    A lost connection is reopened by the next call. No call is retried: what an unanswered one did is unknown.
    """

    def __init__(self, client: Any, faults: tuple[type[Exception], ...]) -> None:
        self._client = client
        self._faults = faults
        self._scripts: dict[str, Any] = {}

    async def ask(self, *command: Argument, within_s: float = ANSWER_WITHIN_S) -> Any:
        """Send one command."""
        async with self._bounded(within_s):
            return await self._client.execute_command(*command)

    async def ask_together(self, commands: Iterable[Sequence[Argument]]) -> list[Any]:
        """Send several commands in one trip; others' commands may come between them."""
        async with self._bounded(ANSWER_WITHIN_S), self._client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            replies: list[Any] = await pipeline.execute()
            return replies

    async def run(
        self, script: str, keys: Sequence[str], arguments: Sequence[Argument], within_s: float = ANSWER_WITHIN_S
    ) -> Any:
        """Run a script, which is loaded into Redis once and after each of its restarts."""
        known = self._scripts.get(script)
        if known is None:
            known = self._scripts[script] = self._client.register_script(script)
        async with self._bounded(within_s):
            return await known(keys, arguments)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    @asynccontextmanager
    async def _bounded(self, within_s: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(within_s):
                yield
        except self._faults as fault:
            detail = str(fault) or f"no answer within {within_s:g} s"
            lost = scripts.LOST in detail or "NOGROUP" in detail
            raise HotUnavailable(GONE if lost else f"{type(fault).__name__}: {detail}") from fault


def connect(url: str) -> Server:
    """Make the client of one Redis, which connects at the first call. One per process is enough: share it."""
    # Imported here: it takes 150 ms, which a process without Redis saves.
    from redis.asyncio import BlockingConnectionPool, Redis  # noqa: PLC0415
    from redis.asyncio.retry import Retry  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.exceptions import RedisError  # noqa: PLC0415

    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=ANSWER_WITHIN_S,
        # The limit of a call bounds its reads too, and a blocking read may take longer than the others.
        socket_timeout=None,
        socket_connect_timeout=ANSWER_WITHIN_S,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )
    client = Redis.from_pool(pool)
    client.response_callbacks.clear()
    return Server(client, (RedisError, OSError))


class OnRedis:
    """The hot state on one Redis; see HotState. Times are Redis' own, in epoch seconds."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def read_breakers(self, keys: Sequence[Key]) -> tuple[float, Mapping[Key, StoredBreaker]]:
        """Return Redis' time and each breaker; see HotState."""
        commands: list[Sequence[Argument]] = [("TIME",)]
        if keys:
            commands.append(("MGET", *map(_breaker_key, keys)))
        time, *stored = await self._server.ask_together(commands)
        return _seconds(time), dict(zip(keys, map(_held, stored[0] if stored else ()), strict=True))

    async def swap_breaker(self, key: Key, held: StoredBreaker, value: Breaker) -> bool:
        """Store `value` if the breaker is still as it was read."""
        arguments = (held.raw or b"", msgspec.json.encode(value))
        return bool(await self._server.run(scripts.SWAP, (_breaker_key(key),), arguments))

    async def changed_slices(self, generation: int, seen: Mapping[int, int]) -> Slices:
        """Return the slices that changed; see HotState.

        A slice may be newer than the revision it comes with; then it is returned again the next time.
        """
        present, revisions, now = await self._revisions(generation)
        known = seen if generation == present else {}
        changed = [(number, revision) for number, revision in revisions.items() if known.get(number) != revision]
        counts: dict[int, tuple[int, Mapping[str, int]]] = {}
        for start in range(0, len(changed), SLICES_A_TRIP):
            trip = changed[start : start + SLICES_A_TRIP]
            replies = await self._server.ask_together(("HGETALL", f"{METRICS}{present}:{number}") for number, _ in trip)
            for (number, revision), flat in zip(trip, replies, strict=True):
                counts[number] = (revision, {field.decode(): amount for field, amount in _pairs(flat)})
        return Slices(present, now, counts)

    async def beat(self, heartbeat: Heartbeat) -> tuple[Heartbeat, ...]:
        """Store a heartbeat; return those of all live processes, this one included, by Redis' clock."""
        arguments = (heartbeat.process, msgspec.json.encode(heartbeat), LIVE_S, REMEMBERED_S)
        fleet: list[bytes] = await self._server.run(scripts.BEAT, (FLEET,), arguments)
        return tuple(each for each in map(_heartbeat, fleet) if each is not None)

    async def close(self) -> None:
        """Close the connections."""
        await self._server.close()

    async def _revisions(self, guess: int) -> tuple[int, Mapping[int, int], float]:
        """Read the generation and its slices' revisions, in one trip if it is the one guessed, and the time."""
        time, stored, flat = await self._server.ask_together(
            (("TIME",), ("HGET", STATE, "generation"), ("HGETALL", f"{METRICS}{guess}:revs"))
        )
        if stored is None:
            raise HotUnavailable(GONE)
        generation = int(stored)
        if generation != guess:
            flat = await self._server.ask("HGETALL", f"{METRICS}{generation}:revs")
        return generation, {int(number): revision for number, revision in _pairs(flat)}, _seconds(time)


def _breaker_key(key: Key) -> str:
    gateway_id, payment_method = key
    return f"{BREAKER}{gateway_id}:{payment_method}"


def _held(raw: bytes | None) -> StoredBreaker:
    """Decode a breaker; one that another version wrote and this one cannot read counts as never stored."""
    if raw is None:
        return StoredBreaker(Breaker(), None)
    try:
        return StoredBreaker(msgspec.json.decode(raw, type=Breaker), raw)
    except MALFORMED:
        return StoredBreaker(Breaker(), raw)


def _heartbeat(stored: bytes) -> Heartbeat | None:
    """Decode a heartbeat; None for one that another version wrote and this one cannot read."""
    at, _, document = stored.partition(b" ")
    try:
        return msgspec.structs.replace(msgspec.json.decode(document, type=Heartbeat), at=float(at))
    except (ValueError, *MALFORMED):
        return None


def _pairs(flat: Sequence[bytes]) -> Iterable[tuple[bytes, int]]:
    return zip(flat[::2], map(int, flat[1::2]), strict=True)


def _seconds(time: Sequence[bytes]) -> float:
    seconds, microseconds = time
    return int(seconds) + int(microseconds) / 1e6
