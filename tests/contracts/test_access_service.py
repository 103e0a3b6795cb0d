"""What an access service adds to the contract: two dialects, and a session that hides behind a 500."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sts_app.provisioning.gateway import AccessFact, NeedsCustomer, NeedsStaff, ScriptAnswer, TryLater
from tests.contracts.ways import ABOUT_A_NAME, ALPHA, BOTH, EVERY_OP, RIDER, perform, service
from tests.fakes.access_service import AccessServiceFake, Dialect
from tests.fakes.vendor import SESSION_ID, SIGNATURE, Nasty


@pytest.fixture(params=list(Dialect))
def fake(request: pytest.FixtureRequest) -> Iterator[AccessServiceFake]:
    with AccessServiceFake(request.param) as fake:
        yield fake


@pytest.mark.parametrize("nasty", [Nasty.UNKNOWN_EXCEPTION, Nasty.BROKEN])
@pytest.mark.parametrize("op", ABOUT_A_NAME)
def test_a_500_is_for_later_and_doubts_the_session(fake: AccessServiceFake, op: str, nasty: Nasty) -> None:
    fake.be(nasty)

    with pytest.raises(TryLater) as caught:
        perform(service(fake.url), op)

    assert caught.value.doubts_session


@pytest.mark.parametrize("nasty", [Nasty.BAD_GATEWAY, Nasty.UNAVAILABLE])
def test_any_other_failure_doubts_no_session(fake: AccessServiceFake, nasty: Nasty) -> None:
    fake.be(nasty, times=2)

    for op in ("grant", "check_session"):
        with pytest.raises(TryLater) as caught:
            perform(service(fake.url), op)
        assert not caught.value.doubts_session


@pytest.mark.parametrize("nasty", [Nasty.UNKNOWN_EXCEPTION, Nasty.BROKEN])
def test_a_500_is_a_dead_session_to_the_session_check(fake: AccessServiceFake, nasty: Nasty) -> None:
    fake.be(nasty)

    with pytest.raises(NeedsStaff):
        service(fake.url).check_session()


@pytest.mark.parametrize("op", EVERY_OP)
def test_an_answer_that_repeats_what_was_sent_is_for_later(fake: AccessServiceFake, op: str) -> None:
    fake.be(Nasty.ECHO)

    with pytest.raises(TryLater):
        perform(service(fake.url), op)


@pytest.mark.parametrize("op", ["grant", "revoke"])
def test_an_empty_answer_to_a_write_is_for_later(fake: AccessServiceFake, op: str) -> None:
    fake.be(Nasty.EMPTY)

    with pytest.raises(TryLater):
        perform(service(fake.url), op)


@pytest.mark.parametrize("nasty", [Nasty.NO_SUCH_NAME, Nasty.NO_SUCH_PAGE])
@pytest.mark.parametrize("op", ["grant", "revoke", "has_access"])
def test_a_name_that_is_not_there_needs_the_customer(fake: AccessServiceFake, op: str, nasty: Nasty) -> None:
    fake.be(nasty)

    with pytest.raises(NeedsCustomer):
        perform(service(fake.url), op)


@pytest.mark.parametrize("nasty", [Nasty.NO_SUCH_NAME, Nasty.NO_SUCH_PAGE])
def test_a_name_that_is_not_there_is_not_found(fake: AccessServiceFake, nasty: Nasty) -> None:
    fake.be(nasty)

    assert service(fake.url).find_name("Trader") is None


@pytest.mark.parametrize("canary", ["Vendor", None])
def test_a_canary_or_an_address_that_is_not_there_needs_staff(fake: AccessServiceFake, canary: str | None) -> None:
    fake.be(Nasty.NO_SUCH_NAME)

    with pytest.raises(NeedsStaff):
        service(fake.url, canary=canary).check_session()


def test_a_script_left_out_is_no_access_and_no_grant(fake: AccessServiceFake) -> None:
    gateway = service(fake.url)
    fake.be(Nasty.MISSING_SCRIPTS, times=3)

    assert gateway.has_access("Trader", [ALPHA]) == [AccessFact(ALPHA, has_access=False, is_told=False)]
    assert [bool(answer.refused) for answer in gateway.grant("Trader", BOTH)] == [True, True]
    assert gateway.revoke("Trader", [ALPHA]) == [ScriptAnswer(ALPHA)]


def test_an_answer_about_somebody_else_proves_nothing(fake: AccessServiceFake) -> None:
    gateway = service(fake.url)
    fake.be(Nasty.ANOTHER_NAME, times=2)

    assert gateway.has_access("Trader", [ALPHA]) == [AccessFact(ALPHA, has_access=False, is_told=False)]
    assert gateway.grant("Trader", [ALPHA])[0].refused


def test_failing_to_remove_what_was_not_there_is_no_refusal() -> None:
    with AccessServiceFake(Dialect.OPEN) as fake:
        fake.give("Trader", RIDER)

        answers = service(fake.url).revoke("Trader", BOTH)

        assert answers == [ScriptAnswer(ALPHA), ScriptAnswer(RIDER)]
        assert len(fake.seen) == 1


def test_requests_are_what_the_service_expects(fake: AccessServiceFake) -> None:
    gateway = service(fake.url)

    gateway.find_name("Trader")
    gateway.has_access("Trader", [ALPHA])
    gateway.grant("Trader", BOTH)
    gateway.revoke("Trader", [RIDER])
    gateway.check_session()

    assert [(seen.method, seen.path, seen.body) for seen in fake.seen] == [
        ("GET", "/validate/Trader", None),
        ("GET", "/access/Trader", {"pine_ids": [ALPHA]}),
        ("POST", "/access/Trader", {"pine_ids": [ALPHA, RIDER], "duration": "1L"}),
        ("DELETE", "/access/Trader", {"pine_ids": [RIDER]}),
        ("GET", "/access/Vendor", {"pine_ids": [ALPHA]}),
    ]
    for seen in fake.seen:
        assert (seen.headers["X-Session-Id"], seen.headers["X-Signature"]) == (SESSION_ID, SIGNATURE)


def test_without_credentials_no_credentials_are_sent() -> None:
    with AccessServiceFake(Dialect.OPEN) as fake:
        service(fake.url + "/", session_id=None, signature="", canary=None).check_session()

        (seen,) = fake.seen
        assert seen.path == "/"
        assert not {"X-Session-Id", "X-Signature"} & set(seen.headers)


def test_without_a_canary_a_sign_in_page_still_needs_staff(fake: AccessServiceFake) -> None:
    fake.be(Nasty.SIGN_IN)

    with pytest.raises(NeedsStaff):
        service(fake.url, canary=None).check_session()


@pytest.mark.parametrize("op", EVERY_OP)
def test_bad_credentials_need_staff_whatever_is_asked(op: str) -> None:
    with AccessServiceFake(Dialect.SECURED) as fake, pytest.raises(NeedsStaff):
        perform(service(fake.url, session_id="old"), op)


def test_an_unknown_name_is_looked_up_before_the_customer_is_troubled() -> None:
    with AccessServiceFake(Dialect.OPEN) as fake:
        fake.unknown.add("trader")

        with pytest.raises(NeedsCustomer):
            service(fake.url).grant("Trader", BOTH)

        assert [seen.path for seen in fake.seen] == ["/access/Trader", "/validate/Trader"]


def test_a_name_is_one_piece_of_the_path(fake: AccessServiceFake) -> None:
    assert service(fake.url).find_name("../access/Trader?x=1#y") is None

    asked = [seen.path for seen in fake.seen if seen.path.startswith("/validate/")]
    assert [path.count("/") for path in asked] == [2]
    assert not any("Trader" in seen.path for seen in fake.seen if seen.path not in asked)
