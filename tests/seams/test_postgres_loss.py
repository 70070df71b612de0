"""PostgreSQL is killed, takes no writes, no connections, has no room: nothing is charged that it does not know of."""

import os
import secrets
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psycopg
import pytest

from pgw.core.ledger.tables import payments
from tests.core.ledger.mortal import MortalPostgres, mortal_postgres
from tests.faults.proof import settled, violations
from tests.seams.paying import SLOW, Answered, look, pay, pay_at_once
from tests.seams.serving import Shop, audit, shop, wait_until

UNDER_WAY = 6
TIMEOUT_MS = 1_500
HEALED_WITHIN_S = 60.0

DISK_MB = 40
REFUSED = 4
MOST_ASKED = 400
"""Payments until the room that their tables still have is used up; some dozens are."""

pytestmark = pytest.mark.slow


@contextmanager
def _administrator(server: MortalPostgres) -> Iterator[psycopg.Connection]:
    with psycopg.connect(server.url, autocommit=True, options="-c default_transaction_read_only=off") as session:
        yield session


def _healed(opened: Shop) -> None:
    wait_until(opened.is_healed, "the end of all open payments", HEALED_WITHIN_S)


def _statuses(opened: Shop) -> dict[str, str]:
    return {row["idempotency_key"]: row["status"] for row in opened.rows(payments)}


def _violated(opened: Shop) -> int:
    found = violations(opened.database, settled(opened.book()))
    assert found == ()
    return len(found)


def _said(answers: Iterable[Answered]) -> str:
    """Say what all of them were answered alike."""
    (said,) = {each.said for each in answers}
    return said


def test_a_killed_postgres_lets_nothing_new_be_charged_and_what_is_under_way_is_verified(
    postgres: MortalPostgres, tmp_path: Path, saw: Callable[..., None]
) -> None:
    """Six payments are charged when it dies: each is answered as unknown, and found out when it is back."""
    with shop(tmp_path / "home", postgres.url, TIMEOUT_MS) as opened:
        opened.start()
        acknowledged = pay(opened.address, "before")
        keys = [f"under-way-{number}" for number in range(UNDER_WAY)]
        paying = pay_at_once(opened.address, keys, SLOW)
        wait_until(lambda: opened.captures().total() == 1 + UNDER_WAY, "their charges")
        postgres.kill()
        refused = pay(opened.address, "meanwhile")
        unknown = [each.result() for each in paying]
        readiness = look(opened.address, "/ops/readiness").code
        assert (refused.said, refused.retry_after, readiness) == ("503 LEDGER_UNAVAILABLE", "1", 503)
        assert _said(unknown) == "202 PENDING_VERIFICATION"
        assert opened.captures().total() == 1 + UNDER_WAY
        postgres.start()
        _healed(opened)
        found = _statuses(opened)
        assert found == dict.fromkeys(("before", *keys), "SUCCESS")
        lost = {acknowledged.document["payment_id"]} - {row["payment_id"] for row in opened.rows(payments)}
        again = pay(opened.address, "meanwhile")
        assert (acknowledged.said, again.said, lost) == ("201 SUCCESS", "201 SUCCESS", set())
        assert opened.captures() == Counter(row["payment_id"] for row in opened.rows(payments))
        (end,) = {found[key] for key in keys}
        said = (
            f"new: {refused.said}; {UNDER_WAY} under way: {_said(unknown)}, then {end};"
            f" {opened.captures().total()} charges for {len(_statuses(opened))}; {len(lost)} lost;"
            f" {_violated(opened)} violations"
        )
        saw(28, said)


@contextmanager
def _read_only(server: MortalPostgres) -> Iterator[None]:
    """Become what a replica is after a failover, for all sessions there are."""
    with _administrator(server) as session:
        session.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        session.execute("SELECT pg_reload_conf()")
        yield
        session.execute("ALTER SYSTEM RESET default_transaction_read_only")
        session.execute("SELECT pg_reload_conf()")


@contextmanager
def _no_connections(server: MortalPostgres) -> Iterator[None]:
    """Refuse logins of pgw's role, and end its sessions."""
    with _administrator(server) as session:
        session.execute("ALTER ROLE shop CONNECTION LIMIT 0")
        session.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'shop'")
        yield
        session.execute("ALTER ROLE shop CONNECTION LIMIT -1")


def _of_a_role(server: MortalPostgres) -> str:
    """Make a role that limits hold for, and name its ledger."""
    password = secrets.token_hex(8)
    with _administrator(server) as session:
        session.execute(f"CREATE ROLE shop LOGIN PASSWORD '{password}'")
        session.execute("CREATE DATABASE shop OWNER shop")
    return server.of("shop").replace("postgres:mortal@", f"shop:{password}@")


