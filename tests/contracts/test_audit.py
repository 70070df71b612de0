"""What people did is one log on both ledgers: configuration and the rest, newest first, page by page, filtered."""

import asyncio
from datetime import timedelta
from random import Random

from msgspec.structs import astuple

from pgw.core.flow.runtime.merchant_keys import create, revoke
from pgw.core.ledger.audit import AuditEntry, AuditFilter, read
from pgw.core.ledger.configuration import CONFIGURE, SEED
from pgw.core.ledger.engine.ledger import OpenLedger
from tests.doubles import NOON, VirtualClock
from tests.ledgers import opened

LATER = NOON + timedelta(days=4000)
"""After whatever moment the migrations ran at."""


async def _story(ledger: OpenLedger) -> None:
    """Let two people do seven things, all but the last two in one moment."""
    clock, rng = VirtualClock(LATER), Random(7)
    _, first = await create(ledger, clock, rng, "m_1%", "development", "asha", "shop")
    await _configured(ledger, 1, "pause", "ravi", clock)
    await _configured(ledger, 2, "gateway:hdfc", "asha", clock)
    _, second = await create(ledger, clock, rng, "m_2", "development", "ravi", "shop")
    await revoke(ledger, clock, rng, second.key_id, "ravi", "leaked")
    clock.advance(60)
    await revoke(ledger, clock, rng, first.key_id, "asha", "over")
    await _configured(ledger, 3, "gateway:icici", "asha", clock)


async def _configured(ledger: OpenLedger, number: int, subject: str, actor: str, clock: VirtualClock) -> None:
    item = {
        "version": len(SEED) + number,
        "subject": subject,
        "document": {"number": number},
        "actor": actor,
        "reason": f"because {number}",
        "changed_at": clock.now(),
    }
    assert await ledger.commit(CONFIGURE, item)


def _told(entries: list[AuditEntry] | tuple[AuditEntry, ...]) -> list[str]:
    return [f"{each.actor} {each.action} {each.subject.partition(':')[0]}" for each in entries]


def test_the_log_unites_both_and_is_read_in_parts(database: str) -> None:
    async def scenario() -> None:
        async with opened(database) as ledger:
            await _story(ledger)
            whole = tuple(await ledger.read(read, AuditFilter(limit=200)))
            assert _told(whole[: -len(SEED)]) == [
                "asha configure gateway",
                "asha key.revoke key",
                "asha configure gateway",
                "ravi configure pause",
                "ravi key.revoke key",
                "ravi key.create key",
                "asha key.create key",
            ]
            assert whole[0].details == {"version": len(SEED) + 3, "document": {"number": 3}}
            assert {each.action for each in whole[-len(SEED) :]} == {"configure"}
            for size in (1, 2, 3, 5):
                assert whole == await _pages(ledger, size)

    asyncio.run(scenario())


async def _pages(ledger: OpenLedger, size: int) -> tuple[AuditEntry, ...]:
    found: list[AuditEntry] = []
    while page := await ledger.read(read, AuditFilter(limit=size, before=found[-1].place if found else None)):
        assert len(page) <= size
        found += page
        assert len(found) < 50, "pages never end"
    return tuple(found)


def test_filters_narrow_and_take_signs_as_they_are(database: str) -> None:
    async def scenario() -> None:
        async with opened(database) as ledger:
            await _story(ledger)

            async def asked(wanted: AuditFilter) -> list[str]:
                return _told(tuple(await ledger.read(read, wanted)))

            assert await asked(AuditFilter(actor="ravi")) == [
                "ravi configure pause",
                "ravi key.revoke key",
                "ravi key.create key",
            ]
            assert await asked(AuditFilter(action="key.revoke")) == ["asha key.revoke key", "ravi key.revoke key"]
            assert await asked(AuditFilter(actor="asha", action="configure")) == ["asha configure gateway"] * 2
            assert await asked(AuditFilter(subject="key:m_1%")) == ["asha key.revoke key", "asha key.create key"]
            assert await asked(AuditFilter(subject="%")) == []
            assert await asked(AuditFilter(actor="asha' OR 1=1 --")) == []
            since = LATER + timedelta(seconds=60)
            assert await asked(AuditFilter(since=since)) == ["asha configure gateway", "asha key.revoke key"]

    asyncio.run(scenario())


def test_places_name_each_entry_once(database: str) -> None:
    async def scenario() -> None:
        async with opened(database) as ledger:
            await _story(ledger)
            whole = await ledger.read(read, AuditFilter(limit=200))
        assert len({astuple(each.place)[1:] for each in whole}) == len(whole)

    asyncio.run(scenario())
