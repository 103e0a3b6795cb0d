from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sts_app.core import tokens
from sts_app.core.tokens import TokenExpired, TokenInvalid
from tests.builders import stopped_clock

OLD, NEW = "an old key that is long enough to be one", "a new key that is long enough to be one"


@pytest.fixture(autouse=True)
def context(app):
    with app.app_context():
        yield


@pytest.fixture
def keys(app, monkeypatch):
    """Make these the keys: the first signs, all are read."""

    def keys(first, *others):
        from pydantic import SecretStr

        changed = app.config["STS"].model_copy(update={"secret_key": SecretStr(first), "secret_key_fallbacks": others})
        monkeypatch.setitem(app.config, "STS", changed)

    return keys


def test_what_was_signed_is_read():
    assert tokens.read("a", tokens.sign("a", {"id": 7}), max_age=60) == {"id": 7}


def test_a_token_for_one_purpose_is_worthless_for_another():
    token = tokens.sign("sign-in", 7)

    with pytest.raises(TokenInvalid):
        tokens.read("erase-account", token, max_age=60)


def test_a_token_is_read_until_its_time_is_over():
    with stopped_clock() as clock:
        token = tokens.sign("a", 7)
        clock.shift(timedelta(seconds=60))
        assert tokens.read("a", token, max_age=60) == 7

        clock.shift(timedelta(seconds=1))
        with pytest.raises(TokenExpired):
            tokens.read("a", token, max_age=60)


@pytest.mark.parametrize("position", range(0, 40, 3))
def test_one_changed_letter_is_enough(position):
    token = tokens.sign("a", "a payload of some length")
    changed = token[:position] + ("A" if token[position] != "A" else "B") + token[position + 1 :]

    with pytest.raises((TokenInvalid, TokenExpired)):
        tokens.read("a", changed, max_age=60)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.text(max_size=60))
def test_nothing_typed_is_a_token(typed):
    with pytest.raises(TokenInvalid):
        tokens.read("a", typed, max_age=60)
    with pytest.raises(TokenInvalid):
        tokens.unseal("a", typed)


class TestKeyRotation:
    def test_what_the_old_key_signed_sealed_and_digested_still_works(self, keys):
        keys(OLD)
        token, sealed, digest = tokens.sign("a", 7), tokens.seal("a", "text"), tokens.digest("a", "secret")

        keys(NEW, OLD)

        assert tokens.read("a", token, max_age=60) == 7
        assert tokens.unseal("a", sealed) == "text"
        assert tokens.matches("a", "secret", digest)

    def test_new_things_are_made_with_the_new_key(self, keys):
        keys(NEW, OLD)
        token, sealed, digest = tokens.sign("a", 7), tokens.seal("a", "text"), tokens.digest("a", "secret")

        keys(NEW)

        assert tokens.read("a", token, max_age=60) == 7
        assert tokens.unseal("a", sealed) == "text"
        assert tokens.matches("a", "secret", digest)

    def test_a_key_that_was_taken_away_opens_nothing(self, keys):
        keys(OLD)
        token, sealed, digest = tokens.sign("a", 7), tokens.seal("a", "text"), tokens.digest("a", "secret")

        keys(NEW)

        with pytest.raises(TokenInvalid):
            tokens.read("a", token, max_age=60)
        with pytest.raises(TokenInvalid):
            tokens.unseal("a", sealed)
        assert not tokens.matches("a", "secret", digest)


class TestSealed:
    def test_sealed_text_shows_nothing_and_comes_back_whole(self):
        sealed = tokens.seal("letter", "code 123456 👩‍👩‍👧‍👦")

        assert "123456" not in sealed
        assert tokens.unseal("letter", sealed) == "code 123456 👩‍👩‍👧‍👦"

    def test_it_opens_for_its_own_purpose_only(self):
        with pytest.raises(TokenInvalid):
            tokens.unseal("other", tokens.seal("letter", "x"))


class TestDigest:
    def test_it_is_no_plain_hash_and_differs_by_purpose(self):
        import hashlib

        assert tokens.digest("a", "secret") != tokens.digest("b", "secret")
        assert tokens.digest("a", "secret") != hashlib.sha256(b"a:secret").hexdigest()

    def test_only_the_right_secret_matches(self):
        stored = tokens.digest("a", "secret")

        assert tokens.matches("a", "secret", stored)
        assert not tokens.matches("a", "Secret", stored)
        assert not tokens.matches("b", "secret", stored)


def test_codes_have_six_digits_and_secrets_are_not_repeated():
    assert {len(tokens.new_code()) for _ in range(200)} == {6}
    assert len({tokens.new_secret() for _ in range(200)}) == 200
