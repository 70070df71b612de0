"""Settings are read once, every bad value is named, and what is dangerous is refused, all reasons at once."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from pgw.core.errors import Code, PgwError
from pgw.failpoints import Failpoint, FailpointAction, Side
from pgw.settings import DEVELOPMENT_KEY, SETTINGS, Settings, load, refusals

LONG_KEY = "k" * 32
SAFE = {
    "PGW_ENV": "production",
    "INTERNAL_API_KEY": LONG_KEY,
    "DATABASE_URL": "postgres://pgw:secret@db.example/pgw?sslmode=verify-full",
}


def _refused(environ: Mapping[str, str]) -> str:
    with pytest.raises(PgwError) as refusal:
        load(environ)
    assert refusal.value.code is Code.REFUSED_TO_START
    return refusal.value.detail


def _names(reasons: tuple[str, ...]) -> list[str]:
    """Name the variables the reasons are about, each with its way out behind a colon."""
    assert all(": " in each for each in reasons)
    return sorted({next(each.name for each in SETTINGS if each.name in reason) for reason in reasons})


def test_without_any_setting_it_is_the_embedded_default_on_loopback() -> None:
    settings = load({})
    assert (settings.bind_host, settings.bind_port, settings.on_loopback) == ("127.0.0.1", 3000, True)
    assert (settings.on_sqlite, settings.production) == (True, False)
    assert settings.database == f"sqlite:///{Path('.pgw/pgw.db').absolute()}"
    assert (settings.admin_keys, settings.api_key) == ((DEVELOPMENT_KEY,), DEVELOPMENT_KEY)
    assert (settings.gateway_timeout_ms, settings.drain_seconds, settings.log_level) == (2500, 12, "info")
    assert (settings.sandbox_seed, settings.server, settings.allow_plaintext) == ("0", None, False)
    assert (settings.redis_url, settings.redis_place, settings.failpoint) == (None, None, None)
    assert (settings.stream_key, settings.stream_group) == ("payments:events:v1", "metrics-agg-v1")
    assert refusals(settings) == ()


def test_empty_values_are_as_good_as_none() -> None:
    empty = {each.name: "" for each in SETTINGS if each.name not in {"INTERNAL_API_KEY", "PGW_SANDBOX_SEED"}}
    assert load(empty) == load({})


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_both_spellings_of_postgresql_are_one(scheme: str) -> None:
    settings = load({"DATABASE_URL": f"{scheme}://u:p@h:5433/d?sslmode=require"})
    assert settings.database == "postgresql+psycopg://u:p@h:5433/d?sslmode=require"
    assert settings.on_sqlite is False


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://redis.example", "redis://redis.example"),
        ("rediss://:planted@redis.example:6380/7", "rediss://redis.example:6380/7"),
        ("redis://user:planted@[::1]:6379/", "redis://[::1]:6379/"),
        ("rediss://planted:planted@redis.example/0?ssl_ca_certs=/etc/planted", "rediss://redis.example/0"),
        ("REDIS://redis.example", "redis://redis.example"),
    ],
)
def test_redis_is_named_without_its_credentials(url: str, place: str) -> None:
    settings = load({"REDIS_URL": url})
    assert settings.redis_place == place
    assert settings.redis_url == url.replace("REDIS", "redis")
    assert "planted" not in repr(settings)


def test_a_consumer_nobody_named_is_called_after_its_host_and_process() -> None:
    """Consumers of one name would take each other's entries; a name that was given is kept as it is."""
    assert re.fullmatch(rf"metrics-worker-1-[\w.-]+-{os.getpid()}", load({}).consumer_name)
    named = {
        "METRICS_CONSUMER_NAME": "metrics-worker-1",
        "METRICS_STREAM_KEY": "pay:v2",
        "METRICS_STREAM_GROUP": "g",
    }
    settings = load(named)
    assert (settings.consumer_name, settings.stream_key, settings.stream_group) == ("metrics-worker-1", "pay:v2", "g")


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (None, "127.0.0.1"),
        (DEVELOPMENT_KEY, "127.0.0.1"),
        (f"{LONG_KEY},{DEVELOPMENT_KEY}", "127.0.0.1"),
        ("own", "0.0.0.0"),
        (LONG_KEY, "0.0.0.0"),
    ],
)
def test_only_a_key_of_ones_own_opens_the_door_to_others(key: str | None, expected: str) -> None:
    settings = load({} if key is None else {"INTERNAL_API_KEY": key})
    assert settings.bind_host == expected
    assert refusals(settings) == ()


