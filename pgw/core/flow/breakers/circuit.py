"""Calls and outcomes -> Breakers: who may call which gateway, decided here and agreed on with other processes."""

import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from itertools import pairwise
from random import Random

from pgw.core.breakers.admission import Admission
from pgw.core.breakers.breaker import Breaker, CallOutcome, Key, Permit, Rules, State, View, shifted
from pgw.core.breakers.override import Override
from pgw.core.breakers.transition import JITTER, Ask, Release, Report, Signal, Succeeded, Vote, transition
from pgw.core.breakers.window import NO_CALLS, CallRates
from pgw.core.flow.breakers.local_and_shared import LocalAndShared
from pgw.core.flow.breakers.shared_store import SharedStore
from pgw.core.flow.breakers.transition_log import TransitionLog
from pgw.core.ports import Clock, HotState, HotUnavailable, Ledger, StoredBreaker

log = logging.getLogger(__name__)

MAX_SWAPS = 5
"""Tries to change a shared breaker that others change too; each lost one means that somebody else got on."""


class Breakers:
    """The breakers of one process; the Circuit port.

    `me` names this process in votes, leases and history. `shared`: other processes share the store `hot`; without them
    the process's own word is all there is, and the store is not asked. `changed` is called when `views` would answer
    otherwise than before. Lives on one event loop.
    """

    def __init__(
        self,
        me: str,
        clock: Clock,
        rng: Random,
        hot: HotState,
        rules: Callable[[], Rules],
        changed: Callable[[], None],
        shared: bool,
    ) -> None:
        self._me = me
        self._clock = clock
        self._rng = rng
        self._rules = rules
        self._changed = changed
        self._shared = shared
        self._breakers: dict[Key, LocalAndShared] = {}
        self._shared_store = SharedStore(hot, clock, self._rejoin_shared_store)
        self._transition_log = TransitionLog(me, clock, rng)
        self.transitions = self._transition_log.transitions
        """What the ledger has not been told yet, oldest first."""
        self._as_of: datetime | None = None

    @property
    def as_of(self) -> datetime | None:
        """When the store last answered for all; None while it never did, and always in a process that is alone."""
        return self._as_of

    async def admit(self, key: Key, standing: Admission, lease_s: float) -> Permit | None:
        """Give leave to call; see Circuit."""
        pair = self._of(key)
        match standing.state:
            case State.OPEN | State.FORCED_OPEN:
                return None
            case State.HALF_OPEN:
                admission = await self._probe(key, pair, lease_s)
            case _:
                admission = Permit(key, standing.state, pair.epoch)
        if admission is not None:
            pair.in_flight += 1
        return admission

    def record(self, admission: Permit, sign: CallOutcome, latency_ms: int) -> None:
        """Take one call's outcome; see Circuit. A call that was made although its breaker was OPEN moves none."""
        if admission.state is State.OPEN:
            return
        pair = self._of(admission.key)
        pair.in_flight -= 1
        if admission.lease_id is not None:
            report = Report(admission.epoch, admission.lease_id, sign)
            if any(each.lease_id == admission.lease_id for each in pair.local.leases):
                self._move(admission.key, pair, report)
            elif self._shared:
                pair.reports.append(report)
        elif admission.epoch == pair.epoch:
            self._fold(admission.key, pair, sign, latency_ms)

    def deposit(self, key: Key) -> None:
        """Count one first attempt; see Circuit."""
        self._of(key).budget.deposit(self._clock.elapsed())

    def withdraw(self, key: Key) -> bool:
        """Spend one fallback; see Circuit."""
        return self._of(key).budget.withdraw(self._clock.elapsed())

    def views(self) -> Mapping[Key, View]:
        """Return what decisions may know of each breaker that ever moved."""
        now, elapsed, rules = self._clock.now(), self._clock.elapsed(), self._rules()
        shown = ((key, each.view(now, elapsed, self._shared_store.lead, rules)) for key, each in self._breakers.items())
        return {key: view for key, view in shown if view is not None}

    def local_figures(self, key: Key) -> CallRates:
        """Return what this process saw of a gateway since its breaker last moved."""
        pair = self._breakers.get(key)
        return NO_CALLS if pair is None else pair.window.tally(self._clock.elapsed(), self._rules())

    def in_flight(self) -> Mapping[Key, int]:
        """Count the calls that were admitted and whose outcome is not recorded yet."""
        return {key: each.in_flight for key, each in self._breakers.items() if each.in_flight}

    def remember(self, values: Mapping[Key, Breaker]) -> None:
        """Take the ledger's last word of each shared breaker, at the start; where the store knows more, that holds."""
        for key, value in values.items():
            pair = self._of(key)
            if self._shared:
                pair.absorb(value)
            else:
                pair.local = shifted(value, -self._epoch_offset())
        self._changed()

    async def step(self, keys: Iterable[Key], overrides: Mapping[Key, Override], live: frozenset[str]) -> None:
        """Tell the others what was seen here, and learn what they know; while the store is away, go on alone.

        `keys`: every breaker there is. `live`: the processes that live, by their heartbeats.
        """
        asked = tuple(keys)
        if self._shared:
            try:
                found = await self._shared_store.read(asked)
                for key in asked:
                    await self._agree(key, found[key], overrides.get(key), live)
                self._as_of = self._clock.now()
            except HotUnavailable as fault:
                self._lose_shared_store(fault)
        if not self._shared or self._shared_store.is_lost:
            for key in asked:
                pair = self._of(key)
                release = self._release_due(overrides.get(key), pair.released)
                if release is not None:
                    self._move(key, pair, release)

    async def publish(self, ledger: Ledger) -> None:
        """Write the transitions not yet written; raises LedgerUnavailable and keeps what was not."""
        await self._transition_log.publish(ledger)

    async def _probe(self, key: Key, pair: LocalAndShared, lease_s: float) -> Permit | None:
        """Ask for a lease: the store, or this process's own level where that one decides or the store is away."""
        ask = Ask(f"{self._me}:{self._rng.getrandbits(64):016x}", lease_s)
        # One at a time: who waits here sees what the one before learnt, mostly that no lease is left.
        async with pair.asking:
            if pair.is_shared:
                try:
                    return await self._ask_store(key, pair, ask)
                except HotUnavailable as fault:
                    self._lose_shared_store(fault)
            self._move(key, pair, ask)
            return _granted(key, pair.local, ask)

    async def _ask_store(self, key: Key, pair: LocalAndShared, ask: Ask) -> Permit | None:
        if self._after(pair.shared, ask) is pair.shared:
            return None
        for _ in range(MAX_SWAPS):
            held = (await self._shared_store.read((key,)))[key]
            value = self._after(held.value, ask)
            if value is held.value:
                self._absorb(pair, value)
                return None
            if await self._shared_store.swap(key, held, value):
                self._swapped(key, pair, (held.value, value))
                return _granted(key, value, ask)
        return None

    def _fold(self, key: Key, pair: LocalAndShared, sign: CallOutcome, latency_ms: int) -> None:
        tripping = pair.fold(sign, latency_ms, self._clock.elapsed(), self._rules())
        if tripping is not None:
            pair.tripping = tripping
            self._move(key, pair, Vote(self._me, tripping.cause, tripping.incident_from, frozenset({self._me})))
        elif sign is CallOutcome.GOOD and pair.local.trips:
            self._move(key, pair, Succeeded(pair.local.epoch, 1))

    def _move(self, key: Key, pair: LocalAndShared, signal: Signal) -> None:
        """Apply a signal to this process's own level, at once."""
        before = pair.move(signal, self._clock.elapsed(), self._rules(), self._jitter())
        if pair.local is before:
            return
        if pair.local.epoch != before.epoch:
            after = shifted(pair.local, self._epoch_offset())
            self._transition_log.note(key, "process" if self._shared else "shared", before, after)
        self._changed()

    async def _agree(self, key: Key, held: StoredBreaker, override: Override | None, live: frozenset[str]) -> None:
        """Bring one shared breaker and this process to one mind; who loses every swap tries again at the next step."""
        pair = self._of(key)
        for _ in range(MAX_SWAPS):
            self._absorb(pair, held.value)
            # A store that knows less than this process has lost its state: it gets back what was last seen of it.
            base = pair.shared if pair.shared.epoch > held.value.epoch else held.value
            signals = pair.signals(self._me, live, base, self._shared_store.now(), self._shared_store.lead)
            release = self._release_due(override, base.released)
            signals += () if release is None else (release,)
            values = [base]
            for signal in signals:
                values.append(self._after(values[-1], signal))
            if values[-1] is held.value or await self._shared_store.swap(key, held, values[-1]):
                self._swapped(key, pair, values)
                pair.delivered(signals)
                return
            held = (await self._shared_store.read((key,)))[key]

    def _after(self, shared: Breaker, signal: Signal) -> Breaker:
        return transition(shared, signal, self._shared_store.now(), self._rules(), self._jitter())

    def _release_due(self, override: Override | None, released: int) -> Release | None:
        """Return the end of a forced-open override that has not been taken into account."""
        if override is None or override.state is not State.FORCED_OPEN or self._clock.now() < override.expires_at:
            return None
        return Release(override.version) if override.version > released else None

    def _swapped(self, key: Key, pair: LocalAndShared, values: Iterable[Breaker]) -> None:
        """Take a breaker through the values this process just gave it."""
        for before, after in pairwise(values):
            if after.epoch != before.epoch:
                self._transition_log.note(key, "shared", before, after)
            self._absorb(pair, after)

    def _absorb(self, pair: LocalAndShared, value: Breaker) -> None:
        if pair.absorb(value):
            self._changed()

    def _lose_shared_store(self, fault: HotUnavailable) -> None:
        if self._shared_store.is_lost:
            return
        log.warning("the shared breakers cannot be reached, going on with what is known: %s", fault)
        self._shared_store.is_lost = True
        for pair in self._breakers.values():
            pair.go_alone(self._clock.elapsed(), self._shared_store.lead)
        self._changed()

    def _rejoin_shared_store(self) -> None:
        log.warning("the shared breakers can be reached again")
        for pair in self._breakers.values():
            pair.rejoin()
        self._changed()

    def _of(self, key: Key) -> LocalAndShared:
        pair = self._breakers.get(key)
        if pair is None:
            pair = self._breakers[key] = LocalAndShared(alone=not self._shared)
        return pair

    def _epoch_offset(self) -> float:
        """Return by how much epoch seconds are ahead of this process's `elapsed`."""
        return self._clock.now().timestamp() - self._clock.elapsed()

    def _jitter(self) -> float:
        return self._rng.uniform(*JITTER)


def _granted(key: Key, breaker: Breaker, ask: Ask) -> Permit | None:
    is_given = any(each.lease_id == ask.lease_id for each in breaker.leases)
    return Permit(key, State.HALF_OPEN, breaker.epoch, ask.lease_id) if is_given else None
