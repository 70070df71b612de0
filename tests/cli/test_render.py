"""One screen, five formats: nothing is cut in a pipe, columns line up, and control characters steer nothing."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from pgw.cli.app import FORMATS
from pgw.cli.views.render import _WRITERS, write
from pgw.cli.views.screen import Column, Screen, plain
from tests.cli import documents
from tests.cli.conftest import Pgw
from tests.cli.stub import Stub

LONG = "x" * 300
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
ITEMS = [
    {"name": "a", "words": ["one", "two"], "yes": True, "count": 7, "none": None},
    {"name": LONG, "words": [], "yes": False, "count": 12345, "none": None},
]
COLUMNS = (
    plain("name"),
    plain("words"),
    plain("yes"),
    plain("count", right=True),
    plain("none"),
    Column("twice", lambda row: row["count"] * 2, right=True),
)
SCREEN = Screen(
    document={"items": ITEMS, "next": None},
    columns=COLUMNS,
    rows=ITEMS,
    names=["a", LONG],
    above=("before",),
    below=("after",),
)


def _written(capsys: pytest.CaptureFixture[str], screen: Screen, output: str) -> str:
    write(screen, output)
    return capsys.readouterr().out


def test_every_format_is_known() -> None:
    assert set(_WRITERS) == {*FORMATS, "quiet"}


def test_a_table_in_a_pipe_is_aligned_and_whole(capsys: pytest.CaptureFixture[str]) -> None:
    before, titles, first, second, after = _written(capsys, SCREEN, "table").splitlines()
    assert (before, after) == ("before", "after")
    assert titles.split() == ["NAME", "WORDS", "YES", "COUNT", "NONE", "TWICE"]
    assert first.split() == ["a", "one,two", "yes", "7", "-", "14"]
    assert second.split() == [LONG, "-", "no", "12345", "-", "24690"]
    assert titles.index("COUNT") + len("COUNT") == first.index(" 7 ") + 2
    assert titles.index("WORDS") == first.index("one,two")


def test_json_is_the_document_and_jsonl_its_items(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(_written(capsys, SCREEN, "json")) == SCREEN.document
    lines = _written(capsys, SCREEN, "jsonl").splitlines()
    assert [json.loads(line) for line in lines] == ITEMS


def test_csv_is_read_back_by_its_names(capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(_written(capsys, SCREEN, "csv"))))
    assert rows[0] == {"name": "a", "words": "one,two", "yes": "yes", "count": "7", "none": "", "twice": "14"}
    assert rows[1]["name"] == LONG


def test_markdown_is_a_table_between_lists(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"name": "a|b", "words": [], "yes": True, "count": 1, "none": None}
    screen = Screen(document=row, columns=COLUMNS, rows=[row], names=[], above=("x    y",))
    lines = _written(capsys, screen, "md").splitlines()
    assert lines[:2] == ["- x y", ""]
    assert lines[3].startswith("|:")
    assert r"a\|b" in lines[4]


def test_quiet_prints_names_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert _written(capsys, SCREEN, "quiet") == f"a\n{LONG}\n"


@pytest.mark.parametrize("output", [*FORMATS, "quiet"])
def test_nothing_found_is_no_error(capsys: pytest.CaptureFixture[str], output: str) -> None:
    empty = Screen(document={"items": [], "next": None}, columns=COLUMNS, rows=[], names=[], below=("none",))
    shown = _written(capsys, empty, output)
    assert shown.count("\n") <= 5
    assert ("none" in shown) == (output in {"table", "md", "csv"})


@pytest.mark.parametrize("output", ["table", "md"])
def test_control_characters_are_written_as_escapes(capsys: pytest.CaptureFixture[str], output: str) -> None:
    row = {"name": "a\x1b[31m\nb"}
    screen = Screen(document=row, columns=(plain("name"),), rows=[row], names=[], above=("\x07",))
    shown = _written(capsys, screen, output)
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert r"a\x1b[31m\nb" in shown


def test_a_reader_that_goes_away_is_no_error(stub: Stub) -> None:
    items = [documents.payment() for _ in range(5000)]
    stub.answer("GET /payments", {"items": items, "next": None})
    with subprocess.Popen(
        [sys.executable, "-m", "pgw.cli", "payment", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("PAYMENT ID")
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 0


def test_ids_are_whole_in_a_pipe_however_narrow_the_window(
    pgw: Pgw, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    long: dict[str, Any] = {**documents.payment(), "merchant_reference": LONG}
    stub.answer("GET /payments", {"items": [long], "next": None})
    ended = pgw("payment", "list")
    assert documents.PAYMENT_ID in ended.out
    assert LONG in ended.out


class TestOnATerminal:
    """A table fits its window: sentences fold, columns of little weight are left out and named, ids stay whole."""

    def _shown(self, columns: int, *arguments: str, **environment: str) -> str:
        ours, theirs = os.openpty()
        environ = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm-256color", **environment}
        try:
            subprocess.run(
                [sys.executable, "-m", "pgw.cli", *arguments],
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                env=environ,
                check=True,
            )
            return os.read(ours, 65_536).decode()
        finally:
            os.close(ours)
            os.close(theirs)

    @pytest.mark.parametrize("columns", [80, 120, 200])
    def test_ids_are_whole_and_nothing_runs_over(self, stub: Stub, columns: int) -> None:
        shown = self._shown(columns, "payment", "list", NO_COLOR="1")
        lines = _ANSI.sub("", shown).splitlines()
        assert any(documents.PAYMENT_ID in line for line in lines)
        table = [line for line in lines if not line.startswith("note:")]
        assert max(map(len, table)) <= columns
        assert ("note: not in this window" in lines[0]) == (columns < 140)
        assert stub.asked

    @pytest.mark.parametrize(("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)], ids=str)
    def test_colour_is_there_unless_refused(self, stub: Stub, environment: dict[str, str], *, coloured: bool) -> None:
        assert ("\x1b[32m" in self._shown(200, "payment", "list", **environment)) == coloured
        assert stub.asked
