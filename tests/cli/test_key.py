"""`pgw key` makes keys that work on a running server until they are revoked, and leaves no trace of what they are."""

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pgw.cli.exits import Exit
from pgw.cli.transport.client import actor
from tests.cli.conftest import Pgw
from tests.server.serving import Served, served
from tests.server.wire import eventually, new_key, payment

KEY = re.compile(r"pgw_development_[0-9a-f]{12}_[0-9A-Za-z]{43}")


@pytest.fixture
def server(home: Path) -> Iterator[Served]:
    """Run `pgw serve` on the ledger that commands find."""
    with served(home.parent) as running:
        yield running


def _made(pgw: Pgw, merchant: str) -> str:
    ended = pgw("key", "create", merchant, "-q")
    assert (ended.code, ended.err) == (0, "")
    key = ended.out.removesuffix("\n")
    assert KEY.fullmatch(key)
    return key


def test_a_key_works_on_a_running_server_until_it_is_revoked(pgw: Pgw, server: Served) -> None:
    """No restart, no word to the server: it looks for itself. Nothing of the key is in its log or its ledger."""
    key, other = _made(pgw, "m_001"), _made(pgw, "m_002")
    shown = {"Authorization": f"Bearer {key}"}

    def works() -> bool | None:
        return server.api.call("GET", "/payments", headers=shown).status == 200 or None

    assert eventually(works)
    idempotency_key = new_key()
    assert server.api.pay(payment(), idempotency_key, shown).status == 201
    assert server.api.pay(payment(merchant_id="m_002"), headers=shown).refusal == (403, "MERCHANT_MISMATCH")

    (key_id,) = pgw("key", "list", "--merchant", "m_001", "-q").out.split()
    assert pgw("key", "revoke", key_id, "--reason", "leaked").code == 0
    assert eventually(lambda: works() is None or None)
    for asked in (server.api.get("/payments", Authorization=f"Bearer {key}"), server.api.pay(headers=shown)):
        assert asked.refusal == (401, "UNAUTHORIZED")
    assert server.api.call("GET", "/payments", headers={"Authorization": f"Bearer {other}"}).status == 200

    assert server.stop() == 0
    written = [path for path in server.folder.rglob("*") if path.is_file()]
    assert server.log in written
    for path in written:
        content = path.read_bytes()
        assert not [each for each in (key, other) if each.rpartition("_")[2].encode() in content], path


@pytest.mark.usefixtures("ledger")
def test_a_key_is_shown_once_in_every_format(pgw: Pgw) -> None:
    """Once on stdout, nothing on stderr, never again."""
    for number, options in enumerate((["-o", "json"], ["-o", "csv"], ["-o", "md"], ["-o", "jsonl"], [], ["-q"])):
        ended = pgw("key", "create", f"m_{number}", *options)
        assert (ended.code, ended.err, len(KEY.findall(ended.out))) == (0, "", 1)
    assert not KEY.search(pgw("key", "list", "--all", "-o", "json").out + pgw("audit", "log", "-o", "json").out)


def test_keys_are_listed_with_their_makers_and_ends(pgw: Pgw, ledger: Path) -> None:
    assert pgw("key", "list").out == "there is no live key\n"
    first, _ = _made(pgw, "m_001"), _made(pgw, "m_001")
    key_id = first.split("_")[2]
    third = pgw("key", "create", "m_001")
    assert (third.code, third.out, third.err.count("\n")) == (Exit.CONFLICT, "", 1)
    assert "pgw key revoke" in third.err
    revoked = json.loads(pgw("key", "revoke", key_id, "-o", "json").out)
    assert (revoked["revoked_by"], revoked["created_by"]) == (actor(), actor())
    assert revoked == json.loads(pgw("key", "revoke", key_id, "-o", "json").out)
    live = json.loads(pgw("key", "list", "-o", "json").out)["items"]
    everything = json.loads(pgw("key", "list", "--all", "-o", "json").out)["items"]
    assert (len(live), len(everything)) == (1, 2)
    assert revoked in everything
    with closing(sqlite3.connect(ledger)) as connection:
        kept = connection.execute("SELECT secret_digest FROM merchant_keys WHERE key_id = ?", (key_id,)).fetchone()[0]
    assert re.fullmatch("[0-9a-f]{64}", kept)


@pytest.mark.usefixtures("ledger")
def test_what_is_no_key_s_id_is_not_found_and_not_repeated(pgw: Pgw) -> None:
    """It may be the key itself, typed in the wrong place."""
    key = _made(pgw, "m_001")
    for typed in (key, key.upper(), "5d0c4f9be2a", "x", "000000000000"):
        ended = pgw("key", "revoke", typed)
        assert (ended.code, ended.out, ended.err.count("\n")) == (Exit.NOT_FOUND, "", 1)
        assert key[20:] not in ended.err
        assert "pgw key list" in ended.err


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize(
    "arguments",
    [
        ["create", ""],
        ["create", "x" * 65],
        ["create", " "],
        ["create", "a\tb"],
        ["create", "4111 1111 1111 1111"],
        ["create", "m_001", "--reason", "4111111111111111"],
        ["revoke", "5d0c4f9be2a1", "--reason", ""],
    ],
    ids=str,
)
def test_what_no_payment_could_name_gets_no_key(pgw: Pgw, arguments: list[str]) -> None:
    ended = pgw("key", *arguments)
    assert (ended.code, ended.out, ended.err.count("\n")) == (Exit.USAGE, "", 1)
    assert "4111" not in ended.err
    assert pgw("key", "list", "--all", "-q").out == ""


@pytest.mark.parametrize("command", ["key create m_001", "key list", "key revoke 5d0c4f9be2a1", "audit log"])
def test_an_absent_store_is_named_and_not_made(pgw: Pgw, home: Path, command: str) -> None:
    ended = pgw(*command.split())
    assert (ended.code, ended.out, ended.err.count("\n")) == (Exit.ABSENT, "", 1)
    assert not home.exists()


def test_production_names_its_keys_so(pgw: Pgw, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On PostgreSQL, by the environment of whoever makes it."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("PGW_ENV", "production")
    assert pgw("db", "upgrade").code == 0
    assert pgw("key", "create", "m_001", "-q").out.startswith("pgw_production_")
    assert len(json.loads(pgw("audit", "log", "--action", "key.create", "-o", "json").out)["items"]) == 1
