"""The sandbox's book: what was done is known after a restart, to every process, and whatever happened to a line."""

import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgw.core.gateways.book import BookLine, BookStatus, Charge, SandboxBook
from tests.doubles import NOON

WRITERS = 4
LINES_EACH = 50

WRITING = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from pgw.core.gateways.book import BookLine, BookStatus, SandboxBook

book = SandboxBook(Path(sys.argv[1]))
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    book.write(
        BookLine(
            payment_id=f"{sys.argv[2]}-{number}",
            attempt_number=1,
            gateway_id="hdfc",
            amount_minor=1000,
            currency="INR",
            status=BookStatus.CAPTURED,
            transaction_ref="ref" * 100,
            reason=None,
            effective_at=datetime.now(UTC),
        )
    )
book.close()
"""


def _line(
    payment_id: str, *, status: BookStatus = BookStatus.CAPTURED, number: int = 1, at: datetime = NOON
) -> BookLine:
    return BookLine(
        payment_id=payment_id,
        attempt_number=number,
        gateway_id="hdfc",
        amount_minor=1000,
        currency="INR",
        status=status,
        transaction_ref=f"ref-{payment_id}",
        reason=None if status is BookStatus.CAPTURED else "payment_cancelled",
        effective_at=at,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "sandbox.book"


def _written(path: Path, *lines: BookLine) -> None:
    book = SandboxBook(path)
    for line in lines:
        book.write(line)
    book.close()


def test_a_book_nobody_wrote_is_empty_and_is_not_made(path: Path) -> None:
    book = SandboxBook(path)
    assert book.find("hdfc", "p1", 1, NOON) is None
    assert book.charges(NOON) == []
    assert not path.parent.exists()


def test_what_was_written_is_known_after_a_restart(path: Path) -> None:
    _written(path, _line("p1"), _line("p2", status=BookStatus.DECLINED))
    again = SandboxBook(path)
    assert again.find("hdfc", "p1", 1, NOON) == _line("p1")
    assert again.find("hdfc", "p2", 1, NOON) == _line("p2", status=BookStatus.DECLINED)
    assert [again.find(*each, NOON) for each in (("icici", "p1", 1), ("hdfc", "p1", 2), ("hdfc", "p3", 1))] == [
        None
    ] * 3
    assert again.charges(NOON) == [
        Charge(
            payment_id="p1",
            attempt_number=1,
            gateway_id="hdfc",
            amount_minor=1000,
            currency="INR",
            status=BookStatus.CAPTURED,
        )
    ]


def test_a_reader_sees_what_another_has_appended_since_its_last_look(path: Path) -> None:
    reader = SandboxBook(path)
    for number in range(5):
        _written(path, _line(f"p{number}"))
        assert len(reader.charges(NOON)) == number + 1


def test_a_line_still_being_written_is_read_at_the_next_look(path: Path) -> None:
    _written(path, _line("p1"))
    whole = path.read_bytes()
    more = msgspec.json.encode(_line("p2")) + b"\n"
    reader = SandboxBook(path)
    for end in range(0, len(more), 7):
        path.write_bytes(whole + more[:end])
        assert [each.payment_id for each in reader.charges(NOON)] == ["p1"]
    path.write_bytes(whole + more)
    assert [each.payment_id for each in reader.charges(NOON)] == ["p1", "p2"]


def test_money_that_moves_late_is_unknown_until_it_moves(path: Path) -> None:
    late = NOON + timedelta(seconds=5)
    _written(path, _line("p1", status=BookStatus.DECLINED), _line("p1", at=late))
    book = SandboxBook(path)
    before, after = [book.find("hdfc", "p1", 1, at) for at in (late - timedelta(microseconds=1), late)]
    assert before is not None
    assert after is not None
    assert (before.status, after.status) == (BookStatus.DECLINED, BookStatus.CAPTURED)
    assert [len(book.charges(at)) for at in (NOON, late)] == [0, 1]


@given(
    lines=st.lists(
        st.builds(_line, st.sampled_from(["p1", "p2"]), status=st.sampled_from(BookStatus), number=st.integers(1, 2)),
        max_size=8,
    )
)
def test_any_lines_are_read_back_by_attempt_the_newest_first(
    tmp_path_factory: pytest.TempPathFactory, lines: list[BookLine]
) -> None:
    path = tmp_path_factory.mktemp("book") / "sandbox.book"
    _written(path, *lines)
    book = SandboxBook(path)
    for payment_id in ("p1", "p2"):
        for number in (1, 2):
            of_it = [each for each in lines if (each.payment_id, each.attempt_number) == (payment_id, number)]
            assert book.find("hdfc", payment_id, number, NOON) == (of_it[-1] if of_it else None)
    moved = [each for each in lines if each.status is not BookStatus.DECLINED]
    assert sorted(each.payment_id for each in book.charges(NOON)) == sorted(each.payment_id for each in moved)


def test_several_processes_write_one_book_and_no_line_is_torn(path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITING, str(path), f"w{number}", str(LINES_EACH)], stdin=subprocess.PIPE, text=True
        )
        for number in range(WRITERS)
    ]
    for each in writers:
        assert each.stdin is not None
        each.stdin.write("now\n")
        each.stdin.close()
    assert [each.wait(60) for each in writers] == [0] * WRITERS
    found = {each.payment_id for each in SandboxBook(path).charges(datetime.max.replace(tzinfo=NOON.tzinfo))}
    assert found == {f"w{writer}-{number}" for writer in range(WRITERS) for number in range(LINES_EACH)}


@pytest.mark.parametrize("kept", [1, 40, 120])
def test_after_a_half_written_last_line_the_next_lines_are_whole(path: Path, kept: int) -> None:
    """A process killed while it wrote leaves a torn line; the charges written after it must be found again."""
    _written(path, _line("p1"))
    path.write_bytes(path.read_bytes() + msgspec.json.encode(_line("torn"))[:kept])
    _written(path, _line("p2"), _line("p3"))
    for book in (SandboxBook(path), SandboxBook(path)):
        assert book.find("hdfc", "p2", 1, NOON) == _line("p2")
        assert [each.payment_id for each in book.charges(NOON)] == ["p1", "p2", "p3"]


def test_a_book_whose_last_line_is_torn_can_be_read_while_another_goes_on_writing(path: Path) -> None:
    _written(path, _line("p1"))
    path.write_bytes(path.read_bytes() + msgspec.json.encode(_line("torn"))[:30])
    reader = SandboxBook(path)
    assert [each.payment_id for each in reader.charges(NOON)] == ["p1"]
    _written(path, _line("p2"))
    assert [each.payment_id for each in reader.charges(NOON)] == ["p1", "p2"]


def test_captured_money_goes_back_once_whoever_asks_and_whenever(path: Path) -> None:
    """A second key, money that has not moved yet, and an unknown charge have nothing to refund."""
    late = NOON + timedelta(seconds=5)
    _written(
        path, _line("p1", status=BookStatus.DECLINED), _line("p1", at=late), _line("p2", status=BookStatus.DECLINED)
    )
    book, other = SandboxBook(path), SandboxBook(path)
    assert book.reverse("ref-p1", "key", NOON) is None
    first = book.reverse("ref-p1", "key", late)
    assert first is not None
    assert (first.status, first.reason, first.amount_minor) == (BookStatus.REVERSED, "key", 1000)
    assert [each.reverse("ref-p1", "key", late) for each in (book, other, SandboxBook(path))] == [first] * 3
    assert [book.reverse(ref, key, late) for ref, key in (("ref-p1", "other"), ("ref-p2", "key"), ("?", "key"))] == [
        None
    ] * 3
    assert book.find("hdfc", "p1", 1, late) == first
    assert [each.status for each in book.charges(late)] == [BookStatus.CAPTURED, BookStatus.REVERSED]


REVERSING = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from pgw.core.gateways.book import SandboxBook

sys.stdin.readline()
for number in range(int(sys.argv[2])):
    SandboxBook(Path(sys.argv[1])).reverse(f"ref-p{number}", "key", datetime.now(UTC))
"""


def test_several_processes_reverse_one_charge_once(path: Path) -> None:
    _written(path, *(_line(f"p{number}") for number in range(20)))
    asking = [
        subprocess.Popen([sys.executable, "-c", REVERSING, str(path), "20"], stdin=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for each in asking:
        assert each.stdin is not None
        each.stdin.write("now\n")
        each.stdin.close()
    assert [each.wait(60) for each in asking] == [0] * 3
    found = SandboxBook(path).charges(datetime.max.replace(tzinfo=NOON.tzinfo))
    assert sorted(each.payment_id for each in found if each.status is BookStatus.REVERSED) == sorted(
        f"p{number}" for number in range(20)
    )
