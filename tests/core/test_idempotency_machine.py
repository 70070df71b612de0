"""Keys asked with again, with other bodies, by other merchants, at once, across crashes: one key is one payment.

The real flow on the real statements, in memory, on virtual time; the gateway is the one of the tests.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec import structs

from pgw.core.breakers.override import Pause
from pgw.core.errors import Code, PgwError
from pgw.core.flow.payments.replay import Taken
from pgw.core.flow.payments.take import take
from pgw.core.flow.verification.verify import verify_due
from pgw.core.ledger.tables import attempts, payments
from pgw.core.payment.payment import AttemptStatus, Status
from pgw.core.ports import Dependencies
from tests.doubles import request_of
from tests.fake_gateway import Fate, Reply, Stand
from tests.simulation.bench import Bench
from tests.simulation.store import Trouble

KEYS = ("key-1", "key-2")
MERCHANTS = ("m_001", "m_002")
AMOUNTS = (1000, 2000)
UNSURE = {Code.LEDGER_UNAVAILABLE, Code.INTERNAL}
"""What a request may be told while the ledger fares badly."""

Owner = tuple[str, str]
"""A merchant, and a key of his."""

fates = st.sampled_from(
    [
        Fate(),
        Fate(reply=Reply.LOST),
        Fate(stands=((0.0, Stand.DECLINED),)),
        Fate(stands=((0.0, Stand.REFUSED),)),
        Fate(stands=((0.0, Stand.CREATED), (30.0, Stand.CAPTURED))),
        Fate(answers_s=2.0),
    ]
)


@dataclass(frozen=True)
class Asked:
    """One request, and how things stood as it began: its key's row, if it had one; whether others were under way."""

    owner: Owner
    amount_minor: int
    at: datetime
    row: dict[str, Any] | None
    sending_until: datetime | None
    number: int
    was_free: bool
    is_shut: Code | None
    is_troubled: bool


