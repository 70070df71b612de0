"""Faults before a charging call is taken on: nothing was sent, so the next gateway charges, and razorpay never does."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pgw.core.gateways.wire import NOT_SENT_TLS, Answer, Wire, pooled
from tests.core.gateways.carriers import CERTIFICATE
from tests.faults.till import Till, till
from tests.faults.tls_door import TlsDoor
from tests.faults.wire_faults import Fault, refuses
from tests.faults.wire_gateway import KEY_ID, SECRET, WireGateway

pytestmark = pytest.mark.slow

Saw = Callable[..., None]

EXPIRED = Path(__file__).with_name("expired.pem")
"""A certificate for 127.0.0.1 with its key, signed by itself, valid in 2020."""

NOBODY = ".".join(["no-such-host-anywhere"] * 12) + ".invalid"
"""No server is asked for it: it is longer than a name can be."""

PLAIN = (b"POST", b"HTTP/1.1", b"Authorization", b"Basic", b"receipt")
"""Words of the first call, in clear text."""


@pytest.fixture(scope="module")
def razorpay() -> Iterator[WireGateway]:
    with WireGateway() as gateway:
        yield gateway
        assert gateway.book.odd == []


@pytest.fixture(scope="module")
def shop(razorpay: WireGateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Till]:
    with till(tmp_path_factory.mktemp("before"), razorpay.address) as opened:
        yield opened


def fallen_back(shop: Till, razorpay: WireGateway, error: str, calls: tuple[int, int] = (0, 0)) -> str:
    """Pay; hdfc took the payment over, and razorpay got so many orders and charging calls. Return what was seen."""
    seen = shop.seen(shop.pay(), razorpay)
    assert (seen.answer, seen.end) == ("201 SUCCESS", "SUCCESS")
    assert seen.tried == (f"razorpay {error}", "hdfc SUCCESS")
    assert (seen.orders, seen.posts, seen.charges) == (*calls, 1)
    return seen.words


def test_a_gateway_that_refuses_connections(shop: Till, razorpay: WireGateway, saw: Saw) -> None:
    """The next gateway takes the payment, and the breaker counts the refusal."""
    before = shop.failures_in_a_row()
    razorpay.refuse()
    try:
        words = fallen_back(shop, razorpay, "NOT_SENT_REFUSED")
    finally:
        razorpay.listen()
    counted = shop.failures_in_a_row() - before
    assert counted == 1
    saw(1, f"{words}; the breaker counts {counted}")


def test_a_name_that_is_not_found(razorpay: WireGateway, tmp_path: Path, saw: Saw) -> None:
    with till(tmp_path, f"https://{NOBODY}") as shop:
        words = fallen_back(shop, razorpay, "NOT_SENT_DNS")
    saw(2, words)


def in_clear(door: TlsDoor) -> int:
    """Count the words that went over the wire as they are; every connection began a handshake."""
    assert door.raw
    assert {each[:1] for each in door.raw} == {b"\x16"}
    return sum(word in each for each in door.raw for word in PLAIN) + len(door.decrypted)


def test_a_certificate_that_nobody_vouches_for(razorpay: WireGateway, tmp_path: Path, saw: Saw) -> None:
    with TlsDoor(CERTIFICATE) as door, till(tmp_path, f"https://127.0.0.1:{door.port}") as shop:
        words = fallen_back(shop, razorpay, "NOT_SENT_TLS")
    assert in_clear(door) == 0
    saw(3, f"{words}; {in_clear(door)} words in clear text", case="it is not trusted")


def test_a_certificate_that_has_expired(razorpay: WireGateway, tmp_path: Path, saw: Saw) -> None:
    """Its age alone is why: also a client that trusts whoever signed it sends nothing."""
    trusting = ssl.create_default_context(cafile=str(EXPIRED))

    async def asked(port: int) -> Answer:
        client = Wire(f"https://127.0.0.1:{port}", (KEY_ID, SECRET), transport=pooled(1, trusting))
        try:
            return await client.call("POST", "/v1/orders", document={"receipt": "a"})
        finally:
            await client.close()

    with TlsDoor(EXPIRED) as door, till(tmp_path, f"https://127.0.0.1:{door.port}") as shop:
        words = fallen_back(shop, razorpay, "NOT_SENT_TLS")
        assert asyncio.run(asked(door.port)) == NOT_SENT_TLS
        assert why_not_trusted(door.port, trusting) == "certificate has expired"
    assert in_clear(door) == 0
    saw(3, f"{words}; {in_clear(door)} words in clear text", case="expired")


def why_not_trusted(port: int, trusting: ssl.SSLContext) -> str:
    """Ask a listener for its certificate, and return why it is not taken."""
    with (
        socket.create_connection(("127.0.0.1", port)) as connection,
        pytest.raises(ssl.SSLCertVerificationError) as refused,
    ):
        trusting.wrap_socket(connection, server_hostname="127.0.0.1")
    return refused.value.verify_message


def limited(shop: Till, razorpay: WireGateway, *headers: str) -> str:
    """Be told that these are too many calls, by the charging call, which then is not taken on."""
    razorpay.on_charge.append(Fault(refuses(429, *headers), commits=False))
    return fallen_back(shop, razorpay, "NOT_SENT_RATE_LIMITED", (1, 1))


def test_429_that_says_when(shop: Till, razorpay: WireGateway, saw: Saw) -> None:
    words = limited(shop, razorpay, "Retry-After: 30")
    saw(10, words, case="with Retry-After")


def test_429_that_does_not_say_when(shop: Till, razorpay: WireGateway, saw: Saw) -> None:
    words = limited(shop, razorpay)
    saw(10, words, case="without Retry-After")


def locked_out(shop: Till, razorpay: WireGateway, status: int) -> str:
    """Have the keys refused by every call; operators are told while it lasts. Return what was seen."""
    razorpay.closed_by = Fault(refuses(status), commits=False)
    try:
        words = fallen_back(shop, razorpay, "NOT_SENT_AUTH", (1, 0))
        ready = shop.ask("GET", "/ops/readiness")
    finally:
        razorpay.closed_by = None
    told = {each["name"]: (each["status"], each["detail"]) for each in ready.document["checks"]}
    state, detail = told["gateway:razorpay"]
    assert (ready.code, state) == (200, "degraded")
    assert detail.startswith("AUTH: the gateway refuses its keys")
    shop.wait_for(shop.pay(), "SUCCESS")
    after = shop.ask("GET", "/ops/readiness").document["checks"]
    assert "gateway:razorpay" not in {each["name"] for each in after}
    return f"{words}; readiness: {state}, {detail.partition(':')[0]}"


def test_keys_that_are_not_known(shop: Till, razorpay: WireGateway, saw: Saw) -> None:
    words = locked_out(shop, razorpay, 401)
    saw(11, words, case="401")


def test_keys_that_may_not_do_this(shop: Till, razorpay: WireGateway, saw: Saw) -> None:
    words = locked_out(shop, razorpay, 403)
    saw(11, words, case="403")
