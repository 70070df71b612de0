"""Merchant's keys: made and revoked in the ledger, and held in memory so that a payment costs no query for its key."""

from random import Random

from msgspec.structs import asdict

from pgw.core.errors import Code, PgwError
from pgw.core.ids import uuid7
from pgw.core.ledger.audit import entry
from pgw.core.ledger.engine.writer import LedgerUnavailable
from pgw.core.ledger.keys import MAKE, REVOKE, KeySetVersion, MerchantKey, by_id, key_set_version, listed, live
from pgw.core.payment.merchant_key import KEY_ID_BYTES, MAX_LIVE, SECRET_BYTES, Kept, digest, holder, make
from pgw.core.ports import Clock, Ledger

KEYS_EVERY_S = 1.0
"""How soon a new key works and a revoked one stops: after this, and the time of one read."""

KEYS_LIMIT_S = 10.0
"""Age of the last read from which every key is refused: it may be revoked by now."""

MAX_TRIES = 5
"""Tries to make a key while others make one for the same merchant."""

CREATED, REVOKED = "key.create", "key.revoke"
"""Actions in the audit log."""


class MerchantKeys:
    """Every live key of the ledger, as of the last refresh."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._version: KeySetVersion | None = None
        self._kept: dict[str, Kept] = {}
        self._refreshed_at = clock.elapsed()

    async def refresh(self) -> None:
        """Read newer keys from the ledger; raises LedgerUnavailable, and the old ones hold for KEYS_LIMIT_S."""
        began = self._clock.elapsed()
        version = await self._ledger.read(key_set_version)
        if version != self._version:
            # The version is read before the keys: a key made in between is read twice, never missed.
            self._kept = await self._ledger.read(live)
            self._version = version
        self._refreshed_at = began

    def holder(self, authorization: str) -> str | None:
        """Return the merchant whose live key an Authorization header carries; None for anything else.

        Raises:
            LedgerUnavailable: keys have not been refreshed for KEYS_LIMIT_S.
        """
        if self._clock.elapsed() - self._refreshed_at > KEYS_LIMIT_S:
            raise LedgerUnavailable("the merchants' keys cannot be read: try again shortly", written=False)
        return holder(authorization, self._kept)


async def create(
    ledger: Ledger, clock: Clock, rng: Random, merchant_id: str, environment: str, actor: str, reason: str
) -> tuple[str, MerchantKey]:
    """Make a key for a merchant; return the key itself, which is never stored, and what is kept of it.

    `rng` must be the system's. Raises PgwError CONFLICT when the merchant has two live keys.
    """
    for _ in range(MAX_TRIES):
        key_id, now = rng.randbytes(KEY_ID_BYTES), clock.now()
        key = make(environment, key_id, rng.randbytes(SECRET_BYTES))
        made = MerchantKey(key_id=key_id.hex(), merchant_id=merchant_id, created_at=now, created_by=actor)
        noted = entry(uuid7(now, rng), now, actor, CREATED, _subject(made), reason)
        won = await ledger.commit(MAKE, {**asdict(made), "secret_digest": digest(key), **noted})
        held = await ledger.read(lambda connection: listed(connection, merchant_id, with_revoked=False))
        # A refused key may have been written already by an earlier try, whose answer was lost.
        if won or made in held:
            return key, made
        if len(held) >= MAX_LIVE:
            ids = " or ".join(each.key_id for each in held)
            raise PgwError(
                Code.CONFLICT, f"'{merchant_id}' has {MAX_LIVE} live keys: revoke one first (pgw key revoke {ids})"
            )
    raise PgwError(Code.CONFLICT, f"others keep making keys for '{merchant_id}': try again", retry_after_s=1)


def _subject(key: MerchantKey) -> str:
    """Name a key in the audit log; all keys of one merchant share a prefix."""
    return f"key:{key.merchant_id}:{key.key_id}"


async def revoke(ledger: Ledger, clock: Clock, rng: Random, key_id: str, actor: str, reason: str) -> MerchantKey:
    """Revoke a key; one that is revoked already stays as it is. Raises PgwError NOT_FOUND."""
    found = await ledger.read(by_id, key_id)
    if found is None:
        raise PgwError(Code.NOT_FOUND, f"key '{key_id}' does not exist ('pgw key list' shows those that do)")
    now = clock.now()
    noted = entry(uuid7(now, rng), now, actor, REVOKED, _subject(found), reason)
    await ledger.commit(REVOKE, {"key_id": key_id, "revoked_at": now, "revoked_by": actor, **noted})
    revoked = await ledger.read(by_id, key_id)
    assert revoked is not None, "a key is never removed"
    return revoked
