"""A merchant's key opens its own merchant's door and no other; from what is kept of it nobody can make it."""

import re
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pgw.core.payment.merchant_key import KEY_ID_BYTES, SECRET_BYTES, Kept, digest, holder, id_of, make

KEY_IDS = st.binary(min_size=KEY_ID_BYTES, max_size=KEY_ID_BYTES)
SECRETS = st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES)
ENVIRONMENTS = st.sampled_from(["development", "production"])

RNG = Random(1)
KEY = make("production", RNG.randbytes(KEY_ID_BYTES), RNG.randbytes(SECRET_BYTES))
OTHER = make("production", RNG.randbytes(KEY_ID_BYTES), RNG.randbytes(SECRET_BYTES))


def kept(*keys: str) -> dict[str, Kept]:
    """Keep these keys; merchant `m_0` has the first one, and so on."""
    ids = [id_of(key) or "" for key in keys]
    return {name: Kept(name, f"m_{at}", digest(key)) for at, (name, key) in enumerate(zip(ids, keys, strict=True))}


@given(ENVIRONMENTS, KEY_IDS, SECRETS)
@example("development", bytes(KEY_ID_BYTES), bytes(SECRET_BYTES))
@example("development", b"\xff" * KEY_ID_BYTES, b"\xff" * SECRET_BYTES)
def test_a_key_has_its_form_and_is_read_again(environment: str, key_id: bytes, secret: bytes) -> None:
    """Environment, id and secret, of letters and digits that a double click takes whole; fit for a header and a URL."""
    key = make(environment, key_id, secret)
    assert re.fullmatch(rf"pgw_{environment}_{key_id.hex()}_[0-9A-Za-z]{{43}}", key)
    assert key_id.hex() == id_of(key)


@given(SECRETS, SECRETS)
def test_two_secrets_never_make_one_key(one: bytes, other: bytes) -> None:
    key_id = bytes(KEY_ID_BYTES)
    assert (one == other) == (make("production", key_id, one) == make("production", key_id, other))


@given(ENVIRONMENTS, KEY_IDS, SECRETS)
def test_a_key_opens_its_merchant_s_door(environment: str, key_id: bytes, secret: bytes) -> None:
    key = make(environment, key_id, secret)
    assert holder(f"Bearer {key}", kept(key)) == "m_0"
    # The name of a scheme is written as one likes (RFC 9110, 11.1).
    assert holder(f"bEARER  {key}", kept(key)) == "m_0"


@given(st.integers(0, len(KEY) - 1), st.sampled_from("0aZ_-"))
def test_a_key_altered_anywhere_opens_nothing(at: int, letter: str) -> None:
    """The environment included: a leaked development key cannot be passed off as another."""
    altered = KEY[:at] + letter + KEY[at + 1 :]
    assert (altered == KEY) == (holder(f"Bearer {altered}", kept(KEY, OTHER)) == "m_0")
    assert holder(f"Bearer {KEY.replace('production', 'development')}", kept(KEY)) is None


def test_each_key_names_its_own_merchant() -> None:
    both = kept(KEY, OTHER)
    assert [holder(f"Bearer {key}", both) for key in (KEY, OTHER)] == ["m_0", "m_1"]
    mixed = KEY.rpartition("_")[0] + "_" + OTHER.rpartition("_")[2]
    assert holder(f"Bearer {mixed}", both) is None
    assert holder(f"Bearer {KEY}", kept(OTHER)) is None


@pytest.mark.parametrize(
    "shown",
    [
        "",
        "Bearer",
        "Bearer ",
        KEY,
        f" Bearer {KEY}",
        f"Bearer {KEY} ",
        f"Bearer\t{KEY}",
        f"Bearer {KEY}\n",
        f"Bearer {KEY},Bearer {KEY}",
        f"Bearer {KEY} {KEY}",
        f"Bearer {KEY}\x00",
        f"Bearer {KEY[:-1]}",
        f"Bearer {KEY}a",
        f"Bearer {KEY.upper()}",
        f"Bearer {digest(KEY)}",
        f"Basic {KEY}",
        f"Bearer {id_of(KEY)}",
        "Bearer \udcff",
        "Bearer pgw_production_\uff145796132bd01_" + "0" * 43,
        "Bearer " + "x" * 100_000,
    ],
)
def test_what_is_no_bearer_of_a_live_key_opens_nothing(shown: str) -> None:
    assert holder(shown, kept(KEY, OTHER)) is None


@given(st.text())
def test_any_text_at_all_is_refused_and_not_an_error(shown: str) -> None:
    for text in (shown, f"Bearer {shown}", f"Bearer {KEY[:30]}{shown}"):
        assert holder(text, kept(KEY)) is None
    assert id_of(shown) is None


def test_what_is_kept_holds_nothing_of_the_secret() -> None:
    secret = KEY.rpartition("_")[2]
    assert re.fullmatch("[0-9a-f]{64}", digest(KEY))
    assert not any(secret[at : at + 6] in repr(kept(KEY)) for at in range(len(secret) - 5))
