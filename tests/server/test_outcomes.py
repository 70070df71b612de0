"""POST /payments on either ledger: every row of its outcome table, each magic address, one charge for each key."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import pytest

from tests.server.kept import violated_by
from tests.server.serving import Served
from tests.server.wire import Answer, Api, Sent, eventually, new_key, payment

AT_ONCE = 200

FINAL = {"SUCCESS", "FAILURE"}

Saw = Callable[..., None]

ENDS = {
    "test@okhdfcbank": ("SUCCESS", 1, [1]),
    "failure@sandbox": ("FAILURE", 1, []),
    "gateway-error@sandbox": ("SUCCESS", 2, [2]),
    "slow@sandbox": ("SUCCESS", 1, [1]),
    "timeout@sandbox": ("SUCCESS", 1, [1]),
    # Money that moves after the decline: the answer stands, the book tells of it later.
    "late@sandbox": ("FAILURE", 1, [1]),
}
"""Address -> how its payment ends, its attempts, and the attempts that were charged."""


@dataclass
class Begun:
    """What takes its time, begun before the first test: a gateway that does not answer, and clients that went away."""

    key: str
    body: dict[str, object]
    sent: Sent
    hung_up: dict[str, str]
    """Address -> the customer by whom its payment can be found, who is also its key."""

    @cached_property
    def unanswered(self) -> Answer:
        """Wait for the answer, which comes when the attempt's time is over."""
        return self.sent.answer()


@pytest.fixture(scope="module", autouse=True)
def begun(either: Served) -> Iterator[Begun]:
    """Begin what the last tests look at the end of."""
    hung_up = {vpa: new_key() for vpa in ENDS}
    for vpa, customer in hung_up.items():
        either.api.paying(payment(vpa, customer_id=customer), customer).hang_up()
    key, body = new_key(), payment("timeout@sandbox")
    with either.api.paying(body, key) as sent:
        yield Begun(key, body, sent, hung_up)


def _as_final(api: Api, payment_id: str) -> Answer | None:
    shown = api.get(f"/payments/{payment_id}")
    return shown if shown.document["status"] in FINAL else None


def _charges(api: Api, payment_id: str) -> list[tuple[int, str]]:
    return [(each["attempt_number"], each["status"]) for each in api.charges() if each["payment_id"] == payment_id]


def _attempts(api: Api, payment_id: str) -> list[tuple[int, str, str | None]]:
    found = api.get(f"/payments/{payment_id}/attempts").document["attempts"]
    return [(each["attempt_number"], each["status"], each["blame"]) for each in found]


def test_an_approved_payment_is_201_and_says_how_it_was_routed(either: Served) -> None:
    api = either.api
    answer = api.pay(payment(merchant_reference="order-1", metadata={"cart": "7"}))
    assert answer.status == 201
    shown = answer.document
    assert (shown["status"], shown["attempts_made"], shown["failure_code"]) == ("SUCCESS", 1, None)
    assert shown["gateway_used"] == "hdfc"
    assert shown["routing_reason"].startswith("hdfc ")
    assert shown["latency_ms"] >= 0
    assert (shown["merchant_reference"], shown["metadata"]) == ("order-1", {"cart": "7"})
    assert shown["created_at"].endswith("Z")
    assert api.get(f"/payments/{shown['payment_id']}").document == shown
    assert _attempts(api, shown["payment_id"]) == [(1, "SUCCESS", "none")]
    assert _charges(api, shown["payment_id"]) == [(1, "CAPTURED")]


def test_its_decision_is_explained_and_comes_out_the_same_again(either: Served) -> None:
    taken = either.api.pay().document
    decision = either.api.get(f"/payments/{taken['payment_id']}/routing-decision?recompute=true").document
    assert decision["recomputed"] == {"identical": True, "differences": []}
    assert decision["selected_gateway"] == taken["gateway_used"] == decision["ranked"][0]["gateway_id"]
    assert sum(each["propensity"] for each in decision["ranked"]) == 1
    plain = either.api.get(f"/payments/{taken['payment_id']}/routing-decision").document
    assert plain == {name: value for name, value in decision.items() if name != "recomputed"}


def test_the_same_key_and_body_answer_the_payment_there_is(either: Served) -> None:
    key, api = new_key(), either.api
    first = api.pay(key=key)
    again = api.pay(key=key)
    assert "idempotent-replayed" not in first.headers
    assert (again.status, again.headers["idempotent-replayed"]) == (201, "true")
    assert again.document == first.document
    assert _charges(api, first.document["payment_id"]) == [(1, "CAPTURED")]


def test_the_same_body_may_be_written_in_another_way(either: Served) -> None:
    key = new_key()
    first = either.api.pay(key=key)
    written = b'{"instrument":{"vpa":"test@okhdfcbank","type":"\\u0055PI"},"metadata":{},"customer":null,'
    written += (
        b'"customer_id":"cust_001","merchant_id":"m_001","payment_method":"UPI","currency":"INR","amount_minor":1000}'
    )
    again = either.api.pay(written, key=key)
    assert (again.status, again.headers["idempotent-replayed"]) == (201, "true")
    assert again.document == first.document