def test_a_flag_beats_its_variable() -> None:
    environ = {"BIND_ADDR": "127.0.0.1:1"}
    assert load(environ, bind="127.0.0.1:2").bind_port == 2
    assert load(environ, bind=None).bind_port == 1


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("[::1]:80", "::1", 80),
        ("localhost:0", "localhost", 0),
        ("0.0.0.0:65535", "0.0.0.0", 65535),
        ("::1:80", "::1", 80),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, host: str, port: int) -> None:
    settings = load({"BIND_ADDR": text})
    assert (settings.bind_host, settings.bind_port) == (host, port)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_a_loopback_needs_no_key_of_ones_own(host: str) -> None:
    assert refusals(load({"BIND_ADDR": f"{host}:3000"})) == ()


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "[::]", "10.0.0.1", "pgw.example", "127.0.0.1.example", "localhost.example"]
)
@pytest.mark.parametrize("key", [None, DEVELOPMENT_KEY, f"{LONG_KEY}, {DEVELOPMENT_KEY}"])
def test_the_development_key_is_for_loopback_only(host: str, key: str | None) -> None:
    environ = {"BIND_ADDR": f"{host}:3000", **({} if key is None else {"INTERNAL_API_KEY": key})}
    assert _names(refusals(load(environ))) == ["BIND_ADDR"]


def test_several_keys_are_valid_at_once() -> None:
    settings = load({"INTERNAL_API_KEY": " first , second"})
    assert settings.admin_keys == ("first", "second")
    assert settings.api_key == "first"
    assert load({"INTERNAL_API_KEY": "first", "PGW_API_KEY": "mine"}).api_key == "mine"


@pytest.mark.parametrize("keys", ["", ",", "a,", ",a", "a,,b", " ", "a, ,b"])
def test_an_empty_key_would_let_anybody_in_and_is_refused(keys: str) -> None:
    assert _refused({"INTERNAL_API_KEY": keys}).startswith("INTERNAL_API_KEY has an empty member: ")


def test_a_failpoint_is_a_crossing_its_side_and_a_action() -> None:
    assert load({"PGW_FAILPOINT": "open:after:stop"}).failpoint == Failpoint("open", Side.AFTER, FailpointAction.STOP)
    assert refusals(load({"PGW_FAILPOINT": "open:after:stop"})) == ()


def test_several_webhook_secrets_are_valid_at_once_and_none_is_shown() -> None:
    settings = load({"RAZORPAY_WEBHOOK_SECRET": "planted-new, planted-old"})
    assert settings.razorpay_webhook_secrets == ("planted-new", "planted-old")
    assert "planted" not in repr(settings)
    assert load({}).razorpay_webhook_secrets == ()


