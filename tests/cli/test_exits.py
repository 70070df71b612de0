"""The exit codes of the contract: one table, whole, and the same for a refusal over HTTP and one in this process."""

import pytest

from pgw.cli.exits import _OF_CODE, MEANINGS, Exit, exit_of
from pgw.core.errors import Code, PgwError
from tests.cli.conftest import Pgw
from tests.cli.documents import problem
from tests.cli.stub import Stub


def test_every_refusal_has_an_exit_code_and_every_exit_code_a_meaning() -> None:
    assert set(Code) == set(_OF_CODE)
    assert list(Exit) == list(MEANINGS)
    assert [code.value for code in Exit] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 130]


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("INVALID_REQUEST", 400, 2),
        ("METHOD_NOT_SUPPORTED", 422, 2),
        ("NOT_FOUND", 404, 3),
        ("UNAUTHORIZED", 401, 4),
        ("FORBIDDEN", 403, 4),
        ("CONFLICT", 409, 5),
        ("PRECONDITION_FAILED", 412, 5),
        ("LEDGER_UNAVAILABLE", 503, 6),
        ("DRAINING", 503, 6),
        ("INTERNAL", 500, 1),
        ("OF_A_LATER_VERSION", 404, 3),
        ("OF_A_LATER_VERSION", 418, 1),
        (None, 401, 4),
        (None, 502, 6),
        (None, 504, 7),
    ],
)
def test_a_refusal_of_the_server_ends_with_its_code(
    pgw: Pgw, stub: Stub, code: str | None, status: int, expected: int
) -> None:
    stub.answer("GET /gateways", problem(status, code or "", "so it is"), status=status)
    ended = pgw("gateway", "list")
    assert (expected, "") == (ended.code, ended.out)
    assert ended.err.startswith("error: so it is")
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (Code.REFUSED_TO_START, 8),
        (Code.OLD_SCHEMA, 8),
        (Code.STORE_IN_USE, 8),
        (Code.ADDRESS_IN_USE, 5),
        (Code.NOT_FOUND, 3),
        (Code.STORE_ABSENT, 6),
    ],
)
def test_a_refusal_to_serve_ends_with_its_code(
    pgw: Pgw, monkeypatch: pytest.MonkeyPatch, code: Code, expected: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PgwError(code, "no, because")

    _serve_by(monkeypatch, refuse)
    ended = pgw("serve")
    assert (expected, "", "error: no, because\n") == (ended.code, ended.out, ended.err)
    assert expected == exit_of(code)


def test_a_wrong_setting_is_refused(pgw: Pgw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGW_SERVER", "http://pgw.example:3000")
    ended = pgw("gateway", "list")
    assert ended.code == 8
    assert "PGW_SERVER" in ended.err


def test_ctrl_c_ends_with_130(pgw: Pgw, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    _serve_by(monkeypatch, interrupt)
    assert pgw("serve").code == 130


class TestTheUnexpected:
    """A fault of our own is one line; where it happened is for who asks; a secret is for nobody."""

    KEY = "planted-key-0123456789abcdef"

    @pytest.fixture(autouse=True)
    def _fault(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("INTERNAL_API_KEY", f"{self.KEY},another-planted-key")
        monkeypatch.setenv("DATABASE_URL", "postgres://someone:hunter2@db.example/pgw")
        monkeypatch.setenv("REDIS_URL", "redis://:planted%2Dpassword@127.0.0.1/0")

        def fail(settings: object, **_: object) -> None:
            key = self.KEY
            told = "another-planted-key postgres://someone:hunter2@db.example/pgw AUTH planted-password"
            raise RuntimeError(f"{key} {told} {settings}")

        _serve_by(monkeypatch, fail)

    def test_is_one_line_without_secrets(self, pgw: Pgw) -> None:
        ended = pgw("serve")
        assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1)
        assert "unexpected RuntimeError" in ended.err
        assert "PGW_LOG_LEVEL=debug" in ended.err
        self._has_no_secret(ended.err)

    def test_shows_where_when_asked_and_still_no_secrets(self, pgw: Pgw, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PGW_LOG_LEVEL", "debug")
        ended = pgw("serve")
        assert ended.code == 1
        assert "Traceback" in ended.err
        self._has_no_secret(ended.err)

    def _has_no_secret(self, text: str) -> None:
        for secret in (self.KEY, "another-planted-key", "hunter2", "planted-password", "planted%2Dpassword"):
            assert secret not in text


def _serve_by(monkeypatch: pytest.MonkeyPatch, serve: object) -> None:
    monkeypatch.setattr("pgw.server.run.serve", serve)
