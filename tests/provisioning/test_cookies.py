"""What people paste as credentials, as a table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_app.core.errors import FixInput
from sts_app.provisioning import cookies
from tests.builders import ODD_TEXTS

SESSION, SIGNATURE = "fake-session-7f3a91c2", "v3:fake/signature+5d08be46="
HEADER = f"cookiePrivacyPreferenceBanner=x; sessionid={SESSION}; sessionid_sign={SIGNATURE}; theme=dark"

typed = st.text(max_size=60) | st.sampled_from([HEADER, SESSION, SIGNATURE, "sessionid=", *ODD_TEXTS])


def read(session_id: str = "", signature: str = "") -> tuple[str | None, str | None]:
    found = cookies.read(session_id=session_id, signature=signature)
    return found.session_id, found.signature


@pytest.mark.parametrize(
    ("session_id", "signature"),
    [
        pytest.param(SESSION, SIGNATURE, id="the two values"),
        pytest.param(f"  {SESSION}\r\n", f"\t{SIGNATURE}\n", id="blanks around them"),
        pytest.param(f'"{SESSION}"', f"'{SIGNATURE}'", id="in quotes"),
        pytest.param(f"sessionid={SESSION}", f"sessionid_sign={SIGNATURE}", id="with their names"),
        pytest.param(f"sessionid = {SESSION};", f"sessionid_sign = {SIGNATURE};", id="names and semicolons"),
        pytest.param(HEADER, "", id="a header in the first field"),
        pytest.param("", HEADER, id="a header in the second field"),
        pytest.param(HEADER, HEADER, id="a header in both"),
        pytest.param(f"Cookie: {HEADER}", "", id="a header with its name"),
        pytest.param(f"sessionid_sign={SIGNATURE}; sessionid={SESSION}", "", id="the other order"),
        pytest.param(f"sessionid={SESSION};sessionid_sign={SIGNATURE}", "", id="no blanks between"),
        pytest.param(f"sessionid={SESSION}\nsessionid_sign={SIGNATURE}\n", "", id="one to a line"),
        pytest.param(f"curl 'https://x.example' -H 'cookie: {HEADER}' --compressed", "", id="copied as curl"),
        pytest.param(
            f"curl 'https://x.example' -b 'sessionid={SESSION}; sessionid_sign={SIGNATURE}'", "", id="curl -b"
        ),
        pytest.param(HEADER, SIGNATURE, id="a header, and its signature once more"),
    ],
)
def test_every_way_of_pasting_gives_the_two_values(session_id, signature):
    assert read(session_id, signature) == (SESSION, SIGNATURE)


def test_what_was_not_entered_is_none():
    assert read() == (None, None)
    assert read(" \n ", "''") == (None, None)
    assert read(session_id=SESSION) == (SESSION, None)


@pytest.mark.parametrize(
    ("session_id", "signature", "sentence"),
    [
        pytest.param("short", SIGNATURE, "has 5 characters; a real one has between 8 and 512", id="too short"),
        pytest.param("s" * 513, SIGNATURE, "has 513 characters; a real one", id="too long"),
        pytest.param("s" * 20_001, "", "far too long to be cookies", id="a whole page"),
        pytest.param(f"{SESSION} {SESSION}", "", "holds characters that no cookie has", id="a blank inside"),
        pytest.param(f"{SESSION}\x00", "", "holds characters that no cookie has", id="a NUL"),
        pytest.param(f"{SESSION}é", "", "holds characters that no cookie has", id="beyond ASCII"),
        pytest.param(f"{SESSION}\r\nX-Evil: 1", "", "holds characters that no cookie has", id="a header of its own"),
        pytest.param(f"{SESSION}\\", "", "holds characters that no cookie has", id="a backslash"),
        pytest.param("sessionid=; theme=dark", "", "The session id (cookie sessionid) is empty", id="signed out"),
        pytest.param("theme=dark; device=x1", "", "hold no session id (cookie sessionid)", id="other cookies"),
        pytest.param(SESSION, "theme=dark; a=b", "hold no signature (cookie sessionid_sign)", id="other cookies twice"),
        pytest.param(HEADER, SIGNATURE + "x", "Two different values were entered as signature", id="two signatures"),
        pytest.param(f"sessionid=one{SESSION}; sessionid=two{SESSION}", "", "as session id", id="two session ids"),
    ],
)
def test_everything_else_is_refused_with_a_sentence(session_id, signature, sentence):
    with pytest.raises(FixInput) as refused:
        read(session_id, signature)

    assert sentence in refused.value.sentence
    assert SESSION not in refused.value.sentence
    assert SIGNATURE not in refused.value.sentence


@given(session_id=typed, signature=typed)
def test_whatever_is_pasted_is_two_values_fit_for_a_header_or_a_sentence(session_id, signature):
    try:
        found = read(session_id, signature)
    except FixInput as refusal:
        found = (refusal.sentence,)

    for value in found:
        assert value is None or (value.isascii() and value.isprintable())


def test_the_values_do_not_show():
    found = repr(cookies.read(session_id=HEADER, signature=""))

    assert SESSION not in found
    assert SIGNATURE not in found


@pytest.mark.parametrize(
    ("text", "both"),
    [(HEADER, True), (SESSION, False), (f"sessionid={SESSION}", False), (SIGNATURE, False), ("", False)],
)
def test_a_text_with_both_cookies_is_known(text, both):
    assert cookies.holds_both(text) is both


class TestAddress:
    @pytest.mark.parametrize(
        ("text", "address"),
        [
            ("", None),
            ("  ", None),
            ("https://access.sts.example", "https://access.sts.example"),
            (" https://access.sts.example/base/ ", "https://access.sts.example/base"),
            ("https://access.sts.example:8443", "https://access.sts.example:8443"),
            ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
            ("http://[::1]:5000", "http://[::1]:5000"),
            ("http://10.0.0.7", "http://10.0.0.7"),
            ("http://access:8000", "http://access:8000"),
            ("http://access.internal", "http://access.internal"),
            ("http://4f66ad9a0b2e:8000", "http://4f66ad9a0b2e:8000"),
        ],
    )
    def test_an_address_of_a_service_is_read(self, text, address):
        assert cookies.address(text) == address

    @pytest.mark.parametrize(
        "text",
        [
            "access.sts.example",
            "ftp://access.sts.example",
            "javascript:alert(1)",
            "file:///etc/passwd",
            "https://",
            "https:///path",
            "https://user:word@access.sts.example",
            "https://access.sts.example?key=1",
            "https://access.sts.example/#x",
            "https://access.sts.example\\@evil.example",
            "https://access sts.example",
            "https://access.sts.example\r\nX: 1",
            "https://[::1",
            "https://x:99999999",
            "https://é.example",
            "https://" + "x" * 2_000,
            *(text for text in ODD_TEXTS if text.strip()),
        ],
    )
    def test_everything_else_is_refused(self, text):
        with pytest.raises(FixInput, match="is no http"):
            cookies.address(text)

    @pytest.mark.parametrize(
        "text",
        [
            "http://access.sts.example",
            "http://8.8.8.8:5000",
            "http://[2001:4860::1]",
            "http://[::ffff:8.8.8.8]",
            "http://134744072",
            "http://134744072:5000/base",
            "http://0x08080808",
            "http://0X8080808",
            "http://01002004010",
            "http://8.526344",
            "http://0x8.0x8.0x8.0x8",
            "http://%31%33%34744072",
        ],
    )
    def test_credentials_do_not_cross_the_internet_in_clear(self, text):
        with pytest.raises(FixInput, match="in clear"):
            cookies.address(text)

    @given(text=typed)
    def test_whatever_is_typed_is_an_address_or_a_sentence(self, text):
        try:
            found = cookies.address(text)
        except FixInput as refusal:
            found = refusal.sentence

        assert found is None or found.startswith(("http", "The address"))
