"""GET /payments on either ledger: pages without gap or repetition, every filter, nothing that is no filter."""

from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest

from tests.server.serving import Served
from tests.server.wire import Answer, Api, new_key, payment

INVALID = (400, "INVALID_REQUEST")
NOBODY = "00000000-0000-7000-8000-000000000000"


def _ids(answer: Answer) -> list[str]:
    return [each["payment_id"] for each in answer.document["items"]]


def _some(api: Api, count: int, merchant_id: str) -> list[str]:
    """Take some payments of a merchant of one's own; newest first, as lists are."""
    taken = [api.pay(payment(merchant_id=merchant_id)).document["payment_id"] for _ in range(count)]
    return taken[::-1]


def test_pages_follow_one_another_to_the_end(either: Served) -> None:
    merchant = new_key()
    taken = _some(either.api, 5, merchant)
    pages = [either.api.get(f"/payments?merchant_id={merchant}&limit=2")]
    while cursor := pages[-1].document["next"]:
        pages.append(either.api.get(f"/payments?merchant_id={merchant}&limit=2&cursor={cursor}"))
    assert [_ids(page) for page in pages] == [taken[:2], taken[2:4], taken[4:]]


def test_a_page_that_is_just_full_is_the_last(either: Served) -> None:
    merchant = new_key()
    taken = _some(either.api, 2, merchant)
    page = either.api.get(f"/payments?merchant_id={merchant}&limit=2")
    assert (_ids(page), page.document["next"]) == (taken, None)


def test_what_comes_in_between_does_not_move_the_pages(either: Served) -> None:
    merchant = new_key()
    taken = _some(either.api, 3, merchant)
    first = either.api.get(f"/payments?merchant_id={merchant}&limit=1")
    _some(either.api, 1, merchant)
    second = either.api.get(f"/payments?merchant_id={merchant}&limit=2&cursor={first.document['next']}")
    assert _ids(first) + _ids(second) == taken


def test_a_reference_is_any_of_four_names(either: Served) -> None:
    """Payment id, transaction reference, merchant reference, customer id; of all merchants, exactly."""
    customer, order = new_key(), f"order 1/ä {new_key()}"
    taken = either.api.pay(payment(customer_id=customer, merchant_reference=order)).document
    for ref in (taken["payment_id"], taken["transaction_ref"], customer, order):
        assert _ids(either.api.get(f"/payments?ref={quote(ref)}")) == [taken["payment_id"]]
    for ref in (customer[:-1], customer.upper(), f"{customer}%", "%", "_", "' OR 1=1 --", "\\", NOBODY, "null"):
        assert _ids(either.api.get(f"/payments?ref={quote(ref)}")) == []


def test_the_status_filters_by_what_is_shown(either: Served) -> None:
    merchant = new_key()
    (good,) = _some(either.api, 1, merchant)
    bad = either.api.pay(payment("failure@sandbox", merchant_id=merchant)).document["payment_id"]
    found = {
        status: _ids(either.api.get(f"/payments?merchant_id={merchant}&status={status}"))
        for status in ("SUCCESS", "FAILURE", "PROCESSING", "PENDING_VERIFICATION", "REQUIRES_ACTION", "MANUAL_REVIEW")
    }
    assert {status: ids for status, ids in found.items() if ids} == {"SUCCESS": [good], "FAILURE": [bad]}


def test_since_counts_the_moment_itself_whatever_its_offset(either: Served) -> None:
    merchant = new_key()
    older, newer = (either.api.pay(payment(merchant_id=merchant)).document for _ in range(2))
    moment = datetime.fromisoformat(newer["created_at"])
    written = [moment, moment.astimezone(UTC), moment.astimezone(tz=None)]
    for each in written:
        answer = either.api.get(f"/payments?merchant_id={merchant}&since={quote(each.isoformat())}")
        assert _ids(answer) == [newer["payment_id"]]
    later = quote((moment + timedelta(microseconds=1)).isoformat())
    assert _ids(either.api.get(f"/payments?merchant_id={merchant}&since={later}")) == []
    assert len(_ids(either.api.get(f"/payments?merchant_id={merchant}&since={quote(older['created_at'])}"))) == 2


