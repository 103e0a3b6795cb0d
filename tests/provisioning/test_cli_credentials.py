"""`sts credentials` and `sts rotate-key`: every refusal is a sentence and an exit code, and nothing is ever shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner, Result
from pydantic import SecretStr

from sts_app import cli
from sts_app.core import clock as time_source
from sts_app.core.commands import LATER
from sts_app.core.db import db as database
from sts_app.provisioning import credentials
from sts_app.provisioning.credentials import Credentials
from sts_app.provisioning.models import TradingViewCredential
from sts_app.provisioning.simulated import Fault, calls, misbehave
from tests.builders import count, in_a_transaction
from tests.fakes.access_service import AccessServiceFake, Dialect
from tests.provisioning.test_credentials import KEY, NEXT, SESSION, SIGNATURE, change, id_of

HEADER = f"theme=dark; sessionid={SESSION}; sessionid_sign={SIGNATURE}"


@pytest.fixture
def settings(app, monkeypatch) -> Callable[..., None]:
    def settings(**changes):
        monkeypatch.setitem(app.config, "STS", app.config["STS"].model_copy(update=changes))

    return settings


@pytest.fixture(autouse=True)
def ready(settings, vendor) -> None:
    settings(credential_encryption_key=SecretStr(KEY))


@pytest.fixture
def sts(app, db, monkeypatch) -> Iterator[Callable[..., Result]]:
    """Run a command of `sts` in this app; whatever it prints is looked through for secrets."""
    monkeypatch.setattr(cli.main, "create_app", lambda: app)
    printed: list[str] = []

    def sts(*words: str, typed: str | None = None) -> Result:
        database.session.commit()
        result = CliRunner().invoke(cli.main, words, input=typed)
        printed.append(result.output)
        database.session.expire_all()
        return result

    yield sts
    for secret in (SESSION, SIGNATURE, KEY, NEXT):
        assert secret not in "".join(printed)
    assert "Traceback" not in "".join(printed)


def store(api_url: str | None = None) -> int:
    given = Credentials(SecretStr(SESSION), SecretStr(SIGNATURE), api_url)
    return in_a_transaction(lambda: credentials.store(given, accepted_at=time_source.now(), actor="user:7"))


def is_active() -> bool:
    held = credentials.active()
    return held is not None and held.session_id.get_secret_value() == SESSION


class TestSet:
    def test_both_cookies_at_hidden_prompts(self, sts):
        result = sts("credentials", "set", typed=f"{SESSION}\n{SIGNATURE}\n")

        assert result.exit_code == 0
        number = credentials.active().id
        assert f"They are stored as number {number} and active from now on." in result.output
        assert is_active()
        assert credentials.kept().entered_by == "cli"

    def test_a_whole_header_at_the_first_prompt_is_enough(self, sts):
        result = sts("credentials", "set", typed=f"{HEADER}\n")

        assert result.exit_code == 0
        assert is_active()

    def test_from_files(self, sts, tmp_path):
        (tmp_path / "session").write_text(f"{SESSION}\n")
        (tmp_path / "signature").write_text(f"{SIGNATURE}\n")

        result = sts(
            "credentials", "set", "--session-id-file", str(tmp_path / "session"),
            "--signature-file", str(tmp_path / "signature"),
        )  # fmt: skip

        assert result.exit_code == 0
        assert is_active()

    def test_from_standard_input(self, sts):
        result = sts("credentials", "set", "--session-id-file", "-", typed=HEADER)

        assert result.exit_code == 0
        assert is_active()

    @pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"x" * 1_000_000])
    def test_a_file_that_holds_something_else_is_refused(self, sts, tmp_path, content):
        (tmp_path / "session").write_bytes(content)

        result = sts("credentials", "set", "--session-id-file", str(tmp_path / "session"))

        assert result.exit_code == 1
        assert result.output.startswith("Error: ")
        assert count(TradingViewCredential) == 0

    def test_a_file_that_is_not_there_is_a_mistake_of_the_command(self, sts, tmp_path):
        result = sts("credentials", "set", "--session-id-file", str(tmp_path / "nowhere"))

        assert result.exit_code == 2
        assert "No such file" in result.output

    def test_they_cannot_be_arguments(self, sts):
        result = CliRunner().invoke(cli.main, ["credentials", "set", SESSION, SIGNATURE])

        assert result.exit_code == 2
        assert "unexpected extra argument" in result.output

    def test_ctrl_d_at_the_prompt_changes_nothing(self, sts):
        result = sts("credentials", "set", typed="")

        assert result.exit_code == 1
        assert "Aborted" in result.output

    def test_what_tradingview_refuses_is_one(self, sts, vendor):
        misbehave(vendor, Fault.DEAD_SESSION)

        result = sts("credentials", "set", typed=f"{HEADER}\n")

        assert result.exit_code == 1
        assert "Error: TradingView does not accept these credentials" in result.output
        assert count(TradingViewCredential) == 0

    def test_no_answer_is_for_later(self, sts, vendor):
        misbehave(vendor, Fault.READS_FAIL)

        result = sts("credentials", "set", typed=f"{HEADER}\n")

        assert result.exit_code == LATER
        assert "Error: TradingView did not answer" in result.output

    def test_the_sixth_try_of_a_minute_is_for_later_and_is_not_made(self, sts, vendor):
        for _ in range(5):
            assert sts("credentials", "set", typed=f"{HEADER}\n").exit_code == 0

        result = sts("credentials", "set", typed=f"{HEADER}\n")

        assert result.exit_code == LATER
        assert "Wait 60 seconds." in result.output
        assert calls(vendor) == {"check_session": 5}

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"credential_encryption_key": None}, "CREDENTIAL_ENCRYPTION_KEY is not set"),
            ({"provisioning_mode": "manual"}, "This store works by hand"),
        ],
    )
    def test_nobody_is_asked_for_what_could_not_be_saved(self, sts, settings, changes, words):
        settings(**changes)

        result = sts("credentials", "set", typed=f"{HEADER}\n")

        assert result.exit_code == 1
        assert result.output.startswith(f"Error: {words}")
        assert "sessionid" not in result.output

    @pytest.fixture
    def service(self, settings) -> Iterator[AccessServiceFake]:
        with AccessServiceFake(Dialect.OPEN) as fake:
            settings(provisioning_mode="unofficial-api", tv_access_api_url=fake.url, tv_canary_username="Vendor")
            yield fake

    @pytest.mark.parametrize(
        ("options", "source"),
        [
            ((), "whose address was stored before"),
            (("--api-url", "http://127.0.0.1:{port}/"), "as entered"),
            (("--api-url", ""), "that of TV_ACCESS_API_URL"),
            (("--api-url=",), "that of TV_ACCESS_API_URL"),
        ],
    )
    def test_it_says_which_service_was_asked_and_never_its_whole_address(self, sts, service, options, source):
        store(service.url)
        options = [option.format(port=urlsplit(service.url).port) for option in options]

        result = sts("credentials", "set", *options, typed=f"{HEADER}\n")

        assert result.output.endswith(
            "TradingView accepts the credentials.\n"
            f"The access service that was asked is 127.0.0.1, {source}.\n"
            f"They are stored as number {credentials.active().id} and active from now on.\n"
        )
        assert service.url not in result.output

    def test_an_address_that_is_stored_stays_when_none_is_given(self, sts, service, settings):
        settings(tv_access_api_url="http://127.0.0.1:1")
        store(service.url)

        result = sts("credentials", "set", typed=f"{HEADER}\n")

        assert result.exit_code == 0
        assert credentials.active().api_url == service.url

    def test_an_empty_address_takes_the_stored_one_away(self, sts, service):
        store("http://127.0.0.1:1")

        result = sts("credentials", "set", "--api-url", "", typed=f"{HEADER}\n")

        assert result.exit_code == 0
        assert credentials.active().api_url is None

    def test_without_a_canary_it_does_not_say_that_tradingview_accepts(self, sts, service, settings):
        settings(tv_canary_username=None)

        result = sts("credentials", "set", typed=f"{HEADER}\n")

        assert result.exit_code == 0
        assert "TradingView accepts" not in result.output
        assert "That is all that was checked, because TV_CANARY_USERNAME is not set" in result.output

    def test_where_there_is_no_service_none_is_told(self, sts):
        result = sts("credentials", "set", typed=f"{HEADER}\n")

        assert "TradingView accepts the credentials." in result.output
        assert "service" not in result.output

    def test_its_help_says_where_the_cookies_are(self, sts):
        told = " ".join(sts("credentials", "set", "--help").output.split())

        for words in ("developer tools (F12)", "sessionid and sessionid_sign", "Exit codes: 0 stored, 1 refused, 75"):
            assert words in told


class TestShow:
    def test_it_tells_everything_but_what_they_are(self, sts, clock):
        number = store()
        clock.shift(timedelta(days=3))

        result = sts("credentials", "show")

        assert result.exit_code == 0
        assert result.output == (
            f"Number {number}, entered by user:7 and accepted 2026-11-21 12:00 UTC.\n"
            "They hold: session id, signature.\n"
            f"Sealed under the key {id_of(KEY)}.\n"
            "Age: 3 days.\n"
        )

    @pytest.mark.parametrize(
        ("days", "words"),
        [(1, "Age: 1 day.\n"), (7, "Age: 7 days. Replace them soon.\n"), (14, "Age: 14 days. Replace them now.\n")],
    )
    def test_it_says_when_they_are_old(self, sts, clock, days, words):
        store()
        clock.shift(timedelta(days=days))

        assert sts("credentials", "show").output.endswith(words)

    def test_without_any_it_says_how_to_get_some(self, sts):
        result = sts("credentials", "show")

        assert (result.exit_code, result.output) == (
            1,
            "Error: There are no credentials. `sts credentials set` saves some.\n",
        )

    def test_a_lost_key_is_named(self, sts, settings):
        number = store()
        settings(credential_encryption_key=SecretStr(NEXT))

        result = sts("credentials", "show")

        assert result.exit_code == 1
        assert f"Number {number}: the stored credentials cannot be read: their key {id_of(KEY)} is" in result.output

    def test_those_of_the_environment_are_deprecated(self, sts, settings):
        settings(tv_session_id=SecretStr(SESSION), tv_signature=SecretStr(SIGNATURE))

        result = sts("credentials", "show")

        assert result.exit_code == 0
        assert "TV_SESSION_ID and TV_SIGNATURE, which is deprecated" in result.output


class TestHistory:
    def test_it_lists_the_newest_first(self, sts, settings):
        first = store()
        settings(credential_encryption_key=SecretStr(NEXT))
        second = store()

        newer, older = sts("credentials", "history").output.splitlines()

        assert newer.split() == [
            str(second), "2026-11-21", "12:00", "UTC", "by", "user:7", "key", id_of(NEXT), "active",
        ]  # fmt: skip
        assert older.startswith(f"{first:>4}  ")
        assert f"key {id_of(KEY)} (lost)  retired 2026-11-21 12:00 UTC: replaced by {second}" in older

    def test_it_says_when_there_is_none(self, sts):
        assert sts("credentials", "history").output == "No credentials were ever stored.\n"


class TestRetire:
    def test_it_asks_first(self, sts):
        store()

        result = sts("credentials", "retire", "--reason", "somebody left", typed="n\n")

        assert result.exit_code == 1
        assert is_active()

    def test_it_retires_with_the_reason(self, sts):
        number = store()

        result = sts("credentials", "retire", "--reason", " somebody left ", "--yes")

        assert (result.exit_code, result.output) == (0, f"Number {number} is retired.\n")
        assert credentials.history()[0].retired_because == "somebody left"

    def test_it_says_that_the_environment_takes_over(self, sts, settings):
        store()
        settings(tv_session_id=SecretStr(SESSION))

        assert (
            "of the environment are used from now on" in sts("credentials", "retire", "--reason", "x", "--yes").output
        )

    def test_there_has_to_be_something_to_retire(self, sts):
        result = sts("credentials", "retire", "--reason", "x", "--yes")

        assert (result.exit_code, result.output) == (
            1,
            "Error: No credentials are stored, so there are none to retire.\n",
        )

    @pytest.mark.parametrize("because", ["", " ", "a\nb", "x" * 501])
    def test_the_reason_is_one_line_of_words(self, sts, because):
        store()

        assert sts("credentials", "retire", "--reason", because, "--yes").exit_code == 2
        assert is_active()


class TestRotateKey:
    def test_it_says_how_much_it_did_and_that_the_old_key_is_needless(self, sts, settings):
        for _ in range(3):
            store()
        settings(credential_encryption_key=SecretStr(NEXT), credential_encryption_key_fallbacks=(KEY,))

        first, second = sts("rotate-key"), sts("rotate-key")

        assert first.output == (
            f"Sealed under the key {id_of(NEXT)} now: 3. Not readable with any key: 0.\n"
            "CREDENTIAL_ENCRYPTION_KEY_FALLBACKS is needless now.\n"
        )
        assert second.output.startswith(f"Sealed under the key {id_of(NEXT)} now: 0.")
        assert (first.exit_code, second.exit_code) == (0, 0)
        settings(credential_encryption_key=SecretStr(NEXT), credential_encryption_key_fallbacks=())
        assert is_active()

    def test_what_does_not_open_makes_it_one(self, sts, settings):
        change(store(), sealed=b"damaged")
        store()
        settings(credential_encryption_key=SecretStr(NEXT), credential_encryption_key_fallbacks=(KEY,))

        result = sts("rotate-key")

        assert result.exit_code == 1
        assert "now: 1. Not readable with any key: 1.\n" in result.output
        assert "needless" not in result.output

    def test_without_a_key_it_says_which_setting_to_make(self, sts, settings):
        settings(credential_encryption_key=None)

        result = sts("rotate-key")

        assert result.exit_code == 1
        assert "Error: CREDENTIAL_ENCRYPTION_KEY is not set" in result.output