@pytest.mark.parametrize(
    "other",
    [{"amount_minor": 1001}, {"vpa": "other@okhdfcbank"}, {"metadata": {"a": "b"}}, {"customer_id": "x"}],
    ids=str,
)
def test_another_body_under_a_key_is_refused(either: Served, other: dict[str, object], saw: Saw) -> None:
    key = new_key()
    first = either.api.pay(key=key)
    refused = either.api.pay(payment(**other), key=key)  # type: ignore[arg-type]  # one of them is the address
    assert refused.refusal == (422, "IDEMPOTENCY_KEY_REUSED")
    again = either.api.pay(key=key)
    assert again.document == first.document
    charges = _charges(either.api, first.document["payment_id"])
    assert charges == [(1, "CAPTURED")]
    told = f"{refused.status} {refused.code}; its own body: {again.status} {again.document['status']}"
    how = "replayed" if _is_replay(again) else "made anew"
    saw(33, f"{told}, {how}; {len(charges)} charge; {violated_by(either)} violations")


def test_a_key_belongs_to_its_merchant(either: Served) -> None:
    key = new_key()
    first = either.api.pay(payment(merchant_id="m_one"), key=key)
    second = either.api.pay(payment(merchant_id="m_two"), key=key)
    assert (first.status, second.status) == (201, 201)
    assert first.document["payment_id"] != second.document["payment_id"]


def test_a_key_at_work_is_409_and_then_replays(either: Served) -> None:
    key, api, body = new_key(), either.api, payment("slow@sandbox", customer_id=new_key())
    with api.paying(body, key) as first:
        eventually(lambda: api.get(f"/payments?ref={body['customer_id']}").document["items"] or None)
        busy = api.pay(body, key=key)
        assert busy.refusal == (409, "IDEMPOTENCY_KEY_IN_USE")
        assert int(busy.headers["retry-after"]) >= 1
        answer = first.answer()
    assert (answer.status, answer.document["status"]) == (201, "SUCCESS")
    assert answer.document["latency_ms"] >= 1000
    assert api.pay(body, key=key).document == answer.document


@pytest.mark.parametrize("vpa", ["test@okhdfcbank", "slow@sandbox"])
def test_many_posts_of_one_key_make_one_payment_and_one_charge(either: Served, vpa: str, saw: Saw) -> None:
    """200 at once: one is the payment, the rest replay it or are told that it is at work."""
    key, api, body = new_key(), either.api, payment(vpa, customer_id=new_key())
    sent = [api.paying(body, key) for _ in range(AT_ONCE)]
    try:
        answers = [each.answer() for each in sent]
    finally:
        for each in sent:
            each.hang_up()
    taken = [each for each in answers if each.status == 201]
    refused = [each for each in answers if each.status != 201]
    assert len([each for each in taken if "idempotent-replayed" not in each.headers]) == 1
    assert {each.refusal for each in refused} <= {(409, "IDEMPOTENCY_KEY_IN_USE")}
    assert refused or vpa != "slow@sandbox"
    payment_id = taken[0].document["payment_id"]
    assert {each.document["payment_id"] for each in taken} == {payment_id}
    listed = api.get(f"/payments?ref={body['customer_id']}").document["items"]
    assert [each["payment_id"] for each in listed] == [payment_id]
    charges = _charges(api, payment_id)
    assert charges == [(1, "CAPTURED")]
    if vpa == "slow@sandbox":
        ends, busy = {f"{each.status} {each.document['status']}" for each in taken}, {each.refusal for each in refused}
        told = f"{len(answers)} at once: {', '.join(ends)}, the others {' '.join(map(str, *busy))} or its replay"
        ledger = "SQLite" if either.database_url is None else "PostgreSQL"
        kept = f"{len(listed)} payment, {len(charges)} charge; {violated_by(either)} violations"
        saw(32, f"{told}; {kept}", case=f"on {ledger}")


def test_a_customers_decline_is_final_after_one_attempt(either: Served) -> None:
    answer = either.api.pay(payment("failure@sandbox"))
    assert (answer.status, answer.document["status"]) == (201, "FAILURE")
    assert (answer.document["failure_code"], answer.document["attempts_made"]) == ("PAYMENT_CANCELLED", 1)
    assert _attempts(either.api, answer.document["payment_id"]) == [(1, "FAILURE", "customer")]
    assert _charges(either.api, answer.document["payment_id"]) == []