@pytest.mark.parametrize("secrets", [",", "a,", ",a", "a,,b", " ", "a, ,b"])
def test_an_empty_webhook_secret_would_let_anybody_sign_and_is_refused(secrets: str) -> None:
    assert _refused({"RAZORPAY_WEBHOOK_SECRET": secrets}).startswith("RAZORPAY_WEBHOOK_SECRET has an empty member: ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BIND_ADDR", "3000"),
        ("BIND_ADDR", ":3000"),
        ("BIND_ADDR", "127.0.0.1:"),
        ("BIND_ADDR", "127.0.0.1:65536"),
        ("BIND_ADDR", "127.0.0.1:-1"),
        ("DATABASE_URL", "mysql://h/d"),
        ("DATABASE_URL", "sqlite:///x"),
        ("DATABASE_URL", "pgw.db"),
        ("REDIS_URL", "localhost:6379"),
        ("REDIS_URL", "redis:///0"),
        ("REDIS_URL", "redis://?host=redis.example"),
        ("REDIS_URL", "unix:///run/redis.sock"),
        ("REDIS_URL", "redis://redis.example/first"),
        ("REDIS_URL", "redis://redis.example:65536"),
        ("REDIS_URL", "redis://redis.example/0?password=x"),
        ("REDIS_URL", "redis://redis.example/0?ssl_cert_reqs=none"),
        ("REDIS_URL", "rediss://redis.example/0?db=1"),
        ("REDIS_URL", "rediss://redis.example/0#1"),
        ("METRICS_STREAM_KEY", "a b"),
        ("METRICS_STREAM_KEY", "{pgw}:state"),
        ("METRICS_STREAM_GROUP", "g" * 201),
        ("METRICS_CONSUMER_NAME", "w\n"),
        ("PGW_ENV", "prod"),
        ("PGW_ENV", "production "),
        ("PGW_LOG_LEVEL", "loud"),
        ("GATEWAY_TIMEOUT_MS", "49"),
        ("GATEWAY_TIMEOUT_MS", "30001"),
        ("GATEWAY_TIMEOUT_MS", "2.5"),
        ("PGW_DRAIN_SECONDS", "-1"),
        ("PGW_DRAIN_SECONDS", "soon"),
        ("PGW_SERVER", "pgw.example"),
        ("PGW_SERVER", "ftp://pgw.example"),
        ("PGW_SERVER", "https://"),
        ("PGW_SERVER", "http://pgw.example"),
        ("PGW_SERVER", "http://127.0.0.1.example"),
        ("PGW_SERVER", "http://localhost@pgw.example"),
        ("PGW_FAILPOINT", "charge"),
        ("PGW_FAILPOINT", "refund:after:exit"),
    ],
)
def test_a_bad_value_is_refused_by_name(name: str, value: str) -> None:
    told = _refused({name: value})
    assert told.startswith(f"{name} ")
    assert [each.name for each in SETTINGS if each.name in told] == [name]


def test_every_bad_value_is_named_at_once() -> None:
    bad = {"PGW_ENV": "x", "PGW_LOG_LEVEL": "x", "GATEWAY_TIMEOUT_MS": "x", "BIND_ADDR": "x", "DATABASE_URL": "x"}
    assert {each.name for each in SETTINGS if each.name in _refused(bad)} == set(bad)


def test_the_choices_do_not_mind_their_case() -> None:
    assert load({**SAFE, "PGW_ENV": "Production", "PGW_LOG_LEVEL": "DEBUG"}).production is True


def test_production_with_everything_in_order_is_not_refused() -> None:
    assert refusals(load(SAFE)) == ()


@pytest.mark.parametrize(
    ("changed", "about"),
    [
        ({"INTERNAL_API_KEY": DEVELOPMENT_KEY, "BIND_ADDR": "127.0.0.1:1"}, ["INTERNAL_API_KEY"]),
        ({"INTERNAL_API_KEY": "k" * 31}, ["INTERNAL_API_KEY"]),
        ({"INTERNAL_API_KEY": f"{LONG_KEY},short"}, ["INTERNAL_API_KEY"]),
        ({"DATABASE_URL": ""}, ["DATABASE_URL"]),
        ({"DATABASE_URL": "postgres://db.example/pgw"}, ["DATABASE_URL"]),
        ({"DATABASE_URL": "postgres://db.example/pgw?sslmode=prefer"}, ["DATABASE_URL"]),
        ({"DATABASE_URL": "postgres://db.example/pgw?sslmode=disable"}, ["DATABASE_URL"]),
        ({"DATABASE_URL": "postgres://localhost.example/pgw"}, ["DATABASE_URL"]),
        ({"REDIS_URL": "redis://redis.example"}, ["REDIS_URL"]),
        ({"REDIS_URL": "redis://localhost@redis.example"}, ["REDIS_URL"]),
        ({"PGW_FAILPOINT": "charge:after:exit"}, ["PGW_FAILPOINT"]),
    ],
    ids=str,
)
def test_production_refuses_dangerous_defaults(changed: dict[str, str], about: list[str]) -> None:
    assert _names(refusals(load({**SAFE, **changed}))) == about


