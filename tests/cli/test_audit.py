"""`pgw audit log` tells who did what and why, by hand and by configuration, newest first, page after page."""

import json

import pytest

from pgw.cli.exits import Exit
from pgw.cli.transport.client import actor
from tests.cli.conftest import Pgw

pytestmark = pytest.mark.usefixtures("ledger")


def _told(pgw: Pgw, *options: str) -> list[tuple[str, str, str]]:
    items = json.loads(pgw("audit", "log", *options, "-o", "json").out)["items"]
    return [(each["action"], each["subject"].rpartition(":")[0], each["reason"]) for each in items]


def test_what_was_done_is_told_with_its_author_and_reason(pgw: Pgw) -> None:
    """Through whichever door it came: the stores, or the app."""
    key_id = json.loads(pgw("key", "create", "m_001", "--reason", "new shop", "-o", "json").out)["key_id"]
    assert pgw("breaker", "force-open", "hdfc", "UPI", "--reason", "INC-4412").code == 0
    assert pgw("key", "revoke", key_id, "--reason", "leaked").code == 0
    assert _told(pgw)[:3] == [
        ("key.revoke", "key:m_001", "leaked"),
        ("configure", "breaker:hdfc", "INC-4412"),
        ("key.create", "key:m_001", "new shop"),
    ]
    newest = json.loads(pgw("audit", "log", "--limit", "3", "-o", "json").out)["items"]
    assert {each["actor"] for each in newest} == {actor()}
    assert newest[1]["details"]["document"]["state"] == "FORCED_OPEN"
    lines = pgw("audit", "log").out.splitlines()
    assert lines[0].split() == ["AT", "ACTOR", "ACTION", "SUBJECT", "REASON"]
    assert lines[1].split()[1:] == [actor(), "key.revoke", f"key:m_001:{key_id}", "leaked"]

    assert [each[0] for each in _told(pgw, "--subject", "key:")] == ["key.revoke", "key.create"]
    assert len(_told(pgw, "--action", "key.create", "--actor", actor(), "--since", "1h")) == 1
    assert _told(pgw, "--actor", "nobody") == []
    assert pgw("audit", "log", "--actor", "nobody").out == "nothing was done that matches\n"


def test_pages_follow_one_another_to_the_end(pgw: Pgw) -> None:
    assert pgw("key", "create", "m_001").code == 0
    whole = json.loads(pgw("audit", "log", "--limit", "200", "-o", "json").out)
    assert whole["next"] is None
    found: list[object] = []
    cursor: list[str] = []
    for _ in range(10):
        ended = pgw("audit", "log", "--limit", "3", "-o", "json", *cursor)
        page = json.loads(ended.out)
        found += page["items"]
        assert ("--cursor" in ended.err) == (page["next"] is not None)
        if page["next"] is None:
            break
        cursor = ["--cursor", page["next"]]
    assert whole["items"] == found


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--since yesterday", "--since"),
        ("--since 2026-01-31", "--since"),
        ("--since 999999d", "--since"),
        ("--limit 0", "--limit"),
        ("--limit 201", "--limit"),
        ("--cursor x", "--cursor"),
        ("--cursor audit:1@never", "--cursor"),
    ],
)
def test_wrong_usage_is_one_line_that_names_the_option(pgw: Pgw, arguments: str, told: str) -> None:
    ended = pgw("audit", "log", *arguments.split())
    assert (ended.code, ended.out, ended.err.count("\n")) == (Exit.USAGE, "", 1)
    assert told in ended.err
