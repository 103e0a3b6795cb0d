"""Settings, `.env.example`, README and the host's blueprint name the same things, and no secret shows."""

from __future__ import annotations

import re

import pytest
from dotenv import dotenv_values
from pydantic import SecretStr

from sts_app.core.web import ROOT
from sts_app.settings import PRESET, Settings, SettingsFault, load, names_of
from tests.house.source import APP, JOBS, files, shown

EXAMPLE = ROOT / ".env.example"
README = ROOT / "README.md"
RENDER = ROOT / "render.yaml"
FIELDS = list(Settings.model_fields)
PREFERRED = {names_of(field)[0] for field in FIELDS} | {PRESET}
SPELLINGS = [name for field in FIELDS for name in names_of(field)] + [PRESET]
# Names that something else than the settings reads.
WEB_PROCESS = {"WEB_HOST", "WEB_CONCURRENCY", "WEB_THREADS"}  # gunicorn.conf.py
OF_THE_HOST = {"PYTHON_VERSION", "TZ"}
NEEDED_IN_PRODUCTION = {
    "APP_ENV", "APP_URL", "SECRET_KEY", "DATABASE_URL", "REDIS_URL", "STRIPE_SECRET_KEY", "STRIPE_PRICE_ID",
    "STRIPE_WEBHOOK_SECRET", "RESEND_API_KEY", "EMAIL_FROM", "ADMIN_EMAIL", "TRUSTED_PROXIES",
}  # fmt: skip
READ_ELSEWHERE = {
    "sts_app/__init__.py": "gives the whole environment to `load`",
    "sts_app/cli.py": "sees whether a database is named, or the store that runs here is meant",
    "sts_app/ops/doctor.py": "looks for names that are no longer used, to say so",
    "sts_app/ops/local.py": "makes the environment of the processes it starts",
    "jobs/scheduler.py": "sets the time zone, which rq-scheduler reckons in",
}
MINIMAL = {
    "SECRET_KEY": "k" * 40,
    "DATABASE_URL": "postgresql://127.0.0.1/sts",
    "REDIS_URL": "redis://127.0.0.1/0",
    "STRIPE_WEBHOOK_SECRET": "whsec_for_tests",
    "ADAPTERS_PRESET": "mock",
}
HIDING = re.compile(r"secret|_key|token|signature|session_id|database_url|redis_url")


def documented() -> dict[str, str]:
    """Every name of the example with the comment above it."""
    found, comment = {}, []
    for line in EXAMPLE.read_text().splitlines():
        named = re.fullmatch(r"#?([A-Z][A-Z0-9_]*)=.*", line)
        if named:
            assert named[1] not in found, f"{named[1]} stands twice"
            found[named[1]] = " ".join(comment)
            comment = []
        elif line.startswith("# "):
            comment.append(line.removeprefix("# "))
        else:
            assert line == "", line
            comment = []
    return found


def test_the_example_names_every_setting_and_nothing_else():
    assert documented().keys() == PREFERRED | WEB_PROCESS


@pytest.mark.parametrize("name", sorted(PREFERRED | WEB_PROCESS))
def test_a_setting_is_explained_where_it_is_named(name):
    assert len(documented()[name]) > 8


@pytest.mark.parametrize("field", FIELDS)
def test_the_example_tells_every_other_spelling(field):
    name, *others = names_of(field)
    in_brackets = re.search(r"\[([A-Z0-9_, ]+)\]", documented()[name])

    assert (in_brackets[1].split(", ") if in_brackets else []) == others


def test_no_spelling_belongs_to_two_settings():
    assert len(SPELLINGS) == len(set(SPELLINGS))


def test_a_copied_example_changes_nothing_but_the_vendors():
    copied = {name: value or "" for name, value in dotenv_values(EXAMPLE, interpolate=False).items()}

    given = load(copied | {name: value for name, value in MINIMAL.items() if not copied[name]})

    assert given == load(MINIMAL)
    assert given.simulated_vendors == ("payments", "mail", "tradingview")


