"""Whole lives of many payments, drawn from seeds: gateways and ledger err, processes die, the money comes out right.

A seed is the test's id, so a failure names what to run again: every act is drawn from the seed and from what it
befalls, whatever the order in which the tasks of a run come to it.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from pgw.core.errors import Code, PgwError
from pgw.core.flow.payments.take import take
from pgw.core.flow.verification.verify import verify_due
from pgw.core.ledger.engine.phase import Phase
from pgw.core.ledger.tables import attempts, outbox, payments
from pgw.core.payment.outcome import Captured
from pgw.core.payment.payment import AttemptStatus, Status
from pgw.core.ports import ChargeOrder, Ledger, Reference
from pgw.core.verification.enquiry import Finding, Pending, Undecided
from tests.doubles import (
    CUSTOMER_DECLINE,
    GATEWAY_DECLINE,
    NOT_SENT,
    UNKNOWN,
    Act,
    Entry,
    Scene,
    ScriptedGateway,
    VirtualClock,
    request_of,
    scene_of,
)
from tests.ledgers import Stage, new_file, rows, staged
from tests.troubled import Trouble, Troubled

if TYPE_CHECKING:
    from pgw.core.flow.payments.replay import Taken

SEEDS_VARIABLE = "PGW_TEST_SEEDS"
SEEDS = int(os.environ.get(SEEDS_VARIABLE, "15"))

GATEWAYS = ("g1", "g2", "g3")
PAYMENTS = 40
WAVE = 8
ROUNDS = 12
"""Hours after the last payment in which checks are made; an hour is the longest wait between two."""

ACTS: tuple[tuple[int, Act], ...] = (
    (10, Act(Captured("ref", 1000, "INR"))),
    (5, Act(GATEWAY_DECLINE, takes_s=0.2)),
    (4, Act(NOT_SENT, takes_s=0.1)),
    (2, Act(CUSTOMER_DECLINE)),
    (2, Act(UNKNOWN, takes_s=2.4, moves_money=True)),
    (2, Act(UNKNOWN, takes_s=2.4)),
    (1, Act(Captured("ref", 999, "INR"))),
    (1, Act(UNKNOWN, moves_money=True, fault=RuntimeError)),
    (1, Act(UNKNOWN, moves_money=True, fault=asyncio.CancelledError)),
    (1, Act(UNKNOWN, fault=asyncio.CancelledError)),
)
"""Weights and acts; a cancelled call is a process that died in the middle of it."""

TROUBLES: tuple[tuple[int, Trouble | None], ...] = ((40, None), *((1, each) for each in Trouble))


def _draw(choices: tuple[tuple[int, Any], ...], *names: object) -> Any:
    rng = Random(":".join(map(str, names)))
    return rng.choices([each for _, each in choices], [weight for weight, _ in choices])[0]


class DrawnGateway(ScriptedGateway):
    """Acts by seed, key and attempt; now and then it does not say what it knows."""

    def __init__(self, gateway_id: str, clock: VirtualClock, seed: int) -> None:
        super().__init__(gateway_id, clock)
        self._seed = seed

    def next_act(self, order: ChargeOrder) -> Act:
        act: Act = _draw(ACTS, self._seed, order.idempotency_key, self.gateway_id, order.reference.attempt_number)
        return act

    async def enquire(self, reference: Reference) -> Finding:
        if _draw(((3, False), (1, True)), self._seed, reference, len(self.asked)):
            self.asked.append(reference)
            return Undecided(Pending.UNREACHABLE, "HTTP_502")
        return await super().enquire(reference)


class DrawnLedger(Troubled):
    """Fails by seed, phase and key, until it is healed."""

    def __init__(self, ledger: Ledger, seed: int) -> None:
        super().__init__(ledger)
        self._seed = seed
        self._keys: dict[str, str] = {}
        self._times: Counter[tuple[str, str]] = Counter()
        self.healed = False

    def befalls(self, phase: Phase, item: Mapping[str, Any]) -> Trouble | None:
        if phase.name == "open":
            self._keys[item["payment_id"]] = item["idempotency_key"]
        key = self._keys[item["payment_id"]]
        self._times[phase.name, key] += 1
        trouble: Trouble | None = _draw(TROUBLES, self._seed, phase.name, key, self._times[phase.name, key])
        return None if self.healed else trouble


class Life:
    """One run: what was asked, what was answered, and what the gateways know."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.rng = Random(seed)
        self.ledger = DrawnLedger(stage.ledger, seed)
        self.scene: Scene = scene_of(self.ledger, dict.fromkeys(GATEWAYS, ()), seed=seed)
        for name in GATEWAYS:
            self.scene.gateways[name] = DrawnGateway(name, self.scene.clock, seed)
        gateways = self.scene.deps.gateways
        assert isinstance(gateways, dict)
        gateways.update(self.scene.gateways)
        self.answers: list[tuple[str, Taken]] = []
        self.refusals: set[Code] = set()

    async def run(self) -> None:
        keys = [f"key-{number}" for number in range(PAYMENTS)]
        for start in range(0, PAYMENTS, WAVE):
            wave = keys[start : start + WAVE] + self.rng.choices(keys[: start + WAVE], k=WAVE // 2)
            await asyncio.gather(*(self._ask(key) for key in wave))
            self.scene.clock.advance(self.rng.uniform(0, 4))
            if self.rng.random() < 0.5:
                await verify_due(self.scene.deps)
        for _ in range(2):
            # What was refused is asked again; the second time round everybody has his answer.
            await self._heal()
            await asyncio.gather(*(self._ask(key) for key in keys))

    async def _ask(self, key: str) -> None:
        asking = asyncio.create_task(take(self.scene.deps, request_of(), key))
        try:
            self.answers.append((key, await asking))
        except PgwError as refusal:
            self.refusals.add(refusal.code)
        except asyncio.CancelledError:
            assert asking.cancelled()

    async def _heal(self) -> None:
        self.ledger.healed = True
        await self.ledger.arrive()
        assert await self.scene.tasks.drain(10) == 0
        for _ in range(ROUNDS):
            self.scene.clock.advance(3600 * 1.2)
            await verify_due(self.scene.deps)

    @property
    def book(self) -> dict[Reference, tuple[str, Entry]]:
        return {ref: (name, entry) for name, each in self.scene.gateways.items() for ref, entry in each.book.items()}


@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_money_comes_out_right(tmp_path: Path, seed: int) -> None:
    with staged(new_file(tmp_path)) as stage:
        life = Life(stage, seed)
        stage.run(life.run())
        tables = [stage.run(rows(stage.ledger, each)) for each in (payments, attempts, outbox)]
    stored = {row["payment_id"]: row for row in tables[0]}
    _answers_agree(life, stored)
    _the_money_is_the_ledgers(life, stored, tables[1])
    _every_end_is_told(stored, tables[2])
    _what_is_open_will_be_asked_about(life, stored, tables[1])


def _answers_agree(life: Life, stored: Mapping[str, dict[str, Any]]) -> None:
    """One key is one payment; a final status that was answered was true, and still is."""
    assert life.refusals <= {Code.LEDGER_UNAVAILABLE, Code.IDEMPOTENCY_KEY_IN_USE, Code.INTERNAL}
    assert {key for key, _ in life.answers} == {f"key-{number}" for number in range(PAYMENTS)}
    by_key = {row["idempotency_key"]: row["payment_id"] for row in stored.values()}
    for key, taken in life.answers:
        assert taken.payment.payment_id == by_key[key]
        if taken.payment.status.is_final:
            assert stored[taken.payment.payment_id]["status"] == taken.payment.status


def _the_money_is_the_ledgers(
    life: Life, stored: Mapping[str, dict[str, Any]], attempted: list[dict[str, Any]]
) -> None:
    """No gateway was called unannounced, none after an unknown, and no payment moved money twice or unseen."""
    announced = {(row["payment_id"], row["attempt_number"]): row for row in attempted}
    moved: Counter[str] = Counter()
    for reference, (gateway_id, entry) in life.book.items():
        assert announced[reference.payment_id, reference.attempt_number]["gateway_id"] == gateway_id
        if entry.moved is not None:
            moved[reference.payment_id] += 1
            assert (reference.payment_id, reference.attempt_number + 1) not in announced
    assert set(moved.values()) <= {1}
    right = {ref.payment_id for ref, (_, entry) in life.book.items() if entry.moved == (1000, "INR")}
    wrong = moved.keys() - right
    assert {key for key, row in stored.items() if row["status"] == Status.SUCCESS} == right
    assert {key for key, row in stored.items() if row["status"] == Status.MANUAL_REVIEW} == wrong
    calls = Counter(order.reference for each in life.scene.gateways.values() for order in each.orders)
    assert set(calls.values()) == {1}


def _every_end_is_told(stored: Mapping[str, dict[str, Any]], outboxed: list[dict[str, Any]]) -> None:
    """Each event once, and exactly one completion for each payment that has ended."""
    events = [row["event"] for row in outboxed]
    assert len({each["event_id"] for each in events}) == len(events)
    completed = [each["payment_id"] for each in events if each["type"] == "payment.completed"]
    ended = [key for key, row in stored.items() if Status(row["status"]).is_final]
    assert sorted(completed) == sorted(ended)
    told = Counter((each["payment_id"], each["attempt_number"], each["type"]) for each in events)
    assert set(told.values()) <= {1}


def _what_is_open_will_be_asked_about(
    life: Life, stored: Mapping[str, dict[str, Any]], attempted: list[dict[str, Any]]
) -> None:
    """Pending is only what its gateway knows nothing of, and it has its next check."""
    last = {row["payment_id"]: row for row in attempted}
    for key, row in stored.items():
        attempt = last[key]
        if Status(row["status"]).is_final:
            assert attempt["next_check_at"] is None
        elif row["status"] == Status.PENDING_VERIFICATION:
            known = life.book.get(Reference(key, attempt["attempt_number"]), ("", Entry()))[1]
            assert known == Entry()
            assert attempt["status"] == AttemptStatus.TIMEOUT
            assert attempt["next_check_at"] is not None
        else:
            assert row["status"] == Status.MANUAL_REVIEW