@pytest.mark.parametrize(
    "changed",
    [
        {"DATABASE_URL": "postgres://127.0.0.1/pgw"},
        {"DATABASE_URL": "postgres://localhost:5433/pgw"},
        {"DATABASE_URL": "postgres://db.example/pgw?sslmode=require"},
        {"DATABASE_URL": "postgres://db.example/pgw?connect_timeout=3&sslmode=verify-ca"},
        {"DATABASE_URL": "postgres://db.example/pgw", "PGW_ALLOW_PLAINTEXT": "1"},
        {"REDIS_URL": "rediss://redis.example"},
        {"REDIS_URL": "redis://127.0.0.1:6379/0"},
        {"REDIS_URL": "redis://[::1]"},
        {"REDIS_URL": "redis://redis.example", "PGW_ALLOW_PLAINTEXT": "1"},
        {"INTERNAL_API_KEY": f"{LONG_KEY},{'j' * 40}"},
    ],
    ids=str,
)
def test_production_takes_what_is_safe_or_said_to_be(changed: dict[str, str]) -> None:
    assert refusals(load({**SAFE, **changed})) == ()


def test_all_reasons_are_told_at_once() -> None:
    found = refusals(
        load({"PGW_ENV": "production", "BIND_ADDR": "0.0.0.0:1", "INTERNAL_API_KEY": f"{DEVELOPMENT_KEY},x"})
    )
    assert len(found) == 4
    assert _names(found) == ["BIND_ADDR", "DATABASE_URL", "INTERNAL_API_KEY"]


def test_development_asks_for_none_of_it() -> None:
    short = {
        "INTERNAL_API_KEY": "k",
        "DATABASE_URL": "postgres://db.example/pgw?sslmode=disable",
        "REDIS_URL": "redis://redis.example",
    }
    assert refusals(load(short)) == refusals(load({"INTERNAL_API_KEY": "k"})) == ()


@pytest.mark.parametrize(
    "server", ["https://pgw.example", "http://127.0.0.1:3000", "http://localhost", "http://[::1]:3000/"]
)
def test_a_server_is_spoken_to_encrypted_or_on_this_machine(server: str) -> None:
    assert load({"PGW_SERVER": server}).server == server.rstrip("/")


def test_no_reason_and_no_repr_tells_a_secret() -> None:
    planted = "planted-secret-value"
    environ = {
        "INTERNAL_API_KEY": planted,
        "PGW_API_KEY": planted,
        "DATABASE_URL": f"postgres://u:{planted}@db.example/pgw",
        "REDIS_URL": f"redis://:{planted}@redis.example",
        "PGW_ENV": "production",
    }
    settings: Settings = load(environ)
    assert planted not in repr(settings) + " ".join(refusals(settings))
    assert planted not in _refused({**environ, "DATABASE_URL": f"mysql://u:{planted}@h/d"})
    for url in (f"redis://:{planted}@h/x", f"redis://:{planted}@h:x", f"redis://h?password={planted}"):
        assert planted not in _refused({**environ, "REDIS_URL": url})
    assert planted not in _refused({**environ, "INTERNAL_API_KEY": f"{planted},"})
