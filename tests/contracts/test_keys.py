"""Merchants' keys on both ledgers: two live ones at most, whoever else makes one; each act with its audit entry."""

import asyncio
from random import Random
from typing import Any

import pytest
from sqlalchemy import Connection, delete, select, update
from sqlalchemy.exc import DBAPIError

from pgw.core.errors import Code, PgwError
from pgw.core.flow.runtime.merchant_keys import KEYS_LIMIT_S, MerchantKeys, create, revoke
from pgw.core.ledger.audit import entry
from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.ledger.engine.store import open_engine
from pgw.core.ledger.engine.writer import LedgerUnavailable
from pgw.core.ledger.keys import REVOKE, MerchantKey, listed
from pgw.core.ledger.tables import audit_log, merchant_keys
from tests.doubles import VirtualClock
from tests.ledgers import id_of, opened, rows


async def made(
    ledger: OpenLedger, seed: int, merchant_id: str = "m_001", clock: VirtualClock | None = None
) -> tuple[str, MerchantKey]:
    """Make a key; one seed, one key."""
    return await create(ledger, clock or VirtualClock(), Random(seed), merchant_id, "development", "asha", "first shop")


async def ended(ledger: OpenLedger, key_id: str, clock: VirtualClock | None = None) -> MerchantKey:
    """Revoke a key."""
    return await revoke(ledger, clock or VirtualClock(), Random(99), key_id, "ravi", "changed over")


def test_a_key_is_kept_as_a_digest_with_its_maker_and_its_audit_entry(database: str) -> None:
    async def scenario() -> None:
        async with opened(database) as ledger:
            key, told = await made(ledger, 1)
            (row,) = await rows(ledger, merchant_keys)
            (noted,) = await rows(ledger, audit_log)
        assert (row["merchant_id"], row["created_by"], row["place"], row["revoked_at"]) == ("m_001", "asha", 1, None)
        assert (noted["actor"], noted["action"], noted["reason"]) == ("asha", "key.create", "first shop")
        assert (noted["subject"], noted["at"]) == (f"key:m_001:{told.key_id}", row["created_at"])
        secret = key.rpartition("_")[2]
        assert not any(secret[at : at + 8] in f"{row}{noted}{told}" for at in range(len(secret) - 7))

    asyncio.run(scenario())


def test_a_merchant_has_two_live_keys_and_a_third_after_one_is_revoked(database: str) -> None:
    async def scenario() -> None:
        async with opened(database) as ledger:
            (_, first), (_, second) = await made(ledger, 1), await made(ledger, 2)
            with pytest.raises(PgwError, match=f"pgw key revoke .*{first.key_id}") as refusal:
                await made(ledger, 3)
            assert refusal.value.code is Code.CONFLICT
            assert (await made(ledger, 4, "m_002"))[1].merchant_id == "m_002"
            await ended(ledger, first.key_id)
            await made(ledger, 5)
            live = await ledger.read(lambda connection: listed(connection, "m_001", with_revoked=False))
            assert len(live) == 2
            assert first.key_id not in {each.key_id for each in live}
            assert second.key_id in {each.key_id for each in live}
            # What was refused left nothing in the audit log.
            actions = [each["action"] for each in await rows(ledger, audit_log)]
        assert actions == ["key.create"] * 3 + ["key.revoke", "key.create"]

    asyncio.run(scenario())


def test_operators_at_once_never_make_a_third(database: str) -> None:
    """Each with a ledger of its own, as each `pgw key create` has."""

    async def scenario() -> None:
        async with opened(database) as one, opened(database) as other, opened(database) as third:
            found = await asyncio.gather(
                *(made(ledger, seed) for seed, ledger in enumerate((one, other, third) * 3)), return_exceptions=True
            )
            assert len([each for each in found if isinstance(each, tuple)]) == 2
            refusals = [each for each in found if not isinstance(each, tuple)]
            assert all(isinstance(each, PgwError) and each.code is Code.CONFLICT for each in refusals)
            assert [row["place"] for row in sorted(await rows(one, merchant_keys), key=lambda row: row["place"])] == [
                1,
                2,
            ]
            assert len(await rows(one, audit_log)) == 2

    asyncio.run(scenario())


