"""Calls and outcomes -> Breakers: which gateway may be called, decided locally and agreed on with other processes."""

import logging
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from random import Random

from pgw.core.breakers.admission import Admission
from pgw.core.breakers.breaker import Breaker, CallOutcome, Key, Permit, Rules, State, View, shifted
from pgw.core.breakers.override import Override
from pgw.core.breakers.transition import JITTER, ProbeRequest, Release, Report, Signal, Succeeded, Vote, transition
from pgw.core.breakers.window import NO_CALLS, CallRates
from pgw.core.flow.breakers.local_and_shared import LocalAndShared
from pgw.core.flow.breakers.shared_store import SharedStore
from pgw.core.flow.breakers.transition_log import TransitionLog
from pgw.core.ports import Clock, HotState, HotUnavailable, StoredBreaker

log = logging.getLogger(__name__)

MAX_SWAPS = 5
"""Tries to change a shared breaker that others change too; each one lost means that another process won."""


class Breakers:
    """The breakers of one process; the Circuit port.

    `process` names this one in votes, leases and history. `shared`: other processes share the store `hot`; without
    them the local state decides, and the store is not used. `changed` is called when `views` would return another
    value. Lives on one event loop.
    """

    def __init__(
        self,
        process: str,
        clock: Clock,
        rng: Random,
        hot: HotState,
        rules: Callable[[], Rules],
        changed: Callable[[], None],
        shared: bool,
    ) -> None:
        self._process = process
        self._clock = clock
        self._hot = hot
        self._rng = rng
        self._rules = rules
        self._changed = changed
        self._shared = shared
        self._breakers: dict[Key, LocalAndShared] = {}
        self._shared_store = SharedStore(hot, clock, self._rejoin_shared_store)
        self.transition_log = TransitionLog(process, clock, rng)

    async def admit(self, key: Key, admission: Admission, lease_s: float) -> Permit | None:
        """Return a permit to call; see Circuit."""
        pair = self._of(key)
        match admission.state:
            case State.OPEN | State.FORCED_OPEN:
                return None
            case State.HALF_OPEN:
                permit = await self._probe(key, pair, lease_s)
            case _:
                permit = Permit(key, admission.state, pair.epoch)
        if permit is not None:
            pair.in_flight += 1
        return permit

    def record(self, permit: Permit, outcome: CallOutcome, latency_ms: int) -> None:
        """Record one call's outcome; see Circuit. A call that was made although its breaker was OPEN moves none."""
        if permit.state is State.OPEN:
            return
        pair = self._of(permit.key)
        pair.in_flight -= 1
        if permit.lease_id is not None:
            report = Report(permit.epoch, permit.lease_id, outcome)
            if any(each.lease_id == permit.lease_id for each in pair.local.leases):
                self._move(permit.key, pair, report)
            elif self._shared:
                pair.reports.append(report)
        elif permit.epoch == pair.epoch:
            self._fold(permit.key, pair, outcome, latency_ms)

    def deposit(self, key: Key) -> None:
        """Count one first attempt; see Circuit."""
        self._of(key).budget.deposit(self._clock.elapsed())

    def withdraw(self, key: Key) -> bool:
        """Spend one fallback; see Circuit."""
        return self._of(key).budget.withdraw(self._clock.elapsed())

    def views(self) -> Mapping[Key, View]:
        """Return the view of each breaker that ever opened, for the snapshot."""
        now, offset_s = self._clock.now(), self._shared_store.offset_s
        at = now, self._clock.elapsed(), offset_s, self._rules()
        return {key: view for key, each in self._breakers.items() if (view := each.view(*at)) is not None}

    def local_figures(self, key: Key) -> CallRates:
        """Return this process's own rates of a gateway since its breaker's last transition."""
        pair = self._breakers.get(key)
        return NO_CALLS if pair is None else pair.window.tally(self._clock.elapsed(), self._rules())

    def in_flight(self) -> Mapping[Key, int]:
        """Count the admitted calls whose outcome is not recorded yet."""
        return {key: each.in_flight for key, each in self._breakers.items() if each.in_flight}

    def restore(self, values: Mapping[Key, Breaker]) -> None:
        """Start from each shared breaker's last state in the ledger; a newer one in the store replaces it."""
        for key, value in values.items():
            pair = self._of(key)
            if self._shared:
                pair.absorb(value)
            else:
                pair.local = shifted(value, -self._epoch_offset())
        self._changed()

    async def step(self, keys: Iterable[Key], overrides: Mapping[Key, Override], live: frozenset[str]) -> None:
        """Publish local signals and take the shared state; while the store is unreachable, continue locally.

        `keys`: every breaker there is. `live`: the processes with a current heartbeat.
        """
        keys = tuple(keys)
        if self._shared:
            try:
                stored = await self._shared_store.read(keys)
                for key in keys:
                    await self._agree(key, stored[key], overrides.get(key), live)
            except HotUnavailable as fault:
                self._lose_shared_store(fault)
        if not self._shared or self._shared_store.is_lost:
            for key in keys:
                pair = self._of(key)
                release = self._release_due(overrides.get(key), pair.released)
                if release is not None:
                    self._move(key, pair, release)

    async def _probe(self, key: Key, pair: LocalAndShared, lease_s: float) -> Permit | None:
        """Lease a probe from the store, or locally where the local breaker decides or the store is unreachable."""
        ask = ProbeRequest(f"{self._process}:{self._rng.getrandbits(64):016x}", lease_s)
        # One at a time: a waiter sees what the one before it read, mostly that no lease is left.
        async with pair.probing:
            if pair.is_shared:
                try:
                    return await self._probe_shared(key, pair, ask)
                except HotUnavailable as fault:
                    self._lose_shared_store(fault)
            self._move(key, pair, ask)
            return _granted(key, pair.local, ask)

    async def _probe_shared(self, key: Key, pair: LocalAndShared, ask: ProbeRequest) -> Permit | None:
        if self._after(pair.shared, ask) is pair.shared:
            return None
        for _ in range(MAX_SWAPS):
            held = (await self._shared_store.read((key,)))[key]
            value = self._after(held.value, ask)
            if value is held.value:
                self._absorb(pair, value)
                return None
            if await self._hot.swap_breaker(key, held, value):
                self._swapped(key, pair, (held.value, value))
                return _granted(key, value, ask)
        return None

    def _fold(self, key: Key, pair: LocalAndShared, outcome: CallOutcome, latency_ms: int) -> None:
        tripping = pair.fold(outcome, latency_ms, self._clock.elapsed(), self._rules())
        if tripping is not None:
            pair.tripping = tripping
            self._move(
                key, pair, Vote(self._process, tripping.cause, tripping.incident_from, frozenset({self._process}))
            )
        elif outcome is CallOutcome.GOOD and pair.local.trips:
            self._move(key, pair, Succeeded(pair.local.epoch, 1))

    def _move(self, key: Key, pair: LocalAndShared, signal: Signal) -> None:
        """Apply a signal to the local breaker, at once."""
        before = pair.move(signal, self._clock.elapsed(), self._rules(), self._jitter())
        if pair.local is before:
            return
        if pair.local.epoch != before.epoch:
            after = shifted(pair.local, self._epoch_offset())
            self.transition_log.append(key, "process" if self._shared else "shared", before, after)
        self._changed()

    async def _agree(self, key: Key, held: StoredBreaker, override: Override | None, live: frozenset[str]) -> None:
        """Bring one shared breaker and this process into agreement; after MAX_SWAPS lost, the next step tries again."""
        pair = self._of(key)
        for _ in range(MAX_SWAPS):
            self._absorb(pair, held.value)
            # A store that is behind this process has lost its state: the last value read of it is restored.
            base = pair.shared if pair.shared.epoch > held.value.epoch else held.value
            signals = pair.signals(self._process, live, base, self._shared_store.now(), self._shared_store.offset_s)
            release = self._release_due(override, base.released)
            signals += () if release is None else (release,)
            values = [base]
            for signal in signals:
                values.append(self._after(values[-1], signal))
            if values[-1] is held.value or await self._hot.swap_breaker(key, held, values[-1]):
                self._swapped(key, pair, values)
                pair.delivered(signals)
                return
            held = (await self._shared_store.read((key,)))[key]

    def _after(self, shared: Breaker, signal: Signal) -> Breaker:
        return transition(shared, signal, self._shared_store.now(), self._rules(), self._jitter())

    def _release_due(self, override: Override | None, released: int) -> Release | None:
        """Return the end of a forced-open override that has not been taken into account yet."""
        if override is None or override.state is not State.FORCED_OPEN or self._clock.now() < override.expires_at:
            return None
        return Release(override.version) if override.version > released else None

    def _swapped(self, key: Key, pair: LocalAndShared, values: Iterable[Breaker]) -> None:
        """Take the values that this process just stored, and log their transitions."""
        for before, after in pairwise(values):
            if after.epoch != before.epoch:
                self.transition_log.append(key, "shared", before, after)
            self._absorb(pair, after)

    def _absorb(self, pair: LocalAndShared, value: Breaker) -> None:
        if pair.absorb(value):
            self._changed()

    def _lose_shared_store(self, fault: HotUnavailable) -> None:
        if self._shared_store.is_lost:
            return
        log.warning("the shared breakers cannot be reached, continuing with local state: %s", fault)
        self._shared_store.is_lost = True
        for pair in self._breakers.values():
            pair.detach(self._clock.elapsed(), self._shared_store.offset_s)
        self._changed()

    def _rejoin_shared_store(self) -> None:
        log.warning("the shared breakers can be reached again")
        for pair in self._breakers.values():
            pair.alone = False
        self._changed()

    def _of(self, key: Key) -> LocalAndShared:
        pair = self._breakers.get(key)
        if pair is None:
            pair = self._breakers[key] = LocalAndShared(alone=not self._shared)
        return pair

    def _epoch_offset(self) -> float:
        """Return the seconds by which this process's epoch time is ahead of its `elapsed`."""
        return self._clock.now().timestamp() - self._clock.elapsed()

    def _jitter(self) -> float:
        return self._rng.uniform(*JITTER)


def _granted(key: Key, breaker: Breaker, ask: ProbeRequest) -> Permit | None:
    is_leased = any(each.lease_id == ask.lease_id for each in breaker.leases)
    return Permit(key, State.HALF_OPEN, breaker.epoch, ask.lease_id) if is_leased else None