def test_a_gateways_own_fault_is_made_good_by_another(either: Served) -> None:
    answer = either.api.pay(payment("gateway-error@sandbox"))
    assert (answer.status, answer.document["status"], answer.document["attempts_made"]) == (201, "SUCCESS", 2)
    found = either.api.get(f"/payments/{answer.document['payment_id']}/attempts").document
    first, second = (each["gateway_id"] for each in found["attempts"])
    assert answer.document["gateway_used"] == second != first
    assert found["attempts"][1]["fallback_reason"] == found["attempts"][0]["error_code"] == "GATEWAY_TECHNICAL_ERROR"
    assert _charges(either.api, answer.document["payment_id"]) == [(2, "CAPTURED")]


def test_a_payment_that_was_clear_at_once_never_needed_a_check(either: Served) -> None:
    payment_id = either.api.pay().document["payment_id"]
    assert either.api.get(f"/payments/{payment_id}/status-verification").refusal == (404, "NO_VERIFICATION")


def test_a_gateway_that_never_answers_leaves_the_payment_open(begun: Begun) -> None:
    """202, and no other gateway was asked."""
    answer = begun.unanswered
    payment_id = answer.document["payment_id"]
    assert (answer.status, answer.document["status"]) == (202, "PENDING_VERIFICATION")
    assert answer.headers["location"] == f"/payments/{payment_id}"
    assert answer.document["attempts_made"] == 1
    assert answer.document["transaction_ref"] is None


def test_it_ends_by_what_the_gateway_says_when_asked(either: Served, begun: Begun) -> None:
    """SUCCESS by verification, with the one charge there ever was; the key replays the payment as it is now."""
    api, payment_id = either.api, begun.unanswered.document["payment_id"]
    settled = eventually(lambda: _as_final(api, payment_id)).document
    assert (settled["status"], settled["attempts_made"]) == ("SUCCESS", 1)
    assert _attempts(api, payment_id) == [(1, "SUCCESS", "none")]
    assert _charges(api, payment_id) == [(1, "CAPTURED")]
    again = api.pay(begun.body, key=begun.key)
    assert (again.status, again.document) == (201, settled)
    done = api.get(f"/payments/{payment_id}/status-verification").document
    assert (done["state"], done["last_result"], done["checks_made"]) == ("done", "SUCCESS", 1)


def test_a_client_that_hangs_up_changes_nothing(either: Served, begun: Begun, saw: Saw) -> None:
    """Each magic address, its client gone once the request is out: the payment ends all the same, charged once."""
    api = either.api

    def ended() -> dict[str, dict[str, object]] | None:
        shown = {vpa: api.get(f"/payments?ref={name}").document["items"] for vpa, name in begun.hung_up.items()}
        final = {vpa: items[0] for vpa, items in shown.items() if items and items[0]["status"] in FINAL}
        return final if len(final) == len(ENDS) else None

    final = eventually(ended)
    assert {vpa: (each["status"], each["attempts_made"]) for vpa, each in final.items()} == {
        vpa: end[:2] for vpa, end in ENDS.items()
    }
    expected = {
        str(each["payment_id"]): [(number, "CAPTURED") for number in ENDS[vpa][2]] for vpa, each in final.items()
    }
    eventually(lambda: expected == {name: _charges(api, name) for name in expected} or None)
    again = {vpa: api.pay(payment(vpa, customer_id=name), name) for vpa, name in begun.hung_up.items()}
    assert {vpa: each.document for vpa, each in again.items()} == final
    replayed = Counter(f"{each.status} {each.document['status']}" for each in again.values() if _is_replay(each))
    ends = ", ".join(f"{times} times {end}" for end, times in sorted(replayed.items()))
    charged = sum(len(_charges(api, name)) for name in expected)
    told = f"{len(final)} clients gone, asked again: {ends}"
    saw(34, f"{told}; {charged} charges; {violated_by(either)} violations", case="its request is out")


def _is_replay(answer: Answer) -> bool:
    return answer.headers.get("idempotent-replayed") == "true"


def test_a_client_that_goes_away_within_its_request_has_asked_for_nothing(either: Served, saw: Saw) -> None:
    """Half a body is no payment, and its key is not used up."""
    key, body, api = new_key(), payment(customer_id=new_key()), either.api
    content = json.dumps(body).encode()
    head = "POST /payments HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    half = f"{head}Idempotency-Key: {key}\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content[:-1]
    assert [each.status for each in api.raw(half, ended=True) if each.status < 400] == []
    listed = api.get(f"/payments?ref={body['customer_id']}").document["items"]
    assert listed == []
    answer = api.pay(body, key)
    assert (answer.status, _is_replay(answer)) == (201, False)
    charges = _charges(api, answer.document["payment_id"])
    assert charges == [(1, "CAPTURED")]
    told = f"{len(listed)} payments; its key again: {answer.status} {answer.document['status']}"
    how = "replayed" if _is_replay(answer) else "made anew"
    saw(34, f"{told}, {how}; {len(charges)} charge; {violated_by(either)} violations", case="its request is not whole")
