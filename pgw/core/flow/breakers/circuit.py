"""Calls and outcomes -> Breakers: who may call which gateway, decided here and agreed on with other processes."""

import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from itertools import pairwise
from random import Random

from pgw.core.breakers.admission import Standing
from pgw.core.breakers.breaker import Admission, Breaker, Key, Rules, Sign, State, View, shifted
from pgw.core.breakers.override import Override
from pgw.core.breakers.transition import JITTER, Ask, Release, Report, Signal, Succeeded, Vote, transition
from pgw.core.breakers.window import NOTHING_SEEN, Tally
from pgw.core.flow.breakers.local_and_shared import Levels
from pgw.core.flow.breakers.shared_store import Sight
from pgw.core.flow.breakers.transition_log import Untold
from pgw.core.ports import Clock, Held, HotState, HotUnavailable, Ledger

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
        self._levels: dict[Key, Levels] = {}
        self._sight = Sight(hot, clock, self._come_back)
        self._untold = Untold(me, clock, rng)
        self.transitions = self._untold.transitions
        """What the ledger has not been told yet, oldest first."""
        self._as_of: datetime | None = None

    @property
    def as_of(self) -> datetime | None:
        """When the store last answered for all; None while it never did, and always in a process that is alone."""
        return self._as_of

    async def admit(self, key: Key, standing: Standing, lease_s: float) -> Admission | None:
        """Give leave to call; see Circuit."""
        levels = self._of(key)
        match standing.state:
            case State.OPEN | State.FORCED_OPEN:
                return None
            case State.HALF_OPEN:
                admission = await self._probe(key, levels, lease_s)
            case _:
                admission = Admission(key, standing.state, levels.epoch)
        if admission is not None:
            levels.in_flight += 1
        return admission

    def record(self, admission: Admission, sign: Sign, latency_ms: int) -> None:
        """Take one call's outcome; see Circuit. A call that was made although its breaker was OPEN moves none."""
        if admission.state is State.OPEN:
            return
        levels = self._of(admission.key)
        levels.in_flight -= 1
        if admission.lease_id is not None:
            report = Report(admission.epoch, admission.lease_id, sign)
            if any(each.lease_id == admission.lease_id for each in levels.local.leases):
                self._move(admission.key, levels, report)
            elif self._shared:
                levels.reports.append(report)
        elif admission.epoch == levels.epoch:
            self._fold(admission.key, levels, sign, latency_ms)

    def deposit(self, key: Key) -> None:
        """Count one first attempt; see Circuit."""
        self._of(key).budget.deposit(self._clock.elapsed())

    def withdraw(self, key: Key) -> bool:
        """Spend one fallback; see Circuit."""
        return self._of(key).budget.withdraw(self._clock.elapsed())

    def views(self) -> Mapping[Key, View]:
        """Return what decisions may know of each breaker that ever moved."""
        now, elapsed, rules = self._clock.now(), self._clock.elapsed(), self._rules()
        shown = ((key, each.view(now, elapsed, self._sight.lead, rules)) for key, each in self._levels.items())
        return {key: view for key, view in shown if view is not None}

    def local_figures(self, key: Key) -> Tally:
        """Return what this process saw of a gateway since its breaker last moved."""
        levels = self._levels.get(key)
        return NOTHING_SEEN if levels is None else levels.window.tally(self._clock.elapsed(), self._rules())

    def in_flight(self) -> Mapping[Key, int]:
        """Count the calls that were admitted and whose outcome is not recorded yet."""
        return {key: each.in_flight for key, each in self._levels.items() if each.in_flight}

    def remember(self, values: Mapping[Key, Breaker]) -> None:
        """Take the ledger's last word of each shared breaker, at the start; where the store knows more, that holds."""
        for key, value in values.items():
            levels = self._of(key)
            if self._shared:
                levels.absorb(value)
            else:
                levels.local = shifted(value, -self._epoch_lead())
        self._changed()

    async def step(self, keys: Iterable[Key], overrides: Mapping[Key, Override], live: frozenset[str]) -> None:
        """Tell the others what was seen here, and learn what they know; while the store is away, go on alone.

        `keys`: every breaker there is. `live`: the processes that live, by their heartbeats.
        """
        asked = tuple(keys)
        if self._shared:
            try:
                found = await self._sight.read(asked)
                for key in asked:
                    await self._agree(key, found[key], overrides.get(key), live)
                self._as_of = self._clock.now()
            except HotUnavailable as fault:
                self._lose_sight(fault)
        if not self._shared or self._sight.is_lost:
            for key in asked:
                levels = self._of(key)
                release = self._release_due(overrides.get(key), levels.released)
                if release is not None:
                    self._move(key, levels, release)

    async def tell(self, ledger: Ledger) -> None:
        """Write the transitions not yet written; raises LedgerUnavailable and keeps what was not."""
        await self._untold.tell(ledger)

    async def _probe(self, key: Key, levels: Levels, lease_s: float) -> Admission | None:
        """Ask for a lease: the store, or this process's own level where that one decides or the store is away."""
        ask = Ask(f"{self._me}:{self._rng.getrandbits(64):016x}", lease_s)
        # One at a time: who waits here sees what the one before learnt, mostly that no lease is left.
        async with levels.asking:
            if levels.is_shared:
                try:
                    return await self._ask_store(key, levels, ask)
                except HotUnavailable as fault:
                    self._lose_sight(fault)
            self._move(key, levels, ask)
            return _granted(key, levels.local, ask)

    async def _ask_store(self, key: Key, levels: Levels, ask: Ask) -> Admission | None:
        if self._after(levels.shared, ask) is levels.shared:
            return None
        for _ in range(MAX_SWAPS):
            held = (await self._sight.read((key,)))[key]
            value = self._after(held.value, ask)
            if value is held.value:
                self._absorb(levels, value)
                return None
            if await self._sight.swap(key, held, value):
                self._swapped(key, levels, (held.value, value))
                return _granted(key, value, ask)
        return None

    def _fold(self, key: Key, levels: Levels, sign: Sign, latency_ms: int) -> None:
        tripping = levels.fold(sign, latency_ms, self._clock.elapsed(), self._rules())
        if tripping is not None:
            levels.tripping = tripping
            self._move(key, levels, Vote(self._me, tripping.cause, tripping.incident_from, frozenset({self._me})))
        elif sign is Sign.GOOD and levels.local.trips:
            self._move(key, levels, Succeeded(levels.local.epoch, 1))

    def _move(self, key: Key, levels: Levels, signal: Signal) -> None:
        """Apply a signal to this process's own level, at once."""
        before = levels.move(signal, self._clock.elapsed(), self._rules(), self._jitter())
        if levels.local is before:
            return
        if levels.local.epoch != before.epoch:
            after = shifted(levels.local, self._epoch_lead())
            self._untold.note(key, "process" if self._shared else "shared", before, after)
        self._changed()

    async def _agree(self, key: Key, held: Held, override: Override | None, live: frozenset[str]) -> None:
        """Bring one shared breaker and this process to one mind; who loses every swap tries again at the next step."""
        levels = self._of(key)
        for _ in range(MAX_SWAPS):
            self._absorb(levels, held.value)
            # A store that knows less than this process has lost its state: it gets back what was last seen of it.
            base = levels.shared if levels.shared.epoch > held.value.epoch else held.value
            signals = levels.signals(self._me, live, base, self._sight.now(), self._sight.lead)
            release = self._release_due(override, base.released)
            signals += () if release is None else (release,)
            values = [base]
            for signal in signals:
                values.append(self._after(values[-1], signal))
            if values[-1] is held.value or await self._sight.swap(key, held, values[-1]):
                self._swapped(key, levels, values)
                levels.delivered(signals)
                return
            held = (await self._sight.read((key,)))[key]

    def _after(self, shared: Breaker, signal: Signal) -> Breaker:
        return transition(shared, signal, self._sight.now(), self._rules(), self._jitter())

    def _release_due(self, override: Override | None, released: int) -> Release | None:
        """Return the end of a forced-open override that has not been taken into account."""
        if override is None or override.state is not State.FORCED_OPEN or self._clock.now() < override.expires_at:
            return None
        return Release(override.version) if override.version > released else None

    def _swapped(self, key: Key, levels: Levels, values: Iterable[Breaker]) -> None:
        """Take a breaker through the values this process just gave it."""
        for before, after in pairwise(values):
            if after.epoch != before.epoch:
                self._untold.note(key, "shared", before, after)
            self._absorb(levels, after)

    def _absorb(self, levels: Levels, value: Breaker) -> None:
        if levels.absorb(value):
            self._changed()

    def _lose_sight(self, fault: HotUnavailable) -> None:
        if self._sight.is_lost:
            return
        log.warning("the shared breakers cannot be reached, going on with what is known: %s", fault)
        self._sight.is_lost = True
        for levels in self._levels.values():
            levels.stand_in(self._clock.elapsed(), self._sight.lead)
        self._changed()

    def _come_back(self) -> None:
        log.warning("the shared breakers can be reached again")
        for levels in self._levels.values():
            levels.come_back()
        self._changed()

    def _of(self, key: Key) -> Levels:
        levels = self._levels.get(key)
        if levels is None:
            levels = self._levels[key] = Levels(alone=not self._shared)
        return levels

    def _epoch_lead(self) -> float:
        """Return by how much epoch seconds are ahead of this process's `elapsed`."""
        return self._clock.now().timestamp() - self._clock.elapsed()

    def _jitter(self) -> float:
        return self._rng.uniform(*JITTER)


def _granted(key: Key, breaker: Breaker, ask: Ask) -> Admission | None:
    is_given = any(each.lease_id == ask.lease_id for each in breaker.leases)
    return Admission(key, State.HALF_OPEN, breaker.epoch, ask.lease_id) if is_given else None