def test_a_blank_choice_does_not_undo_the_preset():
    blank = dict.fromkeys(("PAYMENTS_VENDOR", "MAIL_VENDOR", "PROVISIONING_MODE"), " ")

    assert load(MINIMAL | blank) == load(MINIMAL)


def test_the_example_holds_no_secret():
    values = dotenv_values(EXAMPLE, interpolate=False)

    assert {name for name in values if HIDING.search(name.lower()) and values[name]} == set()


if README.exists():

    def test_the_readme_has_every_setting_in_its_section():
        sections = re.split(r"^#+ (.*)$", README.read_text(), flags=re.M)
        titled = zip(sections[1::2], sections[2::2], strict=True)
        told = [text for title, text in titled if re.search("configuration|settings", title, re.I)]

        assert told, "README.md has no section about configuration"
        assert PREFERRED - set(re.findall(r"`([A-Z][A-Z0-9_]+)`", "".join(told))) == set()


if RENDER.exists():

    def test_the_hosts_blueprint_names_only_settings_and_all_that_production_needs():
        named = set(re.findall(r"^\s*-\s+key:\s*[\"']?([A-Z][A-Z0-9_]*)", RENDER.read_text(), flags=re.M))

        assert named - set(SPELLINGS) - WEB_PROCESS - OF_THE_HOST == set()
        assert NEEDED_IN_PRODUCTION - named == set()


def test_the_blueprint_is_checked_or_said_to_be_missing():
    """The check above stands aside where there is no blueprint: the README must then say so, and only then."""
    not_built = next(line for line in re.split(r"\n- ", README.read_text()) if line.startswith("Not built yet"))

    assert RENDER.exists() == ("`render.yaml`" not in not_built)


def faults_of(environ: dict[str, str]) -> list[str]:
    try:
        load(environ)
    except SettingsFault as fault:
        return fault.faults
    return []


def test_the_list_of_what_production_needs_is_what_it_refuses_to_miss():
    whole = MINIMAL | {
        "APP_ENV": "production",
        "ADAPTERS_PRESET": "real",
        "APP_URL": "https://store.test",
        "STRIPE_SECRET_KEY": "sk_of_nobody",
        "STRIPE_PRICE_ID": "price_of_nobody",
        "RESEND_API_KEY": "re_of_nobody",
        "EMAIL_FROM": "STS <hello@store.test>",
        "ADMIN_EMAIL": "sam@staff.test",
        "TRUSTED_PROXIES": "1",
    }
    assert load(whole).is_production

    needed = {"APP_ENV"}  # without it the place is no production
    for name in whole:
        told = faults_of({given: value for given, value in whole.items() if given != name})
        if any(name in sentence for sentence in told):
            needed.add(name)
        else:
            assert told == [], name

    assert needed == NEEDED_IN_PRODUCTION


@pytest.mark.parametrize("proxies", ["0", "1"])
def test_production_is_told_how_many_proxies_there_are_even_if_none(proxies):
    told = [sentence for sentence in faults_of(MINIMAL | {"APP_ENV": "production"}) if "TRUSTED_PROXIES" in sentence]
    counted = faults_of(MINIMAL | {"APP_ENV": "production", "TRUSTED_PROXIES": proxies})

    assert len(told) == 1
    assert not any("TRUSTED_PROXIES" in sentence for sentence in counted)
    assert faults_of(MINIMAL) == [], "elsewhere nobody has to count"


WAYS = {"unofficial-api": "TV_ACCESS_API_URL", "direct": "TV_BASE_URL"}
IN_CLEAR = [
    "http://tv.example.com",
    "HTTP://tv.example.com",
    "http://8.8.8.8:5000",
    "http://134744072",
    "http://0x8080808",
    "http://\uff18.8.8.8",
    "http://8\uff0e8\uff0e8\uff0e8",
]


@pytest.mark.parametrize("app_env", ["development", "staging"])
@pytest.mark.parametrize("address", IN_CLEAR)
@pytest.mark.parametrize(("mode", "name"), WAYS.items())
def test_credentials_do_not_cross_the_internet_in_clear(mode, name, address, app_env):
    environ = MINIMAL | {"APP_ENV": app_env, "PROVISIONING_MODE": mode, name: address}

    assert faults_of(environ) == [f"{name} starts with http://, and credentials would go there in clear: use https://"]


