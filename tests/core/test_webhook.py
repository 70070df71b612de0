"""A webhook is believed only byte by byte: signed, young enough, and known by its body whatever its headers say."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgw.core.verification.webhook import digest_of, is_in_window, is_signed, signature_of
from tests.doubles import NOON

BODY = b'{"event":"payment.captured"}'
SECRETS = ("the-new-one", "the-old-one")
SIGNATURES = [signature_of(BODY, secret) for secret in SECRETS]


@pytest.mark.parametrize(
    ("secret", "body", "signature"),
    [
        # RFC 4231, test cases 2 and 1.
        ("Jefe", b"what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        ("\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
    ],
)
def test_known_answers(secret: str, body: bytes, signature: str) -> None:
    assert signature_of(body, secret) == signature
    assert is_signed(body, signature, (secret,))


@pytest.mark.parametrize("signature", SIGNATURES)
def test_each_of_two_secrets_is_valid(signature: str) -> None:
    """After a rotation the gateway goes on signing what it sends again with the old one."""
    assert is_signed(BODY, signature, SECRETS)
    assert not is_signed(BODY, signature, ("a-third-one",))


def test_without_a_secret_nothing_is_signed() -> None:
    assert not is_signed(BODY, signature_of(BODY, ""), ())


@given(place=st.integers(0, len(BODY) * 8 - 1))
def test_a_body_with_any_bit_flipped_is_refused(place: int) -> None:
    flipped = bytearray(BODY)
    flipped[place // 8] ^= 1 << place % 8
    assert not is_signed(bytes(flipped), SIGNATURES[0], SECRETS)
    assert digest_of(bytes(flipped)) != digest_of(BODY)


@given(place=st.integers(0, 64 * 8 - 1))
def test_a_signature_with_any_bit_flipped_is_refused(place: int) -> None:
    flipped = bytearray(SIGNATURES[0].encode())
    flipped[place // 8] ^= 1 << place % 8
    assert not is_signed(BODY, flipped.decode("latin-1"), SECRETS)


@given(signature=st.text() | st.binary(max_size=80).map(lambda raw: raw.decode("utf-8", "surrogateescape")))
def test_a_malformed_signature_is_refused_and_raises_nothing(signature: str) -> None:
    assert not is_signed(BODY, signature, SECRETS)


@pytest.mark.parametrize("signature", ["", SIGNATURES[0].upper(), SIGNATURES[0] + "0", SIGNATURES[0][:-1], "\ud800"])
def test_a_signature_has_one_form_only(signature: str) -> None:
    assert not is_signed(BODY, signature, SECRETS)


@pytest.mark.parametrize(
    ("age", "is_taken"),
    [
        (timedelta(0), True),
        (timedelta(days=5, hours=1), True),
        (timedelta(days=5, hours=1, microseconds=1), False),
        (-timedelta(minutes=5), True),
        (-timedelta(minutes=5, microseconds=1), False),
    ],
    ids=str,
)
def test_an_event_is_taken_within_its_window(age: timedelta, is_taken: bool) -> None:
    assert is_in_window(NOON - age, NOON) == is_taken