def test_a_revoked_key_stays_revoked_by_whom_and_when_it_was_first(database: str) -> None:
    async def scenario() -> None:
        clock = VirtualClock()
        async with opened(database) as ledger:
            _, told = await made(ledger, 1, clock=clock)
            clock.advance(60)
            first = await ended(ledger, told.key_id, clock)
            clock.advance(60)
            assert first == await ended(ledger, told.key_id, clock)
            assert (first.revoked_by, first.revoked_at != first.created_at) == ("ravi", True)
            (*_, noted) = await rows(ledger, audit_log)
            assert len(await rows(ledger, audit_log)) == 2
            assert (noted["actor"], noted["action"], noted["at"]) == ("ravi", "key.revoke", first.revoked_at)
            with pytest.raises(PgwError, match="does not exist") as refusal:
                await ended(ledger, "000000000000")
            assert refusal.value.code is Code.NOT_FOUND

    asyncio.run(scenario())


def test_of_two_who_revoke_at_once_one_is_written(database: str) -> None:
    """Both saw the key live; the second one's commit finds it revoked, and notes nothing."""

    async def scenario() -> None:
        async with opened(database) as ledger:
            _, told = await made(ledger, 1)
            now = VirtualClock().now()
            fates = []
            for number, who in enumerate(("ravi", "asha")):
                noted = entry(id_of(number), now, who, "key.revoke", "key:m_001", "leaked")
                item = {"key_id": told.key_id, "revoked_at": now, "revoked_by": who, **noted}
                fates.append(await ledger.commit(REVOKE, item))
            assert fates == [True, False]
            (row,) = await rows(ledger, merchant_keys)
            assert (row["revoked_by"], len(await rows(ledger, audit_log))) == ("ravi", 2)

    asyncio.run(scenario())


def test_a_keyring_knows_what_the_ledger_knew_at_its_last_look(database: str) -> None:
    async def scenario() -> None:
        async with opened(database) as ledger, opened(database) as elsewhere:
            keyring = MerchantKeys(ledger, VirtualClock())
            await keyring.refresh()
            (key, told), (other, _) = await made(elsewhere, 1), await made(elsewhere, 2, "m_002")
            assert keyring.holder(f"Bearer {key}") is None
            await keyring.refresh()
            assert [keyring.holder(f"Bearer {each}") for each in (key, other)] == ["m_001", "m_002"]
            await ended(elsewhere, told.key_id)
            await keyring.refresh()
            assert [keyring.holder(f"Bearer {each}") for each in (key, other)] == [None, "m_002"]

    asyncio.run(scenario())


def test_a_keyring_reads_keys_only_when_there_is_a_change(database: str) -> None:
    class Counting:
        """A ledger that counts what is asked of it."""

        def __init__(self, ledger: OpenLedger) -> None:
            self.ledger = ledger
            self.asked: list[str] = []

        async def commit(self, *_: Any) -> bool:
            raise AssertionError("a look writes nothing")

        async def read(self, query: Any, *given: Any) -> Any:
            self.asked.append(query.__name__)
            return await self.ledger.read(query, *given)

    async def scenario() -> None:
        async with opened(database) as ledger:
            counting = Counting(ledger)
            keyring = MerchantKeys(counting, VirtualClock())
            for _ in range(3):
                await keyring.refresh()
            _, told = await made(ledger, 1)
            for _ in range(2):
                await keyring.refresh()
            await ended(ledger, told.key_id)
            await keyring.refresh()
        assert counting.asked[:4] == ["key_set_version", "live", "key_set_version", "key_set_version"]
        assert counting.asked[4:] == ["key_set_version", "live", "key_set_version", "key_set_version", "live"]

    asyncio.run(scenario())


def test_keys_nobody_could_look_at_for_long_open_nothing(database: str) -> None:
    """A key may be revoked by then; nor does anybody pass who would not have passed before."""

    async def scenario() -> None:
        clock = VirtualClock()
        async with opened(database) as ledger:
            key, _ = await made(ledger, 1)
            keyring = MerchantKeys(ledger, clock)
            await keyring.refresh()
            clock.advance(KEYS_LIMIT_S)
            assert keyring.holder(f"Bearer {key}") == "m_001"
            clock.advance(0.1)
            with pytest.raises(LedgerUnavailable) as refusal:
                keyring.holder(f"Bearer {key}")
            assert key not in str(refusal.value)
            await keyring.refresh()
            assert keyring.holder(f"Bearer {key}") == "m_001"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "change", [update(audit_log).values(actor="nobody"), delete(audit_log)], ids=["update", "delete"]
)
def test_what_the_audit_log_says_stays_said(database: str, change: Any) -> None:
    asyncio.run(_one_key(database))
    engine = open_engine(database)
    with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
        connection.execute(change)
    with engine.connect() as connection:
        assert _actors(connection) == ["asha"]
    engine.dispose()


async def _one_key(database: str) -> None:
    async with opened(database) as ledger:
        await made(ledger, 1)


def _actors(connection: Connection) -> list[str]:
    return list(connection.execute(select(audit_log.c.actor)).scalars())
