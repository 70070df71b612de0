"""What a process keeps of the metrics, moved on by what changed, is what a recount of every slice would give."""

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgw.core.breakers.breaker import Breaker, Key
from pgw.core.flow.metrics.windows import HEALTH_WINDOW_S, MAX_BANKS, MAX_REVISIONS, WINDOWS_S, MetricWindows
from pgw.core.metrics.counters import NOTHING, SLICE_S, Cell, Counts, field_of, figures_of, fold, parse_field, slice_of
from pgw.core.metrics.health import AHEAD_SLICES, LOOK_BACK_SLICES, Incident, evidence_of, healths, window_outside
from pgw.core.ports import Heartbeat, HotUnavailable, Slices, StoredBreaker
from pgw.core.routing.score import ALL, Health, health_of
from tests.core.told import FAULT, GATEWAYS, METHODS, SUCCEEDED, told
from tests.doubles import NOON, VirtualClock

NOW = slice_of(NOON)
CELL = ("hdfc", "UPI", "HDFC")
CELLS = [(gateway, method, bank) for gateway in GATEWAYS for method in METHODS for bank in ("HDFC", "SBI", ALL)]
COUNTERS = ("s:SUCCESS", "s:FAILURE", "s:TIMEOUT", "b:gateway", "b:customer", "e:X", "l:99", "l:1993")


