"""What is sealed opens in its own place, under its own key, whole: and otherwise not at all."""

from __future__ import annotations

import base64
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_app.core.sealing import CannotOpen, Keyring, Sealed
from sts_app.settings import SettingsFault, encryption_key, load
from tests.world import ENV

FINE = {**ENV, "DATABASE_URL": "postgresql://x@127.0.0.1:1/x", "REDIS_URL": "redis://127.0.0.1:1/0"}
KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
# The two letters in which the base64 alphabets differ are in this one.
ODD_KEY = b"\xfb\xff" * 16
RING = Keyring(KEY)

keys = st.binary(min_size=32, max_size=32)
words = st.text(max_size=20)


def sealed(content: bytes = b"content", *, ring: Keyring = RING, purpose: str = "test", place: str = "row:1") -> Sealed:
    return ring.seal(content, purpose=purpose, place=place)


def opened(box: Sealed, *, ring: Keyring = RING, purpose: str = "test", place: str = "row:1") -> bytes:
    return ring.open(box, purpose=purpose, place=place)


@given(content=st.binary(max_size=200), key=keys, purpose=words, place=words)
def test_what_was_sealed_comes_back_whole(content, key, purpose, place):
    ring = Keyring(key)

    assert opened(
        sealed(content, ring=ring, purpose=purpose, place=place), ring=ring, purpose=purpose, place=place
    ) == (content)


@given(content=st.binary(min_size=8, max_size=200))
def test_nothing_of_it_shows_and_no_two_seals_are_alike(content):
    first, second = sealed(content), sealed(content)

    assert content not in first.data
    assert first.data != second.data
    assert repr(first) == f"Sealed(key_id='{RING.present_id}')"