@pytest.mark.parametrize(("mode", "name"), WAYS.items())
def test_nor_do_they_in_production(mode, name):
    environ = MINIMAL | {"APP_ENV": "production", "PROVISIONING_MODE": mode, name: "http://tv.example.com"}

    assert any(sentence.startswith(f"{name} starts with http://") for sentence in faults_of(environ))


@pytest.mark.parametrize("address", ["https://tv.example.com", "http://127.0.0.1:5000", "http://access:8000"])
@pytest.mark.parametrize(("mode", "name"), WAYS.items())
def test_an_address_that_nobody_can_listen_to_is_fine(mode, name, address):
    assert faults_of(MINIMAL | {"PROVISIONING_MODE": mode, name: address}) == []


@pytest.mark.parametrize("address", ["http://[::1", "http://a℀b.example"])
def test_an_address_that_cannot_be_read_is_a_fault(address):
    environ = MINIMAL | {"PROVISIONING_MODE": "unofficial-api", "TV_ACCESS_API_URL": address}

    assert faults_of(environ) == ["TV_ACCESS_API_URL is no address that can be read"]


@pytest.mark.parametrize("mode", ["manual", "simulated"])
def test_an_address_that_nothing_is_sent_to_is_nobodys_fault(mode):
    environ = MINIMAL | {"PROVISIONING_MODE": mode} | dict.fromkeys(WAYS.values(), "http://tv.example.com")

    assert faults_of(environ) == []


@pytest.mark.parametrize("word", ["mocc", "Mock", "live", "mock,real"])
def test_a_preset_that_is_misspelt_is_a_fault_of_its_own_and_alone(word):
    assert faults_of(MINIMAL | {"ADAPTERS_PRESET": word}) == ["ADAPTERS_PRESET must be mock or real"]
    assert "PORT" in faults_of(MINIMAL | {"ADAPTERS_PRESET": word, "PORT": "no"})[1]


def test_a_setting_is_read_by_somebody():
    read = "".join(path.read_text() for path in files(APP, JOBS, ROOT / "migrations"))

    assert {field for field in FIELDS if not re.search(rf"\.{field}\b", read)} == set()


def test_secrets_do_not_show():
    # 64 hex digits, which every secret may be and some have to be.
    secret = {field: f"5ec4e7{number:058d}" for number, field in enumerate(FIELDS) if HIDING.search(field)}
    secret["database_url"] = "postgresql://sts:" + secret["database_url"] + "@host/sts"
    secret["database_url_unpooled"] = "postgresql://sts:" + secret["database_url_unpooled"] + "@host/sts"
    secret["redis_url"] = "redis://:" + secret["redis_url"] + "@host/0"

    settings = load(MINIMAL | {names_of(field)[0]: value for field, value in secret.items()})

    assert len(secret) >= 11
    for written in (repr(settings), str(settings), f"{settings}", f"{settings!r}"):
        assert "5ec4e7" not in written


def test_a_fault_names_the_setting_and_never_its_value():
    wrong = {names_of(field)[0]: "5ecret" for field in FIELDS}

    with pytest.raises(SettingsFault) as caught:
        load(wrong)

    assert "5ecret" not in str(caught.value)
    assert any(sentence.startswith("SECRET_KEY ") for sentence in caught.value.faults)
    assert any(sentence.startswith("DATABASE_URL ") for sentence in caught.value.faults)
    assert len(caught.value.faults) > 10, "all faults are told at once"


def test_what_is_typed_secret_is_hidden_by_name_too():
    typed = {field for field, info in Settings.model_fields.items() if "SecretStr" in str(info.annotation)}

    assert SecretStr("x") != "x"
    assert {field for field in typed if not HIDING.search(field)} == set()


def test_only_the_settings_read_the_environment():
    readers = {shown(path) for path in files(APP, JOBS) if re.search(r"\bos\.(environ|getenv)\b", path.read_text())}

    assert readers == READ_ELSEWHERE.keys()