class Store:
    """Slices as the hot state keeps them: counted, corrected, lost, rebuilt, out of reach."""

    def __init__(self) -> None:
        self.generation = 1
        self.now_s = NOON.timestamp()
        self.counts: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self.revisions: Counter[int] = Counter()
        self.is_down = False
        self.sent: list[int] = []

    def count(self, slice_: int, fields: Mapping[str, int]) -> None:
        self.counts[slice_].update(fields)
        self.revisions[slice_] += 1

    def drop(self, slice_: int, field: str) -> None:
        self.counts[slice_].pop(field, None)
        self.revisions[slice_] += 1

    def rebuild(self) -> None:
        self.generation += 1
        self.counts.clear()
        self.revisions.clear()

    async def changed_slices(self, generation: int, seen: Mapping[int, int]) -> Slices:
        if self.is_down:
            raise HotUnavailable("it does not answer")
        known = seen if generation == self.generation else {}
        changed = {n: (at, dict(self.counts[n])) for n, at in self.revisions.items() if known.get(n) != at}
        self.sent = sorted(changed)
        return Slices(self.generation, self.now_s, changed)

    async def read_breakers(self, keys: Iterable[Key]) -> tuple[float, Mapping[Key, StoredBreaker]]:
        raise NotImplementedError

    async def swap_breaker(self, key: Key, held: StoredBreaker, value: Breaker) -> bool:
        raise NotImplementedError

    async def beat(self, heartbeat: Heartbeat) -> tuple[Heartbeat, ...]:
        raise NotImplementedError

    async def close(self) -> None:
        """Hold nothing."""

    @property
    def newest(self) -> int:
        return int(self.now_s // SLICE_S)

    def recount(self, numbers: Iterable[int]) -> dict[Cell, Counts]:
        """Add up some slices from scratch."""
        cells: defaultdict[Cell, Counts] = defaultdict(Counts)
        for number in numbers:
            for field, n in self.counts.get(number, {}).items():
                cell, counter = parse_field(field)
                cells[cell] = cells[cell].add(counter, n)
        return {cell: counts for cell, counts in cells.items() if counts.of}

    def window(self, window_s: int) -> dict[Cell, Counts]:
        return self.recount(range(self.newest - window_s // SLICE_S + 1, self.newest + AHEAD_SLICES + 1))

    def health(self, incidents: Mapping[Key, Incident]) -> dict[Cell, Health]:
        """Judge every cell from scratch."""
        cells = {cell: counts for cell, counts in self.window(HEALTH_WINDOW_S).items() if cell[:2] not in incidents}
        for key, incident in incidents.items():
            outside = self.recount(window_outside(self.newest, incident))
            cells |= {cell: counts for cell, counts in outside.items() if cell[:2] == key}
        methods: defaultdict[Key, Counts] = defaultdict(Counts)
        gateways: defaultdict[str, Counts] = defaultdict(Counts)
        for cell, counts in cells.items():
            methods[cell[:2]] = methods[cell[:2]].merge(counts)
            gateways[cell[0]] = gateways[cell[0]].merge(counts)
        return healths(
            {name: evidence_of(counts) for name, counts in gateways.items()},
            {key: evidence_of(counts) for key, counts in methods.items()},
            {cell: evidence_of(counts) for cell, counts in cells.items()},
        )


def _told(store: Store, *ends: object, at: int = NOW, cell: Cell = CELL) -> None:
    """Count attempts of a cell, in a slice."""
    occurred_at = NOON + timedelta(seconds=(at - NOW) * SLICE_S)
    names = {"gateway_id": cell[0], "payment_method": cell[1], "issuing_bank": cell[2]}
    for slice_, fields in fold(told(end, occurred_at, **names) for end in ends).items():  # type: ignore[arg-type]
        store.count(slice_, fields)


def _cells(windows: MetricWindows, window_s: int) -> dict[Cell, Counts]:
    return {cell: counts for gateway in GATEWAYS for cell, counts in windows.cells(window_s, gateway).items()}


Act = Callable[[Store], None]
Wish = tuple[Act, dict[Key, Incident]]

slices = st.integers(-8, 2) | st.integers(-LOOK_BACK_SLICES - 5, 2)
fields = st.dictionaries(
    st.builds(field_of, st.sampled_from(CELLS), st.sampled_from(COUNTERS)), st.integers(-2, 9), min_size=1, max_size=6
)


def _count(ago: int, amounts: Mapping[str, int], store: Store) -> None:
    store.count(store.newest + ago, amounts)


def _drop(ago: int, field: str, store: Store) -> None:
    store.drop(store.newest + ago, field)


def _pass(seconds: float, store: Store) -> None:
    store.now_s += seconds


def _fail(store: Store) -> None:
    store.is_down = not store.is_down


acts: st.SearchStrategy[Act] = st.one_of(
    st.builds(lambda *given_: partial(_count, *given_), slices, fields),
    st.builds(lambda *given_: partial(_count, *given_), slices, fields),
    st.builds(lambda ago, each: partial(_drop, ago, next(iter(each))), st.integers(-3, 0), fields),
    st.builds(lambda seconds: partial(_pass, seconds), st.floats(0, 60) | st.sampled_from([300.0, 3590.0, -10.0])),
    st.sampled_from([Store.rebuild, _fail]),
)
incidents = st.dictionaries(
    st.tuples(st.sampled_from(GATEWAYS), st.sampled_from(METHODS)),
    st.tuples(st.integers(-500, 20), st.none() | st.integers(0, 300)).map(
        lambda each: (NOON.timestamp() + each[0], None if each[1] is None else NOON.timestamp() + each[0] + each[1])
    ),
    max_size=2,
)


@settings(max_examples=150)
@given(st.lists(st.tuples(acts, incidents), max_size=20))
def test_what_is_kept_is_what_a_recount_gives_whatever_happened(wishes: list[Wish]) -> None:
    """Counted, corrected, late, early, dropped, rebuilt, out of reach, and with incidents that come and go."""
    asyncio.run(_follow(wishes))


async def _follow(wishes: list[Wish]) -> None:
    store = Store()
    windows = MetricWindows(store, VirtualClock())
    for act, known_incidents in wishes:
        act(store)
        is_down = store.is_down
        await windows.refresh()
        if is_down:
            continue
        assert {window_s: store.window(window_s) for window_s in WINDOWS_S} == {
            window_s: _cells(windows, window_s) for window_s in WINDOWS_S
        }
        assert store.health(known_incidents) == windows.health(known_incidents)


def test_a_second_look_asks_for_nothing_that_is_known() -> None:
    async def scene() -> None:
        store = Store()
        windows = MetricWindows(store, VirtualClock())
        _told(store, SUCCEEDED, at=NOW)
        _told(store, SUCCEEDED, at=NOW - 1)
        await windows.refresh()
        judged = windows.health({})
        await windows.refresh()
        assert store.sent == []
        assert windows.health({}) is judged
        _told(store, FAULT)
        await windows.refresh()
        assert store.sent == [NOW]
        assert windows.health({}) is not judged
        assert judged[CELL].observations == 2.0, "a value that was handed out stays as it was"

    asyncio.run(scene())


def test_before_the_first_look_nothing_is_known_and_nothing_is_perfect() -> None:
    windows = MetricWindows(Store(), VirtualClock())
    assert (windows.as_of, windows.health({}), windows.health({("hdfc", "UPI"): (0.0, None)})) == (None, {}, {})
    assert windows.figures(300, "hdfc") == figures_of(NOTHING)


def test_what_cannot_be_read_leaves_what_is_known_and_its_age(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        store, clock = Store(), VirtualClock()
        windows = MetricWindows(store, clock)
        _told(store, SUCCEEDED)
        await windows.refresh()
        judged, as_of = windows.health({}), windows.as_of
        store.is_down = True
        for _ in range(3):
            clock.advance(1.0)
            await windows.refresh()
        assert (windows.as_of, windows.health({})) == (as_of, judged)
        assert windows.figures(60, "hdfc").attempts == 1
        store.is_down = False
        await windows.refresh()
        assert clock.now() == windows.as_of

    with caplog.at_level(logging.WARNING):
        asyncio.run(scene())
    assert len(caplog.records) == 1, "an outage is said once, not four times a second"


def test_the_age_is_that_of_the_question_not_of_the_answer() -> None:
    async def scene() -> None:
        clock = VirtualClock()

        class Slow(Store):
            async def changed_slices(self, generation: int, seen: Mapping[int, int]) -> Slices:
                found = await super().changed_slices(generation, seen)
                clock.advance(3.0)
                return found

        windows = MetricWindows(Slow(), clock)
        await windows.refresh()
        assert windows.as_of == NOON

    asyncio.run(scene())


def test_a_full_hour_is_read_in_pieces_and_shown_when_it_is_whole() -> None:
    async def scene() -> None:
        store = Store()
        windows = MetricWindows(store, VirtualClock())
        _told(store, SUCCEEDED)
        await windows.refresh()
        store.rebuild()
        for number in range(NOW - LOOK_BACK_SLICES + 1, NOW + 1):
            _told(store, FAULT, at=number)
        work = asyncio.get_running_loop().create_task(windows.refresh())
        turns = 0
        while not work.done():
            turns += 1
            if turns > 1:
                assert windows.figures(3600, "hdfc").attempts in {1, LOOK_BACK_SLICES}, "a part would be a wrong figure"
            await asyncio.sleep(0)
        assert turns >= LOOK_BACK_SLICES
        assert windows.figures(3600, "hdfc").failures == LOOK_BACK_SLICES

    asyncio.run(scene())


def test_a_breaker_that_closes_scores_from_before_its_incident() -> None:
    async def scene() -> None:
        store = Store()
        windows = MetricWindows(store, VirtualClock())
        key: Key = ("hdfc", "UPI")
        _told(store, *[SUCCEEDED] * 100, at=NOW - 20)
        await windows.refresh()
        healthy = windows.health({})[CELL]
        _told(store, *[FAULT] * 100, at=NOW - 2)
        _told(store, *[FAULT] * 100, at=NOW - 2, cell=("hdfc", "CARD", "HDFC"))
        await windows.refresh()
        began = float((NOW - 2) * SLICE_S)
        assert windows.health({})[CELL].success_rate < 0.6
        assert windows.health({key: (began, None)})[CELL].observations == 100.0
        ended = {key: (began, began + SLICE_S - 1)}
        after = windows.health(ended)
        assert after[CELL].observations == 100.0
        # The gateway as a whole is judged without the incident too, but with what the other method saw.
        assert after["hdfc", ALL, ALL].observations == 200.0
        assert healthy.success_rate > after[CELL].success_rate > 0.85
        _told(store, SUCCEEDED, at=NOW)
        await windows.refresh()
        assert windows.health(ended)[CELL].observations == 101.0
        assert windows.figures(300, "hdfc", "UPI").failures == 100, "figures keep everything"

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("began", "ended"),
    [(6 - LOOK_BACK_SLICES, None), (-5, -3), (-29, -25)],
    ids=["leaves only the oldest slices", "is over", "passes out of sight"],
)
def test_the_window_around_an_incident_moves_on_with_the_time(began: int, ended: int | None) -> None:
    """Also where its oldest slice, an hour old, is dropped at the same time. No two slices are alike."""

    async def scene() -> None:
        store = Store()
        windows = MetricWindows(store, VirtualClock())
        for number in range(NOW - LOOK_BACK_SLICES + 1, NOW + 5):
            store.count(number, {field_of(CELL, "s:SUCCESS"): number - NOW + LOOK_BACK_SLICES})
        until = None if ended is None else float((NOW + ended) * SLICE_S)
        known: dict[Key, Incident] = {("hdfc", "UPI"): (float((NOW + began) * SLICE_S), until)}
        seen = set()
        for moves in (0, 1, 2):
            store.now_s += SLICE_S * moves
            await windows.refresh()
            judged = windows.health(known)
            assert store.health(known) == judged
            seen.add(judged[CELL].observations)
        assert len(seen) == 3

    asyncio.run(scene())


def test_figures_are_rolled_up_over_what_is_not_named() -> None:
    async def scene() -> None:
        store = Store()
        windows = MetricWindows(store, VirtualClock())
        _told(store, SUCCEEDED, FAULT)
        _told(store, SUCCEEDED, cell=("hdfc", "UPI", "SBI"), at=NOW - 6)
        _told(store, SUCCEEDED, cell=("hdfc", "CARD", "HDFC"))
        _told(store, SUCCEEDED, cell=("icici", "UPI", "HDFC"))
        await windows.refresh()
        asked = [(None, None), ("UPI", None), (None, "HDFC"), ("UPI", "SBI")]
        assert [windows.figures(300, "hdfc", *each).attempts for each in asked] == [4, 3, 3, 1]
        assert windows.figures(300, "axis").attempts == 0
        assert [windows.figures(window_s, "hdfc").attempts for window_s in WINDOWS_S] == [3, 4, 4, 4, 4]
        assert windows.traffic("UPI") == {("hdfc", "HDFC"): 2, ("hdfc", "SBI"): 1, ("icici", "HDFC"): 1}
        assert windows.traffic("UPI", 60) == {("hdfc", "HDFC"): 2, ("icici", "HDFC"): 1}

    asyncio.run(scene())


def test_figures_that_were_handed_out_stay_as_they_were() -> None:
    async def scene() -> None:
        store = Store()
        windows = MetricWindows(store, VirtualClock())
        _told(store, SUCCEEDED)
        await windows.refresh()
        before = windows.cells(300, "hdfc")
        _told(store, SUCCEEDED)
        await windows.refresh()
        assert before[CELL].attempts == 1

    asyncio.run(scene())


def test_of_banks_without_number_the_most_called_have_a_health_of_their_own() -> None:
    """Any text after the `@` of an address is a bank; the hot path must not carry them all."""

    async def scene() -> None:
        store = Store()
        windows = MetricWindows(store, VirtualClock())
        store.count(NOW, {field_of(("hdfc", "UPI", f"B{n}"), "s:SUCCESS"): n + 1 for n in range(MAX_BANKS + 50)})
        _told(store, SUCCEEDED, cell=("icici", "UPI", "HDFC"))
        await windows.refresh()
        judged = windows.health({})
        own = {bank for gateway, _, bank in judged if gateway == "hdfc" and bank != ALL}
        assert own == {f"B{n}" for n in range(50, MAX_BANKS + 50)}
        assert health_of(judged, "hdfc", "UPI", "B0") == judged["hdfc", "UPI", ALL]
        assert ("icici", "UPI", "HDFC") in judged

    asyncio.run(scene())


def test_what_is_over_takes_no_room() -> None:
    async def scene() -> None:
        store = Store()
        windows = MetricWindows(store, VirtualClock())
        for number in range(NOW - MAX_REVISIONS - 100, NOW + 1):
            _told(store, SUCCEEDED, at=number)
        await windows.refresh()
        copy = windows._copy
        assert len(copy._slices) == LOOK_BACK_SLICES
        store.now_s += 2 * 3600
        await windows.refresh()
        assert (copy._slices, windows.health({}), windows.cells(3600, "hdfc")) == ({}, {}, {})
        assert len(copy.revisions) <= MAX_REVISIONS
        assert all(each.cells.of == {} for each in copy.windows.values())

    asyncio.run(scene())