@pytest.mark.parametrize(("case", "fault"), [("no writes", _read_only), ("no connections", _no_connections)])
def test_a_postgres_that_takes_no_writes_or_no_connections_refuses_before_anything_is_charged(
    postgres: MortalPostgres,
    tmp_path: Path,
    case: str,
    fault: Callable[[MortalPostgres], AbstractContextManager[None]],
    saw: Callable[..., None],
) -> None:
    """The client is answered when to ask again, and then its payment is taken."""
    keys = [f"payment-{number}" for number in range(4)]
    with shop(tmp_path / "home", _of_a_role(postgres)) as opened:
        opened.start()
        assert pay(opened.address, "before").said == "201 SUCCESS"
        with fault(postgres):
            refused = [each.result() for each in pay_at_once(opened.address, keys)]
            charged = opened.captures().total() - 1
        (waits,) = {each.may_ask_again for each in refused}
        wait_until(lambda: look(opened.address, "/ops/readiness").code == 200, "PostgreSQL's return")
        later = [pay(opened.address, key) for key in keys]
        assert (_said(refused), waits, charged) == ("503 LEDGER_UNAVAILABLE", "with Retry-After", 0)
        assert _said(later) == "201 SUCCESS"
        assert opened.captures().total() == 1 + len(keys)
        said = f"{_said(refused)} {waits}, {charged} charges; afterwards {_said(later)}; {_violated(opened)} violations"
        saw(29, said, case=case)


@contextmanager
def _small_disk() -> Iterator[Path]:
    """Mount a disk of a few megabytes, which not everybody may."""
    folder = Path(tempfile.mkdtemp(prefix="pgw-test-"))
    try:
        mounting = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=0777", "tmpfs", str(folder)]
        if not shutil.which("mount") or subprocess.run(mounting, check=False, capture_output=True).returncode:
            pytest.skip("a small disk can only be mounted by root")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
    finally:
        folder.rmdir()


def _fill(disk: Path) -> Path:
    """Take all the room there is."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return filler


def _refused(opened: Shop) -> dict[str, Answered]:
    """Pay until there is no room for a payment, and a little longer; return what was refused.

    SQLite finds some room anew, by folding its log into its file: not all that follows is refused.
    """
    refused: dict[str, Answered] = {}
    left = MOST_ASKED
    while left:
        key = f"payment-{left}"
        answered = pay(opened.address, key)
        left = min(left - 1, 2 * REFUSED) if refused else left - 1
        if answered.code == 503:
            refused[key] = answered
        else:
            assert answered.said in {"201 SUCCESS", "202 PENDING_VERIFICATION"}
    assert refused, "the disk never was too small"
    return refused


def _charged(opened: Shop, keys: Collection[str]) -> int:
    """Count the charges for these keys, and for unknown payments."""
    found = audit(opened)
    mine = [each for each, row in found.payments.items() if row["idempotency_key"] in keys]
    return sum(found.captures[each] for each in mine) + len(found.orphans)


@contextmanager
def _on_a_small_disk(disk: Path, ledger: str) -> Iterator[str | None]:
    """Put a ledger there: PostgreSQL's tables (its log stays where it was), or all of SQLite's."""
    if ledger == "SQLite":
        yield None
        return
    with mortal_postgres() as server:
        place = disk / "tables"
        place.mkdir()
        if os.geteuid() == 0:
            shutil.chown(place, "nobody")
        with _administrator(server) as session:
            session.execute(f"CREATE TABLESPACE small LOCATION '{place}'")
            session.execute("CREATE DATABASE shop TABLESPACE small")
        yield server.of("shop")


@pytest.mark.parametrize("ledger", ["PostgreSQL", "SQLite"])
def test_a_full_disk_refuses_before_anything_is_charged(tmp_path: Path, ledger: str, saw: Callable[..., None]) -> None:
    """What had still found room and was not closed ends when there is room again, and what was refused is taken."""
    with _small_disk() as disk, _on_a_small_disk(disk, ledger) as url:
        home = disk / "home" if url is None else tmp_path / "home"
        with shop(home, url) as opened:
            opened.start()
            assert pay(opened.address, "before").said == "201 SUCCESS"
            filler = _fill(disk)
            refused = _refused(opened)
            charged = _charged(opened, refused)
            filler.unlink()
            (waits,) = {each.may_ask_again for each in refused.values()}
            said = _said(refused.values())
            later = _said([pay(opened.address, key) for key in refused])
            assert (said, waits, charged, later) == ("503 LEDGER_UNAVAILABLE", "with Retry-After", 0, "201 SUCCESS")
            _healed(opened)
            assert set(opened.captures().values()) == {1}
            said = f"{said} {waits}, {charged} charges for it; with room again {later}; {_violated(opened)} violations"
            saw(31, said, case="of PostgreSQL's tables" if url else "of SQLite")
