"""Whatever stands in the environment, the settings are read or refused with sentences, and nothing else happens."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sts_app.settings import PRESET, Settings, SettingsFault, load, names_of
from tests.world import ENV

FINE = {**ENV, "DATABASE_URL": "postgresql://x@127.0.0.1:1/x", "REDIS_URL": "redis://127.0.0.1:1/0"}
NAMES = sorted({PRESET, *(alias for field in Settings.model_fields for alias in names_of(field))})
# An environment holds no NUL; everything else may come.
texts = st.text(st.characters(exclude_characters="\x00"), max_size=30) | st.sampled_from(
    ["", " ", "true", "no", "-1", "0", "1e9", "nan", "inf", "9" * 400, "live", "simulated", "manual", "production",
     "postgres://", "postgresql://a:b@[::1", "redis://", "http://[", ",,,", "\udcff", "x" * 5000]
)  # fmt: skip


def read(environ) -> Settings | SettingsFault:
    try:
        return load(environ)
    except SettingsFault as fault:
        return fault


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from(NAMES), texts, max_size=12))
def test_no_environment_breaks_the_reading(environ):
    found = read(environ)

    if isinstance(found, SettingsFault):
        assert found.faults
        assert all(isinstance(sentence, str) and sentence for sentence in found.faults)


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from(NAMES), texts, max_size=4))
def test_nor_does_a_good_one_with_a_few_odd_values(odd):
    found = read({**FINE, **odd})

    if isinstance(found, Settings):
        assert found.public_url
        assert found.retry_delays


@pytest.mark.parametrize("name", ["SECRET_KEY", "STRIPE_SECRET_KEY", "RESEND_API_KEY", "TV_SESSION_ID", "HEALTH_TOKEN"])
def test_no_fault_and_no_repr_tells_a_secret(name):
    secret = "the-value-nobody-may-read-in-a-log-0123456789"

    loaded = load({**FINE, name: secret})
    assert secret not in repr(loaded)
    assert secret not in str(loaded)

    with pytest.raises(SettingsFault) as refused:
        load({**FINE, name: secret, "PORT": "no", "DATABASE_URL": f"mysql://{secret}@x/y"})
    assert secret not in str(refused.value)
    assert secret not in str(refused.value.faults)


def test_a_fault_is_named_as_the_documentation_spells_it():
    with pytest.raises(SettingsFault) as refused:
        load({**FINE, "NEXTAUTH_SECRET": "short", "SECRET_KEY": "", "API_PORT": "x"})

    assert "SECRET_KEY must be at least 32 characters of randomness" in refused.value.faults
    assert any(sentence.startswith("PORT ") for sentence in refused.value.faults)


def test_what_is_missing_hides_nothing_else_that_is_wrong():
    with pytest.raises(SettingsFault) as caught:
        load({"APP_ENV": "production", "PORT": "door"})

    told = "\n".join(caught.value.faults)
    for name in ("SECRET_KEY", "DATABASE_URL", "REDIS_URL", "PORT", "STRIPE_WEBHOOK_SECRET", "APP_URL", "ADMIN_EMAIL"):
        assert f"{name} " in told
    assert "PORT must be a valid integer" in told
