"""`pgw audit money` says what is wrong with the money, by the ledger and by a settlement list; exit code 10 then."""

import json
from pathlib import Path

import pytest

from pgw.cli.exits import Exit
from tests.cli.conftest import Pgw

pytestmark = pytest.mark.usefixtures("ledger")

NOBODY = "019b8e07-0000-7000-8000-000000000000"
HEAD = "gateway_id,payment_id,attempt_number,amount_minor,currency,kind"


def test_a_right_ledger_passes(pgw: Pgw) -> None:
    ended = pgw("audit", "money", "--since", "7d")
    assert (ended.code, ended.out.splitlines()[-1]) == (Exit.DONE, "no invariant is violated")
    document = json.loads(pgw("audit", "money", "-o", "json").out)
    assert tuple(document[name] for name in ("payments", "violations", "complete", "settled_gateways")) == (
        0,
        [],
        True,
        None,
    )


@pytest.mark.parametrize("name", ["list.csv", "list.json"])
def test_money_that_nobody_wrote_down_is_shown(pgw: Pgw, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    line = ("hdfc", NOBODY, 1, 500, "INR", "captured")
    rows = [dict(zip(HEAD.split(","), line, strict=True))]
    path.write_text(json.dumps(rows) if name.endswith("json") else f"{HEAD}\n{','.join(map(str, line))}\n")
    ended = pgw("audit", "money", "--settlement", str(path))
    assert ended.code == Exit.GATE
    assert "I4" in ended.out
    assert pgw("audit", "money", "--settlement", str(path), "-q").out.split() == [NOBODY]


@pytest.mark.parametrize(
    ("written", "code"),
    [
        (None, Exit.NOT_FOUND),
        ("what\nis this\n", Exit.USAGE),
        (f"{HEAD}\nhdfc,{NOBODY},1,500,INR,given\n", Exit.USAGE),
        (f"{HEAD}\nhdfc,{NOBODY},one,500,INR,captured\n", Exit.USAGE),
    ],
)
def test_what_is_no_list_is_refused(pgw: Pgw, tmp_path: Path, written: str | None, code: Exit) -> None:
    path = tmp_path / "list.csv"
    if written is not None:
        path.write_text(written)
    ended = pgw("audit", "money", "--settlement", str(path))
    assert (code, "") == (ended.code, ended.out)
    assert str(path) in ended.err


@pytest.mark.parametrize(
    "raw", [b"[", b"{}", b'["\xff"]', b"[" * 100_000], ids=["torn", "no list", "no UTF-8", "too deep"]
)
@pytest.mark.parametrize("name", ["list.csv", "list.json"])
def test_malformed_bytes_are_no_settlement_list(pgw: Pgw, tmp_path: Path, name: str, raw: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(raw + b"\n1\n")
    ended = pgw("audit", "money", "--settlement", str(path))
    assert (ended.code, ended.out) == (Exit.USAGE, "")
    assert str(path) in ended.err
