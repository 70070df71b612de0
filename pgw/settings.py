"""Environment and flags -> Settings: every setting once, with its default and its meaning."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, urlsplit

from pgw.core.errors import Code, PgwError

RAZORPAY = "https://api.razorpay.com"
DEVELOPMENT_KEY = "dev-internal-key"
PRODUCTION_KEY_LENGTH = 32
DEFAULT_PORT = 3000
ENCRYPTED = frozenset({"require", "verify-ca", "verify-full"})
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class Setting:
    """One environment variable, as the README's table shows it."""

    name: str
    default: str
    meaning: str


SETTINGS = (
    Setting(
        "DATABASE_URL",
        "unset: the SQLite file `$PGW_HOME/pgw.db`",
        "the ledger; `postgres://` and `postgresql://` are both accepted",
    ),
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
    Setting(
        "RAZORPAY_KEY_ID", "unset", "with the secret, enables the gateway `razorpay`; `rzp_test_...` or `rzp_live_...`"
    ),
    Setting("RAZORPAY_KEY_SECRET", "unset", "the secret of that key"),
    Setting("RAZORPAY_BASE_URL", "`https://api.razorpay.com`", "`http://` only to loopback, such as `pgw sandbox`"),
    Setting("GATEWAY_TIMEOUT_MS", "`2500`", "total time of one attempt; a gateway's own `timeout_ms` beats it"),
    Setting("PGW_SERVER", "unset: the local server, else the stores", "the server the command line speaks to"),
    Setting("PGW_API_KEY", "unset: `INTERNAL_API_KEY`", "the key the command line sends"),
    Setting("PGW_DRAIN_SECONDS", "`12`", "budget of a graceful stop"),
    Setting("PGW_ALLOW_PLAINTEXT", "off", "`1` allows an unencrypted PostgreSQL on another host in production"),
    Setting("PGW_LOG_LEVEL", "`info`", "`debug` logs each request; `info` logs errors and one answer in a hundred"),
    Setting("PGW_SANDBOX_SEED", "`0`", "seed of the sandbox gateways' draws"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What pgw was told, checked for form; `refusals` says what it will not start with. Secrets are not in its repr."""

    database_url: str | None = field(repr=False)
    home: Path
    production: bool
    bind_host: str
    bind_port: int
    admin_keys: tuple[str, ...] = field(repr=False)
    razorpay_key_id: str | None
    razorpay_key_secret: str | None = field(repr=False)
    razorpay_base_url: str
    gateway_timeout_ms: int
    server: str | None
    api_key: str = field(repr=False)
    drain_seconds: float
    allow_plaintext: bool
    log_level: str
    sandbox_seed: str

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the bind address."""
        return self.bind_host in LOOPBACK

    @property
    def database(self) -> str:
        """The ledger's address as SQLAlchemy writes it; never shown, it may carry a password."""
        if self.database_url is None:
            return f"sqlite:///{self.home.absolute() / 'pgw.db'}"
        return "postgresql+psycopg://" + self.database_url.partition("://")[2]

    @property
    def on_sqlite(self) -> bool:
        """Whether the ledger is the embedded one."""
        return self.database_url is None


def load(environ: Mapping[str, str] = os.environ, **flags: str | None) -> Settings:
    """Read the settings; a flag that is given (`bind=`) beats its variable. Raises PgwError naming every bad value."""
    bad: list[str] = []
    keys = _keys(environ.get("INTERNAL_API_KEY", DEVELOPMENT_KEY), bad)
    own_key = "INTERNAL_API_KEY" in environ and DEVELOPMENT_KEY not in keys
    host, port = _bind(flags.get("bind") or environ.get("BIND_ADDR"), bad, own_key=own_key)
    settings = Settings(
        database_url=_database_url(environ.get("DATABASE_URL"), bad),
        home=Path(environ.get("PGW_HOME") or ".pgw"),
        production=_choice(environ, "PGW_ENV", ("development", "production"), bad) == "production",
        bind_host=host,
        bind_port=port,
        admin_keys=keys,
        razorpay_key_id=environ.get("RAZORPAY_KEY_ID") or None,
        razorpay_key_secret=environ.get("RAZORPAY_KEY_SECRET") or None,
        razorpay_base_url=_address("RAZORPAY_BASE_URL", environ.get("RAZORPAY_BASE_URL") or RAZORPAY, bad),
        gateway_timeout_ms=_whole(environ, "GATEWAY_TIMEOUT_MS", 2500, (50, 30_000), bad),
        server=_address("PGW_SERVER", environ["PGW_SERVER"], bad) if environ.get("PGW_SERVER") else None,
        api_key=environ.get("PGW_API_KEY") or (keys[0] if keys else ""),
        drain_seconds=_whole(environ, "PGW_DRAIN_SECONDS", 12, (0, 600), bad),
        allow_plaintext=environ.get("PGW_ALLOW_PLAINTEXT") == "1",
        log_level=_choice(environ, "PGW_LOG_LEVEL", ("info", "debug", "warning", "error"), bad),
        sandbox_seed=environ.get("PGW_SANDBOX_SEED", "0"),
    )
    if bad:
        raise PgwError(Code.REFUSED_TO_START, "; ".join(bad))
    return settings


def refusals(settings: Settings) -> tuple[str, ...]:
    """List every reason not to serve with these settings, each with its way out; empty means go."""
    found: list[str] = []
    if not settings.on_loopback and DEVELOPMENT_KEY in settings.admin_keys:
        found.append(
            f"BIND_ADDR {settings.bind_host} is reachable from other machines while INTERNAL_API_KEY is the "
            f"development key: set a key of your own, or bind 127.0.0.1"
        )
    if (settings.razorpay_key_id or "").startswith("rzp_live_") and not settings.production:
        found.append("RAZORPAY_KEY_ID is a live key outside production: set PGW_ENV=production, or use a test key")
    if settings.production:
        found += _production_refusals(settings)
    return tuple(found)


def _production_refusals(settings: Settings) -> list[str]:
    found: list[str] = []
    if DEVELOPMENT_KEY in settings.admin_keys:
        found.append("INTERNAL_API_KEY is the development key: set one of 32 characters or more")
    if any(len(key) < PRODUCTION_KEY_LENGTH for key in settings.admin_keys if key != DEVELOPMENT_KEY):
        found.append(f"INTERNAL_API_KEY has a member under {PRODUCTION_KEY_LENGTH} characters: use a longer one")
    if (settings.razorpay_key_id or "").startswith("rzp_test_"):
        found.append("RAZORPAY_KEY_ID is a test key: it moves no money; set the live one, or unset it")
    if settings.on_sqlite:
        found.append("the ledger is an SQLite file: set DATABASE_URL to a PostgreSQL")
    elif _is_plaintext_elsewhere(settings.database_url or "") and not settings.allow_plaintext:
        found.append(
            "DATABASE_URL may go unencrypted to another host: add sslmode=verify-full, or PGW_ALLOW_PLAINTEXT=1"
        )
    return found


def _is_plaintext_elsewhere(url: str) -> bool:
    """Whether libpq might speak in clear to another host: its query beats the address, and may name several hosts."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    named = [each for name in ("host", "hostaddr") for value in query.get(name, ()) for each in value.split(",")]
    hosts = named or [parts.hostname or ""]
    local = all(not host or host.startswith("/") or host in LOOPBACK for host in hosts)
    return not local and query.get("sslmode", [""])[-1] not in ENCRYPTED


def _keys(text: str, bad: list[str]) -> tuple[str, ...]:
    keys = tuple(key.strip() for key in text.split(","))
    if not all(keys):
        bad.append("INTERNAL_API_KEY has an empty member: remove the stray comma, or unset it")
    return keys


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
    parts = _parts(url)
    if parts is None or parts.scheme not in {"postgres", "postgresql"}:
        bad.append("DATABASE_URL must begin with postgres:// or postgresql://; unset it for the embedded SQLite ledger")
        return None
    return url


def _address(name: str, url: str, bad: list[str]) -> str:
    """Check an address that a secret is sent to: encrypted, or on this machine."""
    parts = _parts(url)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        bad.append(f"{name} must be an address such as https://pgw.example:3000")
    elif parts.scheme == "http" and parts.hostname not in LOOPBACK:
        bad.append(f"{name} would send the key unencrypted to another host: use https://")
    return url.rstrip("/")


def _parts(url: str) -> SplitResult | None:
    """Take an address apart; None where it is none. Python's own error would repeat it, and with it a password."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


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