@given(data=st.data())
def test_one_changed_bit_anywhere_is_enough(data):
    box = sealed()
    position = data.draw(st.integers(0, len(box.data) * 8 - 1))
    changed = bytearray(box.data)
    changed[position // 8] ^= 1 << position % 8

    with pytest.raises(CannotOpen):
        opened(Sealed(box.key_id, bytes(changed)))


@pytest.mark.parametrize("length", range(len(sealed().data)))
def test_what_is_cut_short_does_not_open(length):
    box = sealed()

    with pytest.raises(CannotOpen):
        opened(Sealed(box.key_id, box.data[:length]))


@given(garbage=st.binary(max_size=100))
def test_what_never_was_sealed_does_not_open(garbage):
    for data in (garbage, b"\x01" + garbage):
        with pytest.raises(CannotOpen):
            opened(Sealed(RING.present_id, data))


@given(purposes=st.tuples(words, words), places=st.tuples(words, words))
def test_it_opens_for_its_own_purpose_and_in_its_own_place_alone(purposes, places):
    box = sealed(purpose=purposes[0], place=places[0])

    if (purposes[0], places[0]) == (purposes[1], places[1]):
        assert opened(box, purpose=purposes[1], place=places[1]) == b"content"
    else:
        with pytest.raises(CannotOpen):
            opened(box, purpose=purposes[1], place=places[1])


def test_words_cannot_wander_from_the_purpose_to_the_place():
    with pytest.raises(CannotOpen):
        opened(sealed(purpose="a", place='b", "c'), purpose='a", "b', place="c")


class TestKeys:
    def test_another_key_does_not_open(self):
        with pytest.raises(CannotOpen):
            opened(sealed(), ring=Keyring(OTHER))

    def test_another_key_does_not_open_what_is_said_to_be_its_own(self):
        other = Keyring(OTHER)

        with pytest.raises(CannotOpen):
            opened(Sealed(other.present_id, sealed().data), ring=other)

    def test_the_name_of_the_key_is_bound_to_the_content(self):
        both = Keyring(OTHER, KEY)

        with pytest.raises(CannotOpen):
            opened(Sealed(both.present_id, sealed().data), ring=both)

    def test_an_older_key_opens_and_the_present_one_seals(self):
        both = Keyring(OTHER, KEY)

        assert opened(sealed(), ring=both) == b"content"
        assert opened(sealed(ring=both), ring=Keyring(OTHER)) == b"content"

    @given(key=keys)
    def test_the_name_of_a_key_is_steady_and_tells_nothing(self, key):
        name = Keyring(key).present_id

        assert name == Keyring(key).present_id
        assert len(name) == 8
        assert name not in key.hex()
        assert Keyring(OTHER, key).knows(name)

    def test_an_error_shows_neither_key_nor_content(self):
        secret = "-".join(("not", "for", "anybody"))

        with pytest.raises(CannotOpen) as refused:
            opened(sealed(secret.encode()), ring=Keyring(OTHER))

        told = "".join(traceback.format_exception(refused.value)) + repr(refused.value)
        assert secret not in told
        assert shows_no_key(told)

    def test_a_value_sealed_by_the_first_release_still_opens(self):
        """The layout is a promise to every row that is stored: change it by a new first byte, never in place."""
        data = bytes.fromhex("01000102030405060708090a0b246db86fa08bb67c12368c878b57c149523de8b849eb37")

        assert opened(Sealed("07046e4f", data)) == b"content"


def shows_no_key(told: str) -> bool:
    return KEY.hex() not in told and OTHER.hex() not in told and repr(KEY) not in told


class TestTheKeyOfTheSettings:
    @pytest.mark.parametrize(
        "text",
        [
            pytest.param(ODD_KEY.hex(), id="hex"),
            pytest.param(ODD_KEY.hex().upper(), id="hex in capitals"),
            pytest.param(base64.b64encode(ODD_KEY).decode(), id="base64"),
            pytest.param(base64.b64encode(ODD_KEY).decode().rstrip("="), id="base64 without padding"),
            pytest.param(base64.urlsafe_b64encode(ODD_KEY).decode(), id="url-safe"),
            pytest.param(base64.urlsafe_b64encode(ODD_KEY).decode().rstrip("="), id="url-safe without padding"),
            pytest.param(f"  {ODD_KEY.hex()}\n", id="blanks around it"),
        ],
    )
    def test_every_format_people_use_is_read(self, text):
        assert encryption_key(text) == ODD_KEY
        assert Keyring.of(load({**FINE, "CREDENTIAL_ENCRYPTION_KEY": text})).present_id == Keyring(ODD_KEY).present_id

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("ab" * 16, id="16 bytes in hex"),
            pytest.param("ab" * 31, id="31 bytes in hex"),
            pytest.param("ab" * 31 + "a", id="63 digits"),
            pytest.param("ab" * 33, id="33 bytes in hex"),
            pytest.param("0x" + "ab" * 31, id="hex with a prefix"),
            pytest.param("zz" * 32, id="64 letters that are no digits"),
            pytest.param(base64.b64encode(b"k" * 31).decode(), id="31 bytes in base64"),
            pytest.param(base64.b64encode(b"k" * 33).decode(), id="33 bytes in base64"),
            pytest.param(base64.b64encode(b"k" * 32).decode() + "=", id="too much padding"),
            pytest.param("+-" + "A" * 41, id="two alphabets at once"),
            pytest.param("A" * 42 + "B", id="bits to spare"),
            pytest.param("a passphrase somebody thought of", id="32 characters that are no key"),
            pytest.param("k" * 20 + "\n" + "k" * 23, id="a line break inside"),
            pytest.param("é" * 43, id="beyond ASCII"),
            pytest.param("٣" * 64, id="digits of another script"),
        ],
    )
    @pytest.mark.parametrize("name", ["CREDENTIAL_ENCRYPTION_KEY", "CREDENTIAL_ENCRYPTION_KEY_FALLBACKS"])
    def test_everything_else_is_refused_at_start_with_the_other_faults_and_not_repeated(self, name, text):
        with pytest.raises(SettingsFault) as refused:
            load({**FINE, name: text, "PORT": "door"})

        told = "\n".join(refused.value.faults)
        assert f"{name} must be 32 bytes, as 64 hex digits or as base64" in told
        assert "PORT must be a valid integer" in told
        assert text not in told

    @given(text=st.text(max_size=70))
    def test_whatever_is_typed_is_a_key_or_a_sentence(self, text):
        try:
            found = len(encryption_key(text))
        except ValueError as error:
            found = str(error)

        assert found in (32, "must be 32 bytes, as 64 hex digits or as base64")

    def test_the_fault_says_which_of_several_older_keys_it_is(self):
        with pytest.raises(SettingsFault) as refused:
            load({**FINE, "CREDENTIAL_ENCRYPTION_KEY_FALLBACKS": f"{KEY.hex()},short"})

        [told] = refused.value.faults
        assert told.endswith(": number 2 of them is not")

    @pytest.mark.parametrize("name", ["TENANT_SECRETS_ENCRYPTION_KEY", "DATA_ENCRYPTION_KEY"])
    def test_the_key_is_known_by_its_older_names(self, name):
        assert Keyring.of(load({**FINE, name: KEY.hex()})).present_id == RING.present_id

    def test_without_a_key_there_is_no_ring_even_if_older_ones_are_left(self):
        assert Keyring.of(load({**FINE, "CREDENTIAL_ENCRYPTION_KEY": " "})) is None
        assert Keyring.of(load({**FINE, "CREDENTIAL_ENCRYPTION_KEY_FALLBACKS": KEY.hex()})) is None

    def test_the_settings_show_neither_the_key_nor_older_ones(self):
        loaded = load(
            {**FINE, "CREDENTIAL_ENCRYPTION_KEY": KEY.hex(), "CREDENTIAL_ENCRYPTION_KEY_FALLBACKS": OTHER.hex()}
        )

        assert shows_no_key(repr(loaded))
        assert shows_no_key(str(loaded))