@pytest.mark.parametrize("since", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "1970-01-01T00:00:00-23:59"])
def test_any_moment_of_utc_will_do(either: Served, since: str) -> None:
    assert either.api.get(f"/payments?since={since}&limit=1").status == 200


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=0", "/limit"),
        ("limit=201", "/limit"),
        ("limit=-1", "/limit"),
        ("limit=", "/limit"),
        ("limit=x", "/limit"),
        ("limit=1.5", "/limit"),
        (f"limit={'9' * 50}", "/limit"),
        (f"limit={'9' * 5000}", "/limit"),
        ("limit=%D9%A3", "/limit"),
        ("limit=null", "/limit"),
        ("limit=1&limit=2", "/limit"),
        ("cursor=", "/cursor"),
        ("cursor=x", "/cursor"),
        (f"cursor={NOBODY.replace('7', 'A')}", "/cursor"),
        (f"cursor={NOBODY}x", "/cursor"),
        (f"cursor={NOBODY[:-1]}%00", "/cursor"),
        ("since=", "/since"),
        ("since=yesterday", "/since"),
        ("since=2026-01-01", "/since"),
        ("since=2026-01-01T00:00:00", "/since"),
        ("since=2026-13-01T00:00:00Z", "/since"),
        ("since=0001-01-01T00:00:00%2B14:00", "/since"),
        ("since=9999-12-31T23:59:59-14:00", "/since"),
        ("since=10000-01-01T00:00:00Z", "/since"),
        ("since=1e300", "/since"),
        ("since=99999999999999999999", "/since"),
        ("since=nan", "/since"),
        ("since=null", "/since"),
        ("status=", "/status"),
        ("status=success", "/status"),
        ("status=null", "/status"),
        ("status=SUCCESS,FAILURE", "/status"),
        ("ref=", "/ref"),
        ("ref=%00", "/ref"),
        ("ref=a%00b", "/ref"),
        ("ref=%20", "/ref"),
        ("ref=%0d%0aSet-Cookie:x", "/ref"),
        (f"ref={'r' * 256}", "/ref"),
        ("merchant_id=", "/merchant_id"),
        ("merchant_id=%7f", "/merchant_id"),
        (f"merchant_id={'m' * 65}", "/merchant_id"),
        ("customer_id=c", "/customer_id"),
        ("Limit=1", "/Limit"),
        ("a~b/c=1", "/a~0b~1c"),
        (f"{'x' * 100}=1", f"/{'x' * 64}"),
        ("=1", "/"),
        ("%00=1", "/\0"),
    ],
    ids=lambda each: each[:40],
)
def test_what_is_no_filter_is_refused_by_name(either: Served, query: str, pointer: str) -> None:
    refused = either.api.get(f"/payments?{query}")
    assert (refused.refusal, refused.pointers) == (INVALID, [pointer])


@pytest.mark.parametrize(
    "query", ["ref=%ED%A0%80", "ref=%FF", "ref=%F0%9F%92%B0", "merchant_id=%C3%28", "&&&", "ref=%"]
)
def test_odd_text_finds_nothing_and_breaks_nothing(either: Served, query: str) -> None:
    assert either.api.get(f"/payments?limit=1&{query}").status == 200


def test_several_bad_filters_are_named_at_once(server: Served) -> None:
    refused = server.api.get("/payments?limit=0&status=x&cursor=&y=1")
    assert refused.pointers == ["/status", "/limit", "/y"]


@pytest.mark.parametrize("view", ["", "/attempts", "/routing-decision", "/status-verification"])
@pytest.mark.parametrize(
    "payment_id",
    [
        NOBODY,
        "x",
        "%00",
        NOBODY.upper() + "A",
        NOBODY.replace("-", ""),
        f"{{{NOBODY}}}",
        "a" * 3000,
        "%ED%A0%80",
        "' OR 1=1",
    ],
    ids=lambda each: each[:40],
)
def test_a_payment_that_is_not_there_is_404(either: Served, payment_id: str, view: str) -> None:
    target = f"/payments/{quote(payment_id, safe='%')}{view}"
    assert either.api.get(target).refusal == (404, "NOT_FOUND")
