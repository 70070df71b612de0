"""A house, a rate -> payments at that rate whatever comes back, each once more where its answer was no end."""

import asyncio

from pgw.assembly import Runtime
from pgw.core.errors import PgwError
from pgw.core.flow.payments.take import take
from pgw.core.payment.payment import PaymentRequest
from pgw.core.routing.plan import is_degraded
from pgw.drill.scorecard import REFUSED, PaymentAnswer

MOST_UNDER_WAY = 2_000
"""Payments under way at once; beyond it the load waits: the drill would only measure its own queue."""


class Load:
    """Customers of one server, in its own process: from the decision on all is real, only HTTP is left out."""

    def __init__(self, runtime: Runtime, request: PaymentRequest, rate: float) -> None:
        self._runtime = runtime
        self._request = request
        self._rate = rate
        self._number = 0
        self._free = asyncio.Semaphore(MOST_UNDER_WAY)
        self._under_way: set[asyncio.Task[None]] = set()
        self.answers: list[PaymentAnswer] = []
        self.asked_again = 0

    @property
    def now(self) -> float:
        """Return the time in epoch seconds."""
        return self._runtime.clock.now().timestamp()

    async def send(self, seconds: float) -> None:
        """Send for so long, at the rate, without waiting for answers."""
        began = self.now
        for sent in range(round(seconds * self._rate)):
            await asyncio.sleep(max(0.0, began + sent / self._rate - self.now))
            await self._free.acquire()
            self._number += 1
            task = asyncio.create_task(self._pay(f"drill-{self._number}"))
            self._under_way.add(task)
            task.add_done_callback(self._done)
        await asyncio.sleep(max(0.0, began + seconds - self.now))

    async def finish(self) -> None:
        """Wait for every answer."""
        while self._under_way:
            await asyncio.gather(*self._under_way)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._free.release()

    async def _pay(self, key: str) -> None:
        runtime = self._runtime
        at, began = self.now, runtime.clock.elapsed()
        degraded = is_degraded(runtime.snapshot(), runtime.clock.now())
        payment_id, status = None, REFUSED
        try:
            payment = (await runtime.tasks.run(take(runtime, self._request, key))).payment
            payment_id, status = payment.payment_id, payment.status
        except PgwError:
            is_open = False
        else:
            is_open = not status.is_final
        took_ms = (runtime.clock.elapsed() - began) * 1000
        self.answers.append(
            PaymentAnswer(payment_id=payment_id, status=str(status), at=at, took_ms=took_ms, degraded=degraded)
        )
        if is_open:
            await self._ask_again(key)

    async def _ask_again(self, key: str) -> None:
        """Do what impatient clients do: the same key once more. It must move no money."""
        self.asked_again += 1
        try:
            await self._runtime.tasks.run(take(self._runtime, self._request, key))
        except PgwError:
            return
