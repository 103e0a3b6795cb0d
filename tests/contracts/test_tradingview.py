"""What every way to TradingView promises: the simulator, an access service in both dialects, the site itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from sts_app.core import clock
from sts_app.provisioning.gateway import (
    AccessFact,
    Holder,
    NeedsCustomer,
    NeedsStaff,
    NotOffered,
    ScriptAnswer,
    TradingViewError,
    Trouble,
    TryLater,
)
from tests.contracts.ways import (
    ABOUT_A_NAME,
    ALPHA,
    BOTH,
    EVERY_OP,
    LISTING,
    RIDER,
    SECRETS,
    WAYS,
    WRITING,
    World,
    everything_told_by,
    facts_of,
    perform,
    world_of,
)

END = datetime(2031, 8, 17, 6, 27, 49, 67935, tzinfo=UTC)


@pytest.fixture(params=WAYS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with world_of(request.param) as world:
        yield world


class TestTradingView:
    def test_the_canonical_spelling_is_returned(self, world: World) -> None:
        assert world.gateway.find_name("traderJoe") == "TraderJoe"

    def test_an_unknown_name_is_not_found(self, world: World) -> None:
        assert world.gateway.find_name("Unknown_Trader") is None

    @pytest.mark.parametrize("name", ["", ".", "..", "two words", "a/../b", "%2e%2e", "näme", "x" * 300, "\ud800ab"])
    def test_what_cannot_be_a_name_is_not_found(self, world: World, name: str) -> None:
        assert world.gateway.find_name(name) is None

    def test_granting_to_an_unknown_name_needs_the_customer(self, world: World) -> None:
        with pytest.raises(NeedsCustomer):
            world.gateway.grant("unknown_trader", BOTH)

        assert not world.holds("unknown_trader", ALPHA)

    def test_an_unknown_name_never_shows_access(self, world: World) -> None:
        try:
            facts = world.gateway.has_access("unknown_trader", BOTH)
        except NeedsCustomer:
            return
        assert facts == [AccessFact(ALPHA, has_access=False), AccessFact(RIDER, has_access=False)]

    def test_a_grant_stands_for_life_and_can_be_read(self, world: World) -> None:
        answers = world.gateway.grant("Trader", BOTH)

        assert answers == [ScriptAnswer(ALPHA), ScriptAnswer(RIDER)]
        assert world.gateway.has_access("Trader", BOTH) == [
            AccessFact(ALPHA, has_access=True, expires_at=None),
            AccessFact(RIDER, has_access=True, expires_at=None),
        ]
        assert world.holds("Trader", ALPHA)

    def test_answers_come_in_the_order_asked(self, world: World) -> None:
        world.gateway.grant("Trader", [RIDER])

        granted = world.gateway.grant("Trader", [RIDER, ALPHA])
        read = world.gateway.has_access("Trader", [RIDER, "PUB;other", ALPHA])

        assert [answer.script_id for answer in granted] == [RIDER, ALPHA]
        assert [(fact.script_id, fact.has_access) for fact in read] == [
            (RIDER, True),
            ("PUB;other", False),
            (ALPHA, True),
        ]

    def test_granting_twice_equals_once(self, world: World) -> None:
        world.gateway.grant("Trader", [ALPHA])
        again = world.gateway.grant("tRADER", [ALPHA])
        assert again == [ScriptAnswer(ALPHA)]

        world.gateway.revoke("Trader", [ALPHA])

        assert facts_of(world.gateway, "Trader") == {ALPHA: False, RIDER: False}

    def test_a_revoked_script_is_absent_and_the_others_stay(self, world: World) -> None:
        world.gateway.grant("Trader", BOTH)

        answers = world.gateway.revoke("Trader", [ALPHA])

        assert answers == [ScriptAnswer(ALPHA)]
        assert facts_of(world.gateway, "Trader") == {ALPHA: False, RIDER: True}

    def test_revoking_what_is_absent_is_quiet(self, world: World) -> None:
        assert world.gateway.revoke("Trader", BOTH) == [ScriptAnswer(ALPHA), ScriptAnswer(RIDER)]

    def test_names_are_the_same_in_any_case(self, world: World) -> None:
        world.gateway.grant("Trader", [ALPHA])

        assert facts_of(world.gateway, "TRADER") == {ALPHA: True, RIDER: False}

    def test_one_name_says_nothing_about_another(self, world: World) -> None:
        world.gateway.grant("Trader", BOTH)

        assert facts_of(world.gateway, "Trader2") == {ALPHA: False, RIDER: False}

    def test_asking_about_nothing_answers_nothing(self, world: World) -> None:
        world.break_session()

        assert world.gateway.grant("Trader", []) == []
        assert world.gateway.revoke("Trader", []) == []
        assert world.gateway.has_access("Trader", []) == []

    def test_a_lie_about_a_grant_is_visible_by_reading(self, world: World) -> None:
        world.lie()

        answers = world.gateway.grant("Trader", BOTH)

        assert [answer.refused for answer in answers] == [None, None]
        assert facts_of(world.gateway, "Trader") == {ALPHA: False, RIDER: False}

    def test_a_lie_about_a_removal_is_visible_by_reading(self, world: World) -> None:
        world.gateway.grant("Trader", BOTH)
        world.lie()

        answers = world.gateway.revoke("Trader", BOTH)

        assert [answer.refused for answer in answers] == [None, None]
        assert facts_of(world.gateway, "Trader") == {ALPHA: True, RIDER: True}

    def test_a_refusal_is_told_for_each_script_and_does_nothing(self, world: World) -> None:
        world.refuse()

        answers = world.gateway.grant("Trader", BOTH)

        assert [(answer.script_id, bool(answer.refused)) for answer in answers] == [(ALPHA, True), (RIDER, True)]
        assert facts_of(world.gateway, "Trader") == {ALPHA: False, RIDER: False}

    def test_a_refused_removal_is_told_and_does_nothing(self, world: World) -> None:
        world.gateway.grant("Trader", [ALPHA])
        world.refuse()

        answers = world.gateway.revoke("Trader", [ALPHA])

        assert [(answer.script_id, bool(answer.refused)) for answer in answers] == [(ALPHA, True)]
        assert facts_of(world.gateway, "Trader")[ALPHA]

    def test_access_with_an_end_says_when(self, world: World) -> None:
        world.give("Trader", ALPHA, END)

        assert world.gateway.has_access("Trader", [ALPHA]) == [AccessFact(ALPHA, has_access=True, expires_at=END)]

    def test_access_with_an_end_becomes_access_for_life(self, world: World) -> None:
        world.give("Trader", ALPHA, clock.now() + timedelta(days=7))

        answers = world.gateway.grant("Trader", [ALPHA])

        assert answers == [ScriptAnswer(ALPHA)]
        assert world.gateway.has_access("Trader", [ALPHA]) == [AccessFact(ALPHA, has_access=True, expires_at=None)]

    def test_a_lost_answer_is_for_later_and_the_next_read_shows_the_deed(self, world: World) -> None:
        world.lose_answer()

        with pytest.raises(TryLater):
            world.gateway.grant("Trader", [ALPHA])

        assert facts_of(world.gateway, "Trader")[ALPHA]

    def test_a_lost_answer_to_a_removal_is_for_later_and_the_next_read_shows_the_deed(self, world: World) -> None:
        world.gateway.grant("Trader", [ALPHA])
        world.lose_answer()

        with pytest.raises(TryLater):
            world.gateway.revoke("Trader", [ALPHA])

        assert not facts_of(world.gateway, "Trader")[ALPHA]

    def test_a_failed_call_is_for_later_and_only_once(self, world: World) -> None:
        world.fail()

        with pytest.raises(TryLater) as caught:
            world.gateway.grant("Trader", [ALPHA])

        assert (caught.value.trouble, caught.value.doubts_session) == (Trouble.FAILURE, False)
        assert not world.holds("Trader", ALPHA)
        assert world.gateway.grant("Trader", [ALPHA]) == [ScriptAnswer(ALPHA)]

    def test_a_rate_limit_is_for_later_and_says_when(self, world: World) -> None:
        world.limit_rate(90)

        with pytest.raises(TryLater) as caught:
            world.gateway.grant("Trader", [ALPHA])

        assert (caught.value.trouble, caught.value.after) == (Trouble.RATE_LIMIT, timedelta(seconds=90))
        assert not world.holds("Trader", ALPHA)

    def test_a_wait_in_vain_is_for_later_and_called_so(self, world: World) -> None:
        world.never_answer()

        with pytest.raises(TryLater) as caught:
            world.impatient.grant("Trader", [ALPHA])

        assert caught.value.trouble is Trouble.TIMEOUT
        assert not world.holds("Trader", ALPHA)

    def test_a_living_session_is_quiet(self, world: World) -> None:
        world.gateway.check_session()

    def test_a_dead_session_needs_staff(self, world: World) -> None:
        world.break_session()

        with pytest.raises(NeedsStaff):
            world.gateway.check_session()

    @pytest.mark.parametrize("op", ABOUT_A_NAME)
    def test_a_dead_session_is_no_verdict_about_a_name(self, world: World, op: str) -> None:
        world.break_session()

        with pytest.raises(NeedsStaff if world.says_why_in_every_call else TryLater) as caught:
            perform(world.gateway, op)

        assert not isinstance(caught.value, TryLater) or caught.value.doubts_session

    @pytest.mark.parametrize("op", EVERY_OP)
    def test_every_call_is_counted_and_leaves_one_line(self, world: World, op: str) -> None:
        kind = "write" if op in WRITING else "read"

        with capture_logs() as lines:
            perform(world.gateway, op)

        assert world.calls() == 1
        assert [(made.kind, made.op, made.outcome, made.limited, made.after) for made in world.metered] == [
            (kind, op, "answered", False, None)
        ]
        assert [(line["event"], line["op"], line["outcome"]) for line in lines] == [
            ("tradingview.call", op, "answered")
        ]
        assert {"status", "ms"} <= set(lines[0])
        assert world.metered[0].ms >= 0

    def test_several_scripts_are_one_call_or_one_each_as_the_gateway_says(self, world: World) -> None:
        world.gateway.grant("Trader", BOTH)

        assert len(world.metered) == world.calls() == (1 if world.gateway.one_call_for_all else len(BOTH))

    @pytest.mark.parametrize("op", WRITING)
    def test_a_failing_call_is_counted_once_and_not_repeated(self, world: World, op: str) -> None:
        world.fail()

        with capture_logs() as lines, pytest.raises(TryLater):
            getattr(world.gateway, op)("Trader", BOTH)

        assert world.calls() == 1
        assert [(made.kind, made.op, made.outcome) for made in world.metered] == [("write", op, "failure")]
        assert [line["outcome"] for line in lines] == ["failure"]

    def test_a_rate_limit_is_counted_as_one_with_its_delay(self, world: World) -> None:
        world.limit_rate(90)

        with pytest.raises(TryLater):
            world.gateway.grant("Trader", BOTH)

        assert [(made.outcome, made.limited, made.after) for made in world.metered] == [
            ("rate_limit", True, timedelta(seconds=90))
        ]

    def test_a_wait_in_vain_is_counted_as_one(self, world: World) -> None:
        world.never_answer()

        with pytest.raises(TryLater):
            world.impatient.grant("Trader", BOTH)

        assert [made.outcome for made in world.metered] == ["timeout"]

    def test_a_refused_session_is_counted_as_one(self, world: World) -> None:
        world.break_session()

        with pytest.raises(NeedsStaff):
            world.gateway.check_session()

        assert [made.outcome for made in world.metered] == ["needs_staff"]

    @pytest.mark.parametrize("world", LISTING, indirect=True)
    def test_whoever_holds_a_script_is_listed(self, world: World) -> None:
        world.gateway.grant("trader", BOTH)
        world.give("another", ALPHA, END)

        assert {holder.name: holder for holder in world.gateway.list_holders(ALPHA)} == {
            "Trader": Holder("Trader", None),
            "Another": Holder("Another", END),
        }
        assert [holder.name for holder in world.gateway.list_holders(RIDER)] == ["Trader"]
        assert world.gateway.list_holders("PUB;other") == []

    @pytest.mark.parametrize("world", LISTING, indirect=True)
    def test_listing_is_counted_as_reading(self, world: World) -> None:
        world.gateway.list_holders(ALPHA)

        assert [(made.kind, made.op, made.outcome) for made in world.metered] == [("read", "list_holders", "answered")]

    @pytest.mark.parametrize("world", LISTING, indirect=True)
    def test_a_list_that_cannot_be_read_is_for_later(self, world: World) -> None:
        world.gateway.grant("Trader", BOTH)
        world.fail_reads()

        with pytest.raises(TryLater):
            world.gateway.list_holders(ALPHA)

    @pytest.mark.parametrize("world", LISTING, indirect=True)
    def test_a_dead_session_lists_nobody(self, world: World) -> None:
        world.break_session()

        with pytest.raises(NeedsStaff):
            world.gateway.list_holders(ALPHA)

    @pytest.mark.parametrize("world", sorted(set(WAYS) - set(LISTING)), indirect=True)
    def test_where_nobody_is_listed_that_is_not_offered_and_no_call_is_made(self, world: World) -> None:
        with pytest.raises(NotOffered):
            world.gateway.list_holders(ALPHA)

        assert (world.calls(), world.metered) == (0, [])

    def test_no_secret_is_in_an_error_or_a_log_line(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        levers: list[Callable[[], object]] = [world.fail, lambda: world.limit_rate(5), world.lose_answer]
        told = repr(world.gateway)

        with capture_logs() as lines:
            for lever in [*levers, world.break_session]:
                lever()
                with pytest.raises(TradingViewError) as caught:
                    world.gateway.grant("Trader", BOTH)
                told += everything_told_by(caught.value) + caught.value.reason

        assert len(lines) == 4
        for secret in SECRETS:
            assert secret not in told
            assert secret not in repr(lines)
            assert secret not in caplog.text
