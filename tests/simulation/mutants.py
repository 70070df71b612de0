"""A name -> pgw with one of its safeguards taken out, to see that the simulation misses it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import false

from pgw.core.flow.payments import take
from pgw.core.flow.payments.attempt import attempt
from pgw.core.flow.verification import late_capture as watch
from pgw.core.flow.verification import verify
from pgw.core.ledger import late_captures as watches
from pgw.core.ledger.due import DueMonitor, due_monitors
from pgw.core.ledger.engine.writer import LedgerUnavailable
from pgw.core.payment.outcome import Blame, NotSent, Unknown, Verdict
from pgw.core.ports import ChargeOrder
from pgw.core.verification.late_capture import MonitorState, Wait
from tests.fake_gateway import FakeGateway
from tests.simulation import scene
from tests.simulation.store import Due, StoreLedger

Patch = Callable[[pytest.MonkeyPatch], None]


def _unknown_is_not_sent(patch: pytest.MonkeyPatch) -> None:
    async def optimistic(*arguments: Any) -> Verdict:
        verdict = await attempt(*arguments)
        return NotSent("NOT_SENT_MAYBE", Blame.NETWORK) if isinstance(verdict, Unknown) else verdict

    patch.setattr(take, "attempt", optimistic)


def _sent_after_the_lease(patch: pytest.MonkeyPatch) -> None:
    def built(*arguments: Any, **members: Any) -> ChargeOrder:
        return ChargeOrder(*arguments, **{**members, "may_send": lambda: True})

    patch.setattr("pgw.core.flow.payments.attempt.ChargeOrder", built)


def _nobody_watches(patch: pytest.MonkeyPatch) -> None:
    def over(_: object, until: datetime, now: datetime) -> Wait:
        return Wait(MonitorState.OVER if now >= until else MonitorState.WATCHING)

    patch.setattr(watch, "judge_late", over)


def _each_try_of_a_reversal_is_another(patch: pytest.MonkeyPatch) -> None:
    reverse = FakeGateway.reverse

    async def forgetful(self: FakeGateway, transaction_ref: str, amount_minor: int, key: str) -> Any:
        return await reverse(self, transaction_ref, amount_minor, f"{key}-{self._book.now().timestamp()}")

    patch.setattr(FakeGateway, "reverse", forgetful)


def _one_absence_is_enough(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("pgw.core.verification.enquiry.ABSENT_APART", timedelta())
    patch.setattr("pgw.core.verification.enquiry.ABSENT_AFTER", timedelta())
    patch.setattr(watch, "monitor_of", None, raising=False)
    patch.setattr(verify, "monitor_of", lambda *_: None)


def _any_amount_will_do(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("pgw.core.flow.payments.attempt.checked_amount", lambda verdict, *_: verdict)


def _nobody_verifies(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(scene, "STEPS", {Due.WATCH: watch.monitor_due})


def _what_is_not_confirmed_was_written(patch: pytest.MonkeyPatch) -> None:
    commit = StoreLedger.commit

    async def trusting(self: StoreLedger, phase: Any, item: Any) -> bool:
        try:
            return await commit(self, phase, item)
        except LedgerUnavailable:
            return True

    patch.setattr(StoreLedger, "commit", trusting)


def money_in_review_is_booked_again(patch: pytest.MonkeyPatch) -> None:
    """Let a watch book what waits for a person; rare in drawn runs, so it is not among those drawn."""

    def listed(*arguments: Any) -> Sequence[DueMonitor]:
        return [
            replace(each, amount_minor=None) if each.state == "WATCHING" else each for each in due_monitors(*arguments)
        ]

    patch.setattr(watch, "due_monitors", listed)
    patch.setattr(watches, "_is_booked", lambda _: false())
    patch.setattr(watch, "BOOK_LATE_CAPTURE", replace(watches.BOOK_LATE_CAPTURE, name="find_money_anyway"))


MUTANTS: Sequence[Patch] = (
    _unknown_is_not_sent,
    _sent_after_the_lease,
    _nobody_watches,
    _each_try_of_a_reversal_is_another,
    _one_absence_is_enough,
    _any_amount_will_do,
    _nobody_verifies,
    _what_is_not_confirmed_was_written,
)
