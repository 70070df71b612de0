"""One payment line under a hand that does anything in any order: payments move along their exits, money comes right.

The real flow (take, verify, watch, resolve, webhooks) on the real statements, in memory, on virtual time; the gateway
is the one of the tests, with its own book.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pgw.core.errors import Code, PgwError
from pgw.core.flow.verification.late_capture import monitor_due
from pgw.core.flow.verification.resolve import resolve
from pgw.core.flow.verification.verify import verify_due
from pgw.core.flow.verification.webhooks import handle_waiting
from pgw.core.ledger.webhooks import RECEIVE, receiving
from pgw.core.money.audit_rows import PaymentRows
from pgw.core.payment.payment import Status
from pgw.core.verification.webhook import WebhookNotice, digest_of
from pgw.core.writes.resolution import Resolution, ResolvedAs
from tests.doubles import request_of
from tests.fake_gateway import Deed, Fate, Reach, Reply, Stand
from tests.simulation.bench import Bench
from tests.simulation.checks import faults
from tests.simulation.people import has_money
from tests.simulation.run import ask
from tests.simulation.store import Trouble
from tests.simulation.weather import DAY_S

AMOUNT = 1000
MOST_PAYMENTS = 4
STEPS = (verify_due, monitor_due, handle_waiting)

ends = st.sampled_from([Stand.CAPTURED, Stand.REFUSED, Stand.DECLINED, Stand.FAILED, Stand.CREATED, Stand.AUTHORIZED])
delays = st.sampled_from([0.0, 0.1, 3.0, 60.0, 1200.0, 2 * DAY_S])


@st.composite
def fates(draw: st.DrawFn) -> Fate:
    """Draw one charge: how it stands at first and later, and what is said of it."""
    stands = [(0.0, draw(ends))]
    if stands[0][1] is not Stand.CAPTURED and draw(st.booleans()):
        stands.append((draw(delays), draw(ends)))
    if stands[-1][1] is Stand.AUTHORIZED:
        # Nobody's money is held for ever.
        stands.append((stands[-1][0] + DAY_S, Stand.REFUSED))
    return Fate(
        deed=draw(st.sampled_from([Deed.DONE, Deed.DONE, Deed.DONE, Deed.SWALLOWED, Deed.UNREACHED])),
        arrives_s=draw(st.sampled_from([0.0, 0.0, 5.0])),
        stands=tuple(stands),
        reply=draw(st.sampled_from([Reply.TOLD, Reply.TOLD, Reply.LOST, Reply.RESET])),
        answers_s=draw(st.sampled_from([0.01, 2.0])),
        amount_minor=draw(st.sampled_from([None, None, None, AMOUNT - 1])),
    )


told = st.sampled_from(
    [
        Fate(reply=Reply.LOST),
        Fate(Deed.SWALLOWED, reply=Reply.LOST),
        Fate(arrives_s=5.0, reply=Reply.LOST),
        Fate(amount_minor=AMOUNT - 1),
        Fate(amount_minor=AMOUNT - 1, reply=Reply.LOST),
        Fate(stands=((0.0, Stand.REFUSED), (1200.0, Stand.CAPTURED))),
        Fate(stands=((0.0, Stand.DECLINED), (1.0, Stand.CAPTURED)), amount_minor=AMOUNT - 1),
        Fate(stands=((0.0, Stand.CREATED), (60.0, Stand.CAPTURED))),
        Fate(stands=((0.0, Stand.AUTHORIZED), (DAY_S, Stand.REFUSED)), reply=Reply.LOST),
    ]
)
"""The charges that matter most; arbitrary ones are drawn beside them."""

reaches = st.sampled_from([Reply.TOLD, Reply.LOST, Reply.UNDONE, Reply.RESET, Reply.CRASHED, Reply.BUSY])


class PaymentLine(RuleBasedStateMachine):
    """Clients, workers, gateways, people and a killer, each of whom acts when hypothesis says so."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.opened = 0

    def teardown(self) -> None:
        try:
            self.bench.heal()
            run = self.bench.run
            for key, request in run.asked.items():
                self.bench.let(_quietly(ask(run, key, request, "at the end")))
            self.bench.wait(60)
            assert self.bench.wrong == []
            # Nobody asked for days, in some of these lives: then a person must be asked.
            assert [each for each in faults(run) if not each.endswith("MANUAL_REVIEW without need")] == []
        finally:
            self.bench.close()

    @precondition(lambda self: self.opened < MOST_PAYMENTS)
    @rule(first=told | fates(), second=told | fates(), seconds=st.sampled_from([0.001, 0.1, 5.0]))
    def take(self, first: Fate, second: Fate, seconds: float) -> None:
        """Begin a payment, and see how far it comes."""
        run = self.bench.run
        self.opened += 1
        key = f"key-{self.opened}"
        run.asked[key] = request_of(AMOUNT)
        self.bench.hand.charges.clear()
        self.bench.hand.charges.extend((first, second))
        self.bench.let(_quietly(ask(run, key, run.asked[key], "")))
        self.bench.wait(seconds)

    @precondition(lambda self: self.opened)
    @rule(number=st.integers(1, MOST_PAYMENTS), seconds=st.sampled_from([0.001, 5.0]))
    def ask_again(self, number: int, seconds: float) -> None:
        run = self.bench.run
        key = f"key-{min(number, self.opened)}"
        self.bench.let(_quietly(ask(run, key, run.asked[key], "again")))
        self.bench.wait(seconds)

    @rule(seconds=st.sampled_from([0.1, 3.0, 10.0, 700.0, 4000.0, DAY_S, 3 * DAY_S]))
    def wait(self, seconds: float) -> None:
        self.bench.wait(seconds)

    @rule(step=st.sampled_from(STEPS), replies=st.lists(reaches, max_size=3))
    def work(self, step: object, replies: list[Reply]) -> None:
        """Let a worker look, at a gateway that answers as drawn."""
        self.bench.hand.calls.extend(Reach(each) for each in replies)
        self.bench.do(step)  # type: ignore[arg-type]  # one of STEPS
        self.bench.hand.calls.clear()

    @rule(seconds=st.sampled_from([60.0, 4000.0, DAY_S]), replies=st.lists(reaches, max_size=4))
    def work_on(self, seconds: float, replies: list[Reply]) -> None:
        """Let a worker look at all that falls due within a while."""
        self.bench.hand.calls.extend(Reach(each) for each in replies)
        self.bench.work(self.bench.now + timedelta(seconds=seconds))
        self.bench.hand.calls.clear()

    @precondition(lambda self: self.bench.run.book.charges)
    @rule(data=st.data(), again=st.booleans())
    def webhook(self, data: st.DataObject, again: bool) -> None:
        """Let a gateway tell how a charge stands, or stood, once or twice."""
        charge = data.draw(st.sampled_from(self.bench.run.book.charges))
        since, stand = data.draw(st.sampled_from(charge.stands))
        notice = WebhookNotice(
            event=f"payment.{stand.name.lower()}",
            occurred_at=since,
            payment_id=charge.reference.payment_id,
            attempt_number=charge.reference.attempt_number,
            transaction_ref=charge.transaction_ref,
        )
        digest = digest_of(f"{charge.transaction_ref} {stand}".encode())
        item = receiving(charge.gateway_id, digest, notice, self.bench.now)
        for _ in range(1 + again):
            self.bench.do(lambda deps: deps.ledger.commit(RECEIVE, item))

    @precondition(lambda self: self.opened)
    @rule(data=st.data(), outcome=st.sampled_from(ResolvedAs))
    def resolve(self, data: st.DataObject, outcome: ResolvedAs) -> None:
        """Let a person judge a payment, whether it waits for one or not; a success only by the gateway's book."""
        known = [case.payment for case in self.bench.cases()]
        if not known:
            return
        payment = data.draw(st.sampled_from(known))
        if outcome is ResolvedAs.SUCCESS and not has_money(self.bench.run, payment.payment_id):
            outcome = ResolvedAs.FAILURE
        said = Resolution(outcome=outcome, actor="asha", reason="the book", evidence=None)
        answer = self.bench.do(lambda deps: resolve(deps, payment.payment_id, said))
        (status,) = [
            each.payment.status for each in self.bench.cases() if each.payment.payment_id == payment.payment_id
        ]
        if isinstance(answer, PgwError):
            assert answer.code in {Code.CONFLICT, Code.LEDGER_UNAVAILABLE, Code.INTERNAL}
            # A payment under way may go on by itself while the refusal is made; one that waits for a decision may not.
            may_move = payment.status is Status.PROCESSING
            assert answer.code is not Code.CONFLICT or status == payment.status or may_move
        else:
            assert answer.status == status == Status(outcome)

    @rule(troubles=st.lists(st.sampled_from(Trouble), min_size=1, max_size=3))
    def trouble_the_ledger(self, troubles: list[Trouble]) -> None:
        """Let the next commits fare badly."""
        self.bench.hand.commits.extend(troubles)

    @rule()
    def crash(self) -> None:
        self.bench.crash()

    @invariant()
    def each_step_is_an_exit(self) -> None:
        assert self.bench.wrong == []

    @invariant()
    def nothing_is_violated_at_any_moment(self) -> None:
        found = self.bench.cases()
        assert self.bench.violations(found) == []
        self._is_written_down_before_it_is_charged_once(found)

    def _is_written_down_before_it_is_charged_once(self, found: list[PaymentRows]) -> None:
        book = self.bench.run.book
        charged = Counter((each.reference, each.gateway_id) for each in book.charges)
        assert set(charged.values()) <= {1}
        started = {
            (case.payment.payment_id, each.attempt_number, each.gateway_id): each.started_at
            for case in found
            for each in case.attempts
        }
        for each in book.charges:
            announced = (each.reference.payment_id, each.reference.attempt_number, each.gateway_id)
            assert started[announced] <= each.sent_at
            assert each.net(self.bench.now) >= 0


async def _quietly(asking: object) -> None:
    """Ask; what is answered stands among the run's answers."""
    await asking  # type: ignore[misc]  # a coroutine


PaymentLine.TestCase.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)


TestPaymentLine = PaymentLine.TestCase


@pytest.fixture(autouse=True)
def _silence() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