class Keys(RuleBasedStateMachine):
    """Merchants who ask with few keys, and all that may come between."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.under_way = self.sent = 0
        self.shut: Code | None = None
        self.bound: dict[Owner, str] = {}
        self.ends: dict[str, Status] = {}
        self.wrong: list[str] = []

    def teardown(self) -> None:
        try:
            self.bench.heal()
            self.shut = None
            for owner, payment_id in self.bound.items():
                row = self._row(owner)
                assert row is not None
                self._send(owner, row["amount_minor"])
                self.bench.wait(1)
                assert (row["payment_id"], Status(row["status"]).is_final) == (payment_id, True)
            assert self.under_way == 0
            self.what_was_answered_is_right()
            self.one_key_is_one_payment()
        finally:
            self.bench.close()

    @rule(
        key=st.sampled_from(KEYS),
        merchant=st.sampled_from(MERCHANTS),
        amount=st.sampled_from(AMOUNTS),
        times=st.sampled_from([1, 1, 1, 5]),
        fate=fates,
        seconds=st.sampled_from([0.0, 0.01, 1.0, 10.0]),
    )
    def ask(self, key: str, merchant: str, amount: int, times: int, fate: Fate, seconds: float) -> None:
        """Ask, alone or several times at once, and see how far it comes."""
        self.bench.hand.charges.clear()
        self.bench.hand.charges.append(fate)
        for _ in range(times):
            self._send((merchant, key), amount)
        self.bench.wait(seconds)

    @rule(key=st.sampled_from(KEYS), merchant=st.sampled_from(MERCHANTS), other=st.booleans())
    def ask_for_both(self, key: str, merchant: str, other: bool) -> None:
        """Ask for two bodies with one key, at once, or for one body by two merchants."""
        self._send((merchant, key), AMOUNTS[0])
        self._send((merchant, key), AMOUNTS[1]) if other else self._send((MERCHANTS[0], key), AMOUNTS[0])
        self.bench.wait(0.0)

    @rule(seconds=st.sampled_from([0.1, 3.0, 5.0, 40.0, 2000.0]))
    def wait(self, seconds: float) -> None:
        self.bench.wait(seconds)

    @rule()
    def verify(self) -> None:
        self.bench.do(verify_due)

    @rule()
    def crash(self) -> None:
        self.bench.crash()

    @rule(trouble=st.sampled_from(Trouble))
    def trouble_the_ledger(self, trouble: Trouble) -> None:
        self.bench.hand.commits.append(trouble)

    @rule(shut=st.sampled_from([None, None, Code.PAUSED, Code.NO_GATEWAY_AVAILABLE]))
    def shut_the_door(self, shut: Code | None) -> None:
        """Take no new payments, or take them again."""
        self.shut = shut

    @invariant()
    def what_was_answered_is_right(self) -> None:
        assert self.wrong == [], self.wrong

    @invariant()
    def one_key_is_one_payment(self) -> None:
        """As rows, and as charges: each attempt of each payment once, for its own amount."""
        rows = self._rows(payments)
        assert set(Counter((row["merchant_id"], row["idempotency_key"]) for row in rows).values()) <= {1}
        amounts = {row["payment_id"]: row["amount_minor"] for row in rows}
        charges = self.bench.run.book.charges
        assert [amounts[each.reference.payment_id] for each in charges] == [each.amount_minor for each in charges]
        assert set(Counter((each.reference, each.gateway_id) for each in charges).values()) <= {1}
        kept = Counter(each.reference.payment_id for each in charges if each.net(self.bench.now) > 0)
        assert set(kept.values()) <= {1}

    def _send(self, owner: Owner, amount_minor: int) -> None:
        row = self._row(owner)
        last = [] if row is None else self._attempts(row["payment_id"])
        self.sent += 1
        asked = Asked(
            owner,
            amount_minor,
            self.bench.now,
            row,
            last[-1]["next_check_at"] if last and last[-1]["status"] == AttemptStatus.SENDING else None,
            number=self.sent,
            was_free=not self.under_way,
            is_shut=self.shut,
            is_troubled=bool(self.bench.hand.commits),
        )
        self.under_way += 1
        self.bench.let(self._ask(asked))

    async def _ask(self, asked: Asked) -> None:
        runtime = self.bench.runtime
        request = request_of(asked.amount_minor, asked.owner[0])
        charged = self._charged(asked.row)
        try:
            taken = await runtime.process.ask(lambda: take(self._door(runtime.deps, asked), request, asked.owner[1]))
        except PgwError as fault:
            self.wrong += [f"{asked}: {each}" for each in self._of_refusal(asked, fault)]
        except ConnectionResetError:
            pass
        else:
            self.wrong += [f"{asked}: {each}" for each in self._of_answer(asked, taken, charged)]
        finally:
            self.under_way -= 1

    def _door(self, deps: Dependencies, asked: Asked) -> Dependencies:
        """Let this request meet the door as it was when it came."""
        match asked.is_shut:
            case Code.PAUSED:
                until = asked.at + timedelta(days=1)
                return _knowing(deps, paused=Pause(reason="", actor="ann", paused_at=asked.at, expires_at=until))
            case Code.NO_GATEWAY_AVAILABLE:
                disabled = tuple(structs.replace(each, is_enabled=False) for each in deps.snapshot().gateways)
                return _knowing(deps, gateways=disabled)
            case _:
                return deps

    def _of_answer(self, asked: Asked, taken: Taken, charged: int) -> Iterator[str]:
        payment = taken.payment
        if self.bound.setdefault(asked.owner, payment.payment_id) != payment.payment_id:
            yield f"it was {self.bound[asked.owner]}, and is {payment.payment_id}"
        if (payment.merchant_id, payment.amount_minor) != (asked.owner[0], asked.amount_minor):
            yield f"it was answered with a payment of {payment.merchant_id} and {payment.amount_minor}"
        if asked.row is not None and not taken.replayed:
            yield "its key had a payment, and another was made"
        if asked.row is None and self._was_alone(asked) and taken.replayed and not asked.is_troubled:
            yield "its key was free, and it was answered with another's payment"
        if asked.is_shut and not taken.replayed:
            yield "the door was shut, and it came in"
        if self._was_alone(asked) and self._charged(asked.row) != charged:
            yield "it was answered from its key, and a gateway was called"
        if payment.status is Status.PROCESSING:
            yield "it was shown at work"
        if self.ends.setdefault(payment.payment_id, payment.status) is not payment.status:
            yield f"it was {self.ends[payment.payment_id]}, and is {payment.status}"
        if not payment.status.is_final:
            del self.ends[payment.payment_id]

    def _of_refusal(self, asked: Asked, fault: PgwError) -> Iterator[str]:
        row, is_same = self._row(asked.owner), True
        if row is not None:
            is_same = row["amount_minor"] == asked.amount_minor
        is_over = asked.sending_until is None or asked.sending_until <= asked.at
        match fault.code:
            case Code.IDEMPOTENCY_KEY_REUSED if row is None or is_same:
                yield "its key has no payment with another body"
            case Code.IDEMPOTENCY_KEY_IN_USE if row is None or not is_same:
                yield "nobody is at work on this"
            case Code.IDEMPOTENCY_KEY_IN_USE if is_over and self._was_alone(asked):
                yield "nobody was at work on this any more"
            case Code.IDEMPOTENCY_KEY_REUSED | Code.IDEMPOTENCY_KEY_IN_USE:
                pass
            case Code.PAUSED | Code.NO_GATEWAY_AVAILABLE:
                if asked.is_shut is not fault.code and not self._has_tripped(fault.code):
                    yield "the door was not shut"
                if asked.row is not None:
                    yield "its key had a payment, and it was refused at the door"
            case code if code not in UNSURE or (self._was_alone(asked) and not asked.is_troubled):
                yield f"it was refused with {code}"
            case _:
                pass

    def _was_alone(self, asked: Asked) -> bool:
        return asked.was_free and asked.number == self.sent

    @staticmethod
    def _has_tripped(code: Code) -> bool:
        """Breakers may have left every gateway."""
        return code is Code.NO_GATEWAY_AVAILABLE

    def _charged(self, row: dict[str, Any] | None) -> int:
        """Count the charges of a payment that was there."""
        named = row and row["payment_id"]
        return sum(each.reference.payment_id == named for each in self.bench.run.book.charges)

    def _row(self, owner: Owner) -> dict[str, Any] | None:
        found = [row for row in self._rows(payments) if (row["merchant_id"], row["idempotency_key"]) == owner]
        return found[0] if found else None

    def _attempts(self, payment_id: str) -> list[dict[str, Any]]:
        return [row for row in self._rows(attempts) if row["payment_id"] == payment_id]

    def _rows(self, table: Any) -> list[dict[str, Any]]:
        return self.bench.run.store.memory.rows(table)


def _knowing(deps: Dependencies, **changes: Any) -> Dependencies:
    """Let a world's decisions know something else."""
    snapshot = structs.replace(deps.snapshot(), **changes)
    return replace(deps, snapshot=lambda: snapshot)


Keys.TestCase.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)


TestKeys = Keys.TestCase


@pytest.fixture(autouse=True)
def _silence() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
