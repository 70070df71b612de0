"""Four processes rush at a half-open breaker in one Redis: three probes pass, and a dead one's lease is given on."""

import asyncio
from contextlib import AsyncExitStack
from random import Random

from pgw.core.breakers.admission import Admission
from pgw.core.breakers.breaker import Breaker, CallOutcome, Key, Rules, State, TransitionCause
from pgw.core.flow.breakers.circuit import Breakers
from pgw.core.flow.runtime.clock import SystemClock
from pgw.core.hot.on_redis import OnRedis, connect

KEY: Key = ("razorpay", "UPI")
HALF_OPEN = Admission(State.HALF_OPEN)
LIVE = frozenset({"w0", "w1", "w2", "w3"})


def test_a_stampede_on_redis_lets_three_through_and_a_dead_probers_lease_ends(redis_url: str) -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            stores = [OnRedis(connect(redis_url)) for _ in LIVE]
            for store in stores:
                stack.push_async_callback(store.close)
            _, found = await stores[0].read_breakers((KEY,))
            # Its open time has long been over.
            opened = Breaker(
                state=State.OPEN, epoch=1, since=1.0, until=2.0, trips=1, cause=TransitionCause.FAILURE_RATE
            )
            assert await stores[0].swap_breaker(KEY, found[KEY], opened)
            fleet = [
                Breakers(name, SystemClock(), Random(name), store, Rules, lambda: None, shared=True)
                for name, store in zip(sorted(LIVE), stores, strict=True)
            ]
            for each in fleet:
                await each.step((KEY,), {}, LIVE)
            lease_s = 30.0
            asked = [(each, each.admit(KEY, HALF_OPEN, lease_s)) for each in fleet for _ in range(25)]
            answers = await asyncio.gather(*(answer for _, answer in asked))
            given = [(each, got) for (each, _), got in zip(asked, answers, strict=True) if got is not None]
            assert len(given) == 3

            # One of them reports that nobody is to blame: its lease is free, for one that dies at once.
            prober, admission = given[0]
            prober.record(admission, CallOutcome.NOTHING, 20)
            await prober.step((KEY,), {}, LIVE)
            dying = await prober.admit(KEY, HALF_OPEN, 0.0)
            assert dying is not None
            assert await prober.admit(KEY, HALF_OPEN, lease_s) is not None
            assert await prober.admit(KEY, HALF_OPEN, lease_s) is None

    asyncio.run(scenario())
