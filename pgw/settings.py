"""Environment and flags -> Settings: every setting once, with its default and its meaning."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from pgw.addresses import LOOPBACK, is_plaintext_elsewhere, parts_of
from pgw.core.errors import Code, PgwError

if TYPE_CHECKING:
    from pgw.failpoints import Failpoint

RAZORPAY = "https://api.razorpay.com"
DEVELOPMENT_KEY = "dev-internal-key"
PRODUCTION_KEY_LENGTH = 32
DEFAULT_PORT = 3000
REDIS_NAME = re.compile(r"(?!\{pgw\}:)[!-~]{1,200}")
"""A stream, group or consumer; `{pgw}:` is how the keys begin that pgw keeps for itself."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One environment variable, a row of the README's table."""

    name: str
    default: str
    meaning: str


SETTINGS = (
    Setting(
        "DATABASE_URL", "unset: the SQLite file `$PGW_HOME/pgw.db`", "the ledger; `postgres://` or `postgresql://`"
    ),
    Setting(
        "REDIS_URL",
        "unset: in process",
        "breakers, metrics and the event stream of several processes; `redis://` or `rediss://`, Redis 6.2 or newer",
    ),
    Setting("METRICS_STREAM_KEY", "`payments:events:v1`", "the Redis stream of events"),
    Setting("METRICS_STREAM_GROUP", "`metrics-agg-v1`", "the consumer group that counts them"),
    Setting("METRICS_CONSUMER_NAME", "`metrics-worker-1-<host>-<pid>`", "this process in that group, and no other"),
    Setting("PGW_HOME", "`./.pgw`", "embedded data, the sandbox's book, `serve.json`"),
    Setting("PGW_ENV", "`development`", "`production` turns on the refusals of dangerous defaults"),
    Setting(
        "BIND_ADDR",
        "`127.0.0.1:3000`; `0.0.0.0:3000` once `INTERNAL_API_KEY` is set to a key of your own",
        "host:port the API listens on",
    ),
    Setting(
        "INTERNAL_API_KEY",
        "`dev-internal-key` (loopback only)",
        "admin key, sent as `X-Internal-Api-Key`; comma-separated: several are valid at once, for rotation",
    ),
    Setting("RAZORPAY_KEY_ID", "unset", "with the secret, enables `razorpay`; `rzp_test_...` or `rzp_live_...`"),
    Setting("RAZORPAY_KEY_SECRET", "unset", "the secret of that key"),
    Setting("RAZORPAY_WEBHOOK_SECRET", "unset: no webhooks", "signs its webhooks; comma-separated, newest first"),
    Setting("RAZORPAY_BASE_URL", "`https://api.razorpay.com`", "`http://` only to loopback, such as `pgw sandbox`"),
    Setting("GATEWAY_TIMEOUT_MS", "`2500`", "total time of one attempt; a gateway's own `timeout_ms` beats it"),
    Setting("PGW_SERVER", "unset: the local server, else the stores", "the server the command line speaks to"),
    Setting("PGW_API_KEY", "unset: `INTERNAL_API_KEY`", "the key the command line sends"),
    Setting("PGW_DRAIN_SECONDS", "`12`", "budget of a graceful stop"),
    Setting("PGW_ALLOW_PLAINTEXT", "off", "`1` allows unencrypted PostgreSQL or Redis on another host in production"),
    Setting("PGW_METRICS_OPEN", "off", "`1` serves `/metrics` without the admin key"),
    Setting("PGW_LOG_LEVEL", "`info`", "`debug` logs each request; `info` logs errors and one answer in a hundred"),
    Setting("PGW_SANDBOX_SEED", "`0`", "seed of the sandbox gateways' draws"),
    Setting(
        "PGW_FAILPOINT",
        "unset",
        "for tests: where to die (`exit`) or stop, such as `charge:after:exit`, `open:before:stop`; a wrong name is "
        "refused with the list of all",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings, checked for form; `refusals` lists what pgw will not start with. Secrets are not in its repr."""

    database_url: str | None = field(repr=False)
    redis_url: str | None = field(repr=False)
    stream_key: str
    stream_group: str
    consumer_name: str
    home: Path
    production: bool
    bind_host: str
    bind_port: int
    admin_keys: tuple[str, ...] = field(repr=False)
    razorpay_key_id: str | None
    razorpay_key_secret: str | None = field(repr=False)
    razorpay_webhook_secrets: tuple[str, ...] = field(repr=False)
    razorpay_base_url: str
    gateway_timeout_ms: int
    server: str | None
    api_key: str = field(repr=False)
    drain_seconds: float
    allow_plaintext: bool
    metrics_open: bool
    log_level: str
    sandbox_seed: str
    failpoint: "Failpoint | None"

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the bind address."""
        return self.bind_host in LOOPBACK

    @property
    def database(self) -> str:
        """The ledger's address as SQLAlchemy writes it; never displayed, it may carry a password."""
        if self.database_url is None:
            return f"sqlite:///{self.home.absolute() / 'pgw.db'}"
        return "postgresql+psycopg://" + self.database_url.partition("://")[2]

    @property
    def on_sqlite(self) -> bool:
        """Whether the ledger is the embedded one."""
        return self.database_url is None

    @property
    def redis_place(self) -> str | None:
        """Redis' address without credentials; None in process."""
        if self.redis_url is None:
            return None
        parts = urlsplit(self.redis_url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def load(environ: Mapping[str, str] = os.environ, **flags: str | None) -> Settings:
    """Read the settings; a flag that is given (`bind=`) beats its variable. Raises PgwError naming every bad value."""
    bad: list[str] = []
    keys = _secrets("INTERNAL_API_KEY", environ.get("INTERNAL_API_KEY", DEVELOPMENT_KEY), bad)
    signing = environ.get("RAZORPAY_WEBHOOK_SECRET")
    own_key = "INTERNAL_API_KEY" in environ and DEVELOPMENT_KEY not in keys
    host, port = _bind(flags.get("bind") or environ.get("BIND_ADDR"), bad, own_key=own_key)
    settings = Settings(
        database_url=_database_url(environ.get("DATABASE_URL"), bad),
        redis_url=_redis_url(environ.get("REDIS_URL"), bad),
        stream_key=_redis_name(environ, "METRICS_STREAM_KEY", "payments:events:v1", bad),
        stream_group=_redis_name(environ, "METRICS_STREAM_GROUP", "metrics-agg-v1", bad),
        consumer_name=_redis_name(environ, "METRICS_CONSUMER_NAME", _consumer_name(), bad),
        home=Path(environ.get("PGW_HOME") or ".pgw"),
        production=_choice(environ, "PGW_ENV", ("development", "production"), bad) == "production",
        bind_host=host,
        bind_port=port,
        admin_keys=keys,
        razorpay_key_id=environ.get("RAZORPAY_KEY_ID") or None,
        razorpay_key_secret=environ.get("RAZORPAY_KEY_SECRET") or None,
        razorpay_webhook_secrets=_secrets("RAZORPAY_WEBHOOK_SECRET", signing, bad) if signing else (),
        razorpay_base_url=_address("RAZORPAY_BASE_URL", environ.get("RAZORPAY_BASE_URL") or RAZORPAY, bad),
        gateway_timeout_ms=_whole(environ, "GATEWAY_TIMEOUT_MS", 2500, (50, 30_000), bad),
        server=_address("PGW_SERVER", environ["PGW_SERVER"], bad) if environ.get("PGW_SERVER") else None,
        api_key=environ.get("PGW_API_KEY") or (keys[0] if keys else ""),
        drain_seconds=_whole(environ, "PGW_DRAIN_SECONDS", 12, (0, 600), bad),
        allow_plaintext=environ.get("PGW_ALLOW_PLAINTEXT") == "1",
        metrics_open=environ.get("PGW_METRICS_OPEN") == "1",
        log_level=_choice(environ, "PGW_LOG_LEVEL", ("info", "debug", "warning", "error"), bad),
        sandbox_seed=environ.get("PGW_SANDBOX_SEED", "0"),
        failpoint=_failpoint(environ.get("PGW_FAILPOINT"), bad),
    )
    if bad:
        raise PgwError(Code.REFUSED_TO_START, "; ".join(bad))
    return settings


def refusals(settings: Settings) -> tuple[str, ...]:
    """List every reason not to serve with these settings, each with its way out; empty means go."""
    reasons: list[str] = []
    if not settings.on_loopback and DEVELOPMENT_KEY in settings.admin_keys:
        reasons.append(
            f"BIND_ADDR {settings.bind_host} is reachable from other machines while INTERNAL_API_KEY is the "
            f"development key: set a key of your own, or bind 127.0.0.1"
        )
    if (settings.razorpay_key_id or "").startswith("rzp_live_") and not settings.production:
        reasons.append("RAZORPAY_KEY_ID is a live key outside production: set PGW_ENV=production, or use a test key")
    if settings.production:
        reasons += _production_refusals(settings)
    return tuple(reasons)


def _production_refusals(settings: Settings) -> list[str]:
    reasons: list[str] = []
    if DEVELOPMENT_KEY in settings.admin_keys:
        reasons.append("INTERNAL_API_KEY is the development key: set one of 32 characters or more")
    if any(len(key) < PRODUCTION_KEY_LENGTH for key in settings.admin_keys if key != DEVELOPMENT_KEY):
        reasons.append(f"INTERNAL_API_KEY has a member under {PRODUCTION_KEY_LENGTH} characters: use a longer one")
    if (settings.razorpay_key_id or "").startswith("rzp_test_"):
        reasons.append("RAZORPAY_KEY_ID is a test key: it moves no money; set the live one, or unset it")
    if settings.failpoint is not None:
        reasons.append("PGW_FAILPOINT is set, which is for tests: unset it")
    if settings.on_sqlite:
        reasons.append("the ledger is an SQLite file: set DATABASE_URL to a PostgreSQL")
    elif is_plaintext_elsewhere(settings.database_url or "") and not settings.allow_plaintext:
        reasons.append(
            "DATABASE_URL may go unencrypted to another host: add sslmode=verify-full, or PGW_ALLOW_PLAINTEXT=1"
        )
    redis = urlsplit(settings.redis_url or "")
    if redis.scheme == "redis" and redis.hostname not in LOOPBACK and not settings.allow_plaintext:
        reasons.append("REDIS_URL goes unencrypted to another host: use rediss://, or PGW_ALLOW_PLAINTEXT=1")
    return reasons


def _secrets(name: str, text: str, bad: list[str]) -> tuple[str, ...]:
    members = tuple(member.strip() for member in text.split(","))
    if not all(members):
        bad.append(f"{name} has an empty member: remove the stray comma, or unset it")
    return members


def _bind(text: str | None, bad: list[str], *, own_key: bool) -> tuple[str, int]:
    if not text:
        return ("0.0.0.0" if own_key else "127.0.0.1"), DEFAULT_PORT  # noqa: S104  # only with a key of one's own
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or len(port) > len("65535") or int(port) > 65_535:  # noqa: PLR2004  # the largest port there is
        bad.append("BIND_ADDR must read host:port, such as 127.0.0.1:3000")
        return "127.0.0.1", DEFAULT_PORT
    return host, int(port)


def _database_url(url: str | None, bad: list[str]) -> str | None:
    if not url:
        return None
    parts = parts_of(url)
    if parts is None or parts.scheme not in {"postgres", "postgresql"}:
        bad.append("DATABASE_URL must begin with postgres:// or postgresql://; unset it for the embedded SQLite ledger")
        return None
    return url


def _redis_url(url: str | None, bad: list[str]) -> str | None:
    """Check Redis' address more closely than its client does, which overlooks a database that is no number."""
    if not url:
        return None
    parts = parts_of(url)
    numbered = parts is not None and re.fullmatch(r"(/[0-9]{0,5})?", parts.path)
    if parts is None or not numbered or parts.scheme not in {"redis", "rediss"} or not parts.hostname:
        bad.append("REDIS_URL must read redis://host:6379/0, or rediss:// for TLS; unset it to keep all in process")
        return None
    options = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    if parts.fragment or not all(parts.scheme == "rediss" and name.startswith("ssl_") for name in options):
        bad.append("REDIS_URL takes only ssl_... options behind a ?, with rediss://; a password stands before the @")
        return None
    return parts.geturl()


def _consumer_name() -> str:
    """Return a name unique in the consumer group: consumers of one name would take each other's entries."""
    host = re.sub(r"[^\w.-]", "_", os.uname().nodename)[:100]
    return f"metrics-worker-1-{host}-{os.getpid()}"


def _redis_name(environ: Mapping[str, str], name: str, default: str, bad: list[str]) -> str:
    text = environ.get(name) or default
    if REDIS_NAME.fullmatch(text) is None:
        bad.append(f"{name} must be 1 to 200 ASCII characters without spaces, not beginning with {{pgw}}:")
        return default
    return text


def _address(name: str, url: str, bad: list[str]) -> str:
    """Check an address that a secret is sent to: encrypted, or on this machine."""
    parts = parts_of(url)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        bad.append(f"{name} must be an address such as https://pgw.example:3000")
    elif parts.scheme == "http" and parts.hostname not in LOOPBACK:
        bad.append(f"{name} would send the key unencrypted to another host: use https://")
    return url.rstrip("/")


def _failpoint(text: str | None, bad: list[str]) -> "Failpoint | None":
    if not text:
        return None
    # Imported here: it knows every port, and only tests set one.
    from pgw.failpoints import parse  # noqa: PLC0415

    try:
        return parse(text)
    except ValueError as fault:
        bad.append(f"PGW_FAILPOINT {fault}")
        return None


def _choice(environ: Mapping[str, str], name: str, choices: tuple[str, ...], bad: list[str]) -> str:
    value = (environ.get(name) or choices[0]).lower()
    if value not in choices:
        bad.append(f"{name} must be one of {', '.join(choices)}")
    return value


def _whole(environ: Mapping[str, str], name: str, default: int, bounds: tuple[int, int], bad: list[str]) -> int:
    text = environ.get(name) or str(default)
    if not text.isdecimal() or len(text) > len(str(bounds[1])) or not bounds[0] <= int(text) <= bounds[1]:
        bad.append(f"{name} must be a whole number from {bounds[0]} to {bounds[1]}")
        return default
    return int(text)
