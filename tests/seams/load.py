"""An address, a seed -> many clients at once, and what each key was answered."""

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

CONNECTIONS = 32
FLEET_CONNECTIONS, FLEET_PAUSE_S = 6, 0.02
"""At a whole fleet, with a pause after each answer: its members and stores, and who just starts, share the machine."""

RECONNECT_S = 0.05
ANSWER_LIMIT_S = 20.0

Address = tuple[str, int]

VPAS = (
    (70, "test@okhdfcbank"),
    (8, "failure@sandbox"),
    (8, "gateway-error@sandbox"),
    (4, "timeout@sandbox"),
    (4, "late@sandbox"),
    (2, "slow@sandbox"),
)
"""Weights and addresses; the magic ones decline, fall back, never answer, answer late."""

EXPECTED = {
    201: {"SUCCESS", "FAILURE"},
    202: {"PENDING_VERIFICATION"},
    409: {"IDEMPOTENCY_KEY_IN_USE"},
    503: {"DRAINING", "LEDGER_UNAVAILABLE"},
}
"""Status codes and the words that may come with them; anything else is a fault of the server."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: the status code, the payment's id and status, or the refusal's code."""

    code: int
    payment_id: str | None
    word: str


@dataclass
class Told:
    """The answers of all keys, in order; how many requests were made under load, and answered."""

    answers: dict[str, list[Answer]] = field(default_factory=lambda: defaultdict(list))
    asked: int = 0
    heard: int = 0

    def acknowledged(self, word: str) -> dict[str, str]:
        """Map the payments that were acknowledged with a final word to their keys."""
        return {
            str(each.payment_id): key
            for key, told in self.answers.items()
            for each in told
            if (each.code, each.word) == (201, word)
        }

    def ids(self, key: str) -> set[str]:
        """Name every payment a key was answered with."""
        return {each.payment_id for each in self.answers.get(key, ()) if each.payment_id is not None}

    def unexpected(self) -> list[Answer]:
        """List the answers that no client should ever get."""
        return [
            each for told in self.answers.values() for each in told if each.word not in EXPECTED.get(each.code, set())
        ]


def body_of(key: str) -> dict[str, Any]:
    """Write the request of a key: the same key always asks the same."""
    rng = Random(key)
    vpa = rng.choices([each for _, each in VPAS], [weight for weight, _ in VPAS])[0]
    return {
        "amount_minor": rng.randint(1, 10_000),
        "currency": "INR",
        "payment_method": "UPI",
        "merchant_id": "m_001",
        "customer_id": "cust_001",
        "instrument": {"type": "UPI", "vpa": vpa},
    }


class Clients:
    """Many connections asking for payments: mostly new ones, and again for keys that were asked before."""

    def __init__(self, seed: int) -> None:
        self.told = Told()
        self._rng = Random(seed)
        self._prefix = f"seed{seed}"
        self._keys: list[str] = []
        self._answered = asyncio.Condition()

    @property
    def keys(self) -> list[str]:
        """List every key ever asked for."""
        return self._keys

    def at_work(self, address: Address) -> contextlib.AbstractAsyncContextManager[None]:
        """Let them all ask for as long as the block runs; whoever loses his connection connects anew, or gives up."""
        return self._working([self._work(address) for _ in range(CONNECTIONS)])

    def at_fleet(self, addresses: Sequence[Address]) -> contextlib.AbstractAsyncContextManager[None]:
        """Let clients ask wherever a server serves, without giving up; the addresses may change meanwhile."""
        return self._working([self._wander(addresses, number) for number in range(FLEET_CONNECTIONS)])

    @contextlib.asynccontextmanager
    async def _working(self, work: Sequence[Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
        working = [asyncio.create_task(each) for each in work]
        try:
            yield
        finally:
            given_up = sum(each.done() for each in working)
            for each in working:
                each.cancel()
            ends = await asyncio.gather(*working, return_exceptions=True)
            faults = [end for end in ends if isinstance(end, Exception)]
            assert faults == [], f"{given_up} of {len(working)} had given up"

    async def answered(self, more: int) -> None:
        """Wait until so many more answers have come."""
        enough = self.told.heard + more
        async with asyncio.timeout(ANSWER_LIMIT_S), self._answered:
            await self._answered.wait_for(lambda: self.told.heard >= enough)

    def _next_key(self) -> str:
        if self._keys and self._rng.random() < 0.2:
            return self._rng.choice(self._keys)
        self._keys.append(f"{self._prefix}-{len(self._keys)}")
        return self._keys[-1]

    async def _work(self, address: Address) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                await self._connected(address)

    async def _wander(self, addresses: Sequence[Address], turn: int) -> None:
        while True:
            turn += 1
            with contextlib.suppress(ConnectionError):
                await self._connected(addresses[turn % len(addresses)], FLEET_PAUSE_S)
            await asyncio.sleep(RECONNECT_S)

    async def _connected(self, address: Address, pause_s: float = 0.0) -> None:
        """Ask on one connection until the server ends it. Raises ConnectionError when there is no listener any more."""
        reader, writer = await asyncio.open_connection(*address)
        try:
            while True:
                key = self._next_key()
                self.told.asked += 1
                try:
                    answer, goes_on = await ask(reader, writer, key)
                except (ConnectionError, asyncio.IncompleteReadError):
                    return
                self.told.heard += 1
                self.told.answers[key].append(answer)
                async with self._answered:
                    self._answered.notify_all()
                if not goes_on:
                    return
                await asyncio.sleep(pause_s)
        finally:
            writer.close()

    async def ask_again(self, address: Address, keys: Sequence[str]) -> dict[str, Answer]:
        """Ask once more for each key, one after another."""
        answers = {}
        reader, writer = await asyncio.open_connection(*address)
        for key in keys:
            answers[key], _ = await ask(reader, writer, key)
        writer.close()
        await writer.wait_closed()
        return answers


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str) -> tuple[Answer, bool]:
    """Post the payment of a key and read its answer; also whether the connection goes on."""
    body = json.dumps(body_of(key)).encode()
    head = (
        f"POST /payments HTTP/1.1\r\nHost: pgw\r\nIdempotency-Key: {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    async with asyncio.timeout(ANSWER_LIMIT_S):
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        document = json.loads(await reader.readexactly(int(headers["content-length"])))
    answer = Answer(int(lines[0].split()[1]), document.get("payment_id"), document.get("code") or document["status"])
    return answer, headers.get("connection") != "close"
