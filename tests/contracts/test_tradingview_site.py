"""What the site itself adds to the contract: cookies, one call for each script, lists in pages, ends of access."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
from structlog.testing import capture_logs

from sts_app.provisioning import live_direct
from sts_app.provisioning.gateway import (
    AccessFact,
    Holder,
    NeedsCustomer,
    NeedsStaff,
    ScriptAnswer,
    Trouble,
    TryLater,
)
from tests.contracts.ways import ALPHA, BOTH, EVERY_OP, RIDER, SECRETS, direct, everything_told_by, perform
from tests.fakes.tradingview_site import DEAD_LOOKS, TradingViewSite
from tests.fakes.vendor import SESSION_ID, SIGNATURE, WRITES, Act, Nasty

END = datetime(2031, 8, 17, 6, 27, 49, tzinfo=UTC)
EVERY_OP_AND_LIST = (*EVERY_OP, "list_holders")


@pytest.fixture
def site() -> Iterator[TradingViewSite]:
    with TradingViewSite() as site:
        yield site


def acts(site: TradingViewSite) -> list[Act | None]:
    return [seen.act for seen in site.seen]


class TestRequests:
    def test_they_are_what_the_site_expects(self, site: TradingViewSite) -> None:
        gateway = direct(site.url + "/")

        gateway.find_name("Trader")
        gateway.grant("Trader", [ALPHA])
        gateway.has_access("Trader", [ALPHA])
        gateway.revoke("Trader", [ALPHA])
        gateway.list_holders(ALPHA)
        gateway.check_session()

        page = {"limit": "30", "order_by": "-created"}
        about = {"pine_id": ALPHA, "username_recip": "Trader"}
        assert [(seen.method, seen.path, seen.query, seen.body) for seen in site.seen] == [
            ("GET", "/username_hint/", {"s": "Trader"}, None),
            ("POST", "/pine_perm/add/", {}, about),
            ("POST", "/pine_perm/list_users/", page, {"pine_id": ALPHA, "username": "Trader"}),
            ("POST", "/pine_perm/remove/", {}, about),
            ("POST", "/pine_perm/list_users/", page, {"pine_id": ALPHA}),
            ("GET", "/tvcoins/details/", {}, None),
        ]

    @pytest.mark.parametrize("op", EVERY_OP_AND_LIST)
    def test_they_come_as_from_a_browser_that_is_signed_in(self, site: TradingViewSite, op: str) -> None:
        perform(direct(site.url), op)

        headers = site.seen[0].headers
        assert headers["Cookie"] == f"sessionid={SESSION_ID}; sessionid_sign={SIGNATURE}"
        assert (headers["Origin"], headers["Referer"]) == (site.url, f"{site.url}/")
        assert headers["User-Agent"].startswith("Mozilla/5.0")

    def test_writes_are_forms_of_several_parts_and_lists_plain_ones(self, site: TradingViewSite) -> None:
        gateway = direct(site.url)

        gateway.grant("Trader", [ALPHA])
        gateway.has_access("Trader", [ALPHA])

        kinds = [seen.headers["Content-Type"].split(";")[0] for seen in site.seen]
        assert kinds == ["multipart/form-data", "application/x-www-form-urlencoded"]

    @pytest.mark.parametrize("name", ["a&limit=1", "a#b", "a b", "ä", "a/../b"])
    def test_a_name_is_one_value_of_the_query(self, site: TradingViewSite, name: str) -> None:
        assert direct(site.url).find_name(name) is None

        assert [(seen.path, seen.query) for seen in site.seen] == [("/username_hint/", {"s": name})]

    @pytest.mark.parametrize("op", EVERY_OP_AND_LIST)
    @pytest.mark.parametrize("session_id", [None, "", "  "])
    def test_without_a_session_nothing_is_sent(self, site: TradingViewSite, op: str, session_id: str | None) -> None:
        with pytest.raises(NeedsStaff):
            perform(direct(site.url, session_id=session_id), op)

        assert site.seen == []

    @pytest.mark.parametrize("odd", ["a;0a1b", "a 0a1b", 'a"0a1b', "a,0a1b", "a\\0a1b"])
    def test_what_is_no_cookie_needs_staff_and_stays_secret(self, site: TradingViewSite, odd: str) -> None:
        for gateway in (direct(site.url, session_id=odd), direct(site.url, signature=odd)):
            with pytest.raises(NeedsStaff) as caught:
                gateway.check_session()

            assert "0a1b" not in everything_told_by(caught.value)
        assert site.seen == []

    def test_cookies_as_people_copy_them_are_sent(self, site: TradingViewSite) -> None:
        site.credentials = {("k3y0f7lettersAndDigits", "v3:AbC+d/eF0=")}

        direct(site.url, session_id=" k3y0f7lettersAndDigits\n", signature="v3:AbC+d/eF0=").check_session()

        assert acts(site) == [Act.SESSION]


class TestSession:
    @pytest.mark.parametrize("op", EVERY_OP_AND_LIST)
    @pytest.mark.parametrize("look", DEAD_LOOKS)
    def test_a_dead_one_needs_staff_however_it_looks(self, site: TradingViewSite, look: Nasty, op: str) -> None:
        site.session_is_alive, site.dead_look = False, look

        with capture_logs() as lines, pytest.raises(NeedsStaff) as caught:
            perform(direct(site.url), op)

        told = everything_told_by(caught.value) + repr(lines)
        assert not [secret for secret in SECRETS if secret in told]

    @pytest.mark.parametrize("nasty", [Nasty.NO_SUCH_NAME, Nasty.NO_SUCH_PAGE])
    def test_a_check_that_is_answered_otherwise_needs_staff(self, site: TradingViewSite, nasty: Nasty) -> None:
        site.be(nasty)

        with pytest.raises(NeedsStaff):
            direct(site.url).check_session()

    @pytest.mark.parametrize("op", ["find_name", "grant", "revoke", "has_access", "list_holders"])
    def test_a_page_where_an_answer_was_expected_needs_staff(self, site: TradingViewSite, op: str) -> None:
        site.be(Nasty.NO_SUCH_PAGE)

        with pytest.raises(NeedsStaff):
            perform(direct(site.url), op)

    def test_a_session_that_dies_on_the_way_asks_for_no_more(self, site: TradingViewSite) -> None:
        site.be(None)
        site.be(Nasty.UNAUTHORISED)

        with pytest.raises(NeedsStaff):
            direct(site.url).grant("Trader", [ALPHA, RIDER, "PUB;third"])

        assert acts(site) == [Act.ADD, Act.ADD]
        assert set(site.held()) == {("trader", ALPHA)}


class TestWrites:
    def test_a_refused_script_is_told_and_the_others_go_on(self, site: TradingViewSite) -> None:
        site.be(Nasty.FAILURE, on=WRITES)

        answers = direct(site.url).grant("Trader", BOTH)

        assert answers == [ScriptAnswer(ALPHA, "refused (422)"), ScriptAnswer(RIDER)]
        assert acts(site) == [Act.ADD, Act.NAME, Act.ADD]

    def test_an_unknown_name_is_looked_up_once_and_asked_for_no_further(self, site: TradingViewSite) -> None:
        with pytest.raises(NeedsCustomer):
            direct(site.url).grant("unknown_trader", BOTH)

        assert acts(site) == [Act.ADD, Act.NAME]

    def test_every_script_refused_takes_one_look_at_the_name(self, site: TradingViewSite) -> None:
        site.be(Nasty.FAILURE, times=2, on=WRITES)

        assert [bool(answer.refused) for answer in direct(site.url).grant("Trader", BOTH)] == [True, True]
        assert acts(site) == [Act.ADD, Act.NAME, Act.ADD]

    def test_a_name_that_could_not_be_looked_up_is_no_verdict(self, site: TradingViewSite) -> None:
        site.be(Nasty.BROKEN, on=[Act.NAME])

        with pytest.raises(TryLater):
            direct(site.url).grant("unknown_trader", BOTH)

    def test_a_name_in_another_spelling_is_granted_in_the_right_one(self, site: TradingViewSite) -> None:
        site.is_strict_about_spelling = True

        answers = direct(site.url).grant("trader", BOTH)

        assert answers == [ScriptAnswer(ALPHA), ScriptAnswer(RIDER)]
        assert [seen.body["username_recip"] for seen in site.seen if seen.act is Act.ADD] == [
            "trader",
            "Trader",
            "Trader",
        ]

    def test_a_name_in_another_spelling_is_removed_in_the_right_one(self, site: TradingViewSite) -> None:
        site.give("Trader", ALPHA)
        site.is_strict_about_spelling = True

        assert direct(site.url).revoke("trader", [ALPHA]) == [ScriptAnswer(ALPHA)]

        assert site.held() == {}

    def test_who_is_on_the_list_for_life_stays_so(self, site: TradingViewSite) -> None:
        site.give("Trader", ALPHA)

        assert direct(site.url).grant("Trader", [ALPHA]) == [ScriptAnswer(ALPHA)]

        assert acts(site) == [Act.ADD, Act.CHANGE_END]
        assert site.held() == {("trader", ALPHA): None}

    def test_an_end_is_taken_away_without_removing_anybody(self, site: TradingViewSite) -> None:
        site.give("Trader", ALPHA, until=END)

        direct(site.url).grant("Trader", [ALPHA])

        assert acts(site) == [Act.ADD, Act.CHANGE_END]
        assert site.seen[1].body == {"pine_id": ALPHA, "username_recip": "Trader"}
        assert site.held() == {("trader", ALPHA): None}

    def test_an_end_that_could_not_be_taken_away_is_seen_by_reading(self, site: TradingViewSite) -> None:
        site.give("Trader", ALPHA, until=END)
        site.be(Nasty.FAILURE, on=[Act.CHANGE_END])
        gateway = direct(site.url)

        assert gateway.grant("Trader", [ALPHA]) == [ScriptAnswer(ALPHA)]

        assert gateway.has_access("Trader", [ALPHA]) == [AccessFact(ALPHA, has_access=True, expires_at=END)]

    def test_a_fault_while_an_end_is_taken_away_is_for_later(self, site: TradingViewSite) -> None:
        site.give("Trader", ALPHA, until=END)
        site.be(Nasty.BAD_GATEWAY, on=[Act.CHANGE_END])

        with pytest.raises(TryLater):
            direct(site.url).grant("Trader", [ALPHA])

    @pytest.mark.parametrize("nasty", [Nasty.EMPTY, Nasty.ECHO, Nasty.NOTHING_DONE])
    @pytest.mark.parametrize("op", ["grant", "revoke"])
    def test_a_200_is_only_a_claim(self, site: TradingViewSite, op: str, nasty: Nasty) -> None:
        if op == "revoke":
            site.give("Trader", ALPHA)
        before = site.held()
        site.be(nasty)

        assert getattr(direct(site.url), op)("Trader", [ALPHA]) == [ScriptAnswer(ALPHA)]

        assert site.held() == before

    def test_a_refused_removal_of_who_is_absent_is_quiet(self, site: TradingViewSite) -> None:
        site.refuses_the_absent = True
        site.give("Trader", RIDER)

        answers = direct(site.url).revoke("Trader", BOTH)

        assert answers == [ScriptAnswer(ALPHA), ScriptAnswer(RIDER)]
        assert acts(site) == [Act.REMOVE, Act.LIST, Act.REMOVE]

    def test_a_refused_removal_that_nobody_can_look_up_stays_refused(self, site: TradingViewSite) -> None:
        site.be(Nasty.FAILURE, times=2)

        assert direct(site.url).revoke("Trader", [ALPHA]) == [ScriptAnswer(ALPHA, "refused (422)")]

    def test_all_scripts_share_the_time_of_one_call(self, site: TradingViewSite) -> None:
        site.latency = 0.25
        scripts = [f"PUB;{number}" for number in range(6)]

        answers = direct(site.url, seconds=0.6).grant("Trader", scripts)

        assert answers == [ScriptAnswer("PUB;0"), ScriptAnswer("PUB;1")]
        assert len(site.seen) <= 3

    def test_not_even_one_script_in_that_time_is_for_later(self, site: TradingViewSite) -> None:
        site.latency = 0.4

        with pytest.raises(TryLater) as caught:
            direct(site.url, seconds=0.2).grant("Trader", [ALPHA, RIDER])

        assert caught.value.trouble is Trouble.TIMEOUT

    def test_a_fault_on_the_way_asks_for_no_more(self, site: TradingViewSite) -> None:
        site.be(None)
        site.be(Nasty.TOO_MANY)

        with pytest.raises(TryLater):
            direct(site.url).revoke("Trader", [ALPHA, RIDER, "PUB;third"])

        assert len(site.seen) == 2


class TestReading:
    def test_a_name_that_begins_like_another_is_not_the_other(self, site: TradingViewSite) -> None:
        site.give("Trader2", ALPHA)

        assert direct(site.url).has_access("Trader", [ALPHA]) == [AccessFact(ALPHA, has_access=False)]

    def test_an_end_that_has_passed_is_told_like_any_other(self, site: TradingViewSite) -> None:
        passed = datetime(2020, 1, 1, tzinfo=UTC)
        site.give("Trader", ALPHA, until=passed)

        assert direct(site.url).has_access("Trader", [ALPHA]) == [AccessFact(ALPHA, has_access=True, expires_at=passed)]

    def test_the_name_is_found_on_a_later_page(self, site: TradingViewSite) -> None:
        site.largest_page = 2
        for name in ("trader", *(f"trader{number}" for number in range(5))):
            site.give(name, ALPHA)

        assert direct(site.url).has_access("Trader", [ALPHA])[0].has_access
        assert acts(site) == [Act.LIST] * 3

    def test_a_script_that_cannot_be_listed_is_no_access_and_no_proof(self, site: TradingViewSite) -> None:
        site.be(Nasty.FAILURE)

        assert direct(site.url).has_access("Trader", BOTH) == [
            AccessFact(ALPHA, has_access=False, is_told=False),
            AccessFact(RIDER, has_access=False),
        ]

    def test_the_list_of_another_account_is_no_access_and_no_proof(self, site: TradingViewSite) -> None:
        site.give("Trader", ALPHA)
        site.be(Nasty.ANOTHER_LIST)

        assert direct(site.url).has_access("Trader", [ALPHA]) == [AccessFact(ALPHA, has_access=False, is_told=False)]

    @pytest.mark.parametrize("nasty", [Nasty.NO_RESULTS, Nasty.ODD_NEXT, Nasty.SAME_PAGE])
    def test_a_list_that_makes_no_sense_is_for_later(self, site: TradingViewSite, nasty: Nasty) -> None:
        site.be(nasty)

        with pytest.raises(TryLater):
            direct(site.url).has_access("Trader", [ALPHA])

    def test_all_scripts_share_the_time_of_one_call(self, site: TradingViewSite) -> None:
        site.latency = 0.25

        facts = direct(site.url, seconds=0.6).has_access("Trader", [f"PUB;{number}" for number in range(6)])

        assert facts == [AccessFact("PUB;0", has_access=False), AccessFact("PUB;1", has_access=False)]


class TestListing:
    @staticmethod
    def fill(site: TradingViewSite, holders: int, *, page: int = 4) -> set[str]:
        site.largest_page = page
        for number in range(holders):
            site.give(f"holder{number}", ALPHA)
        return {f"Holder{number}" for number in range(holders)}

    @pytest.mark.parametrize("holders", [0, 1, 3, 4, 5, 8, 21])
    def test_every_page_is_read(self, site: TradingViewSite, holders: int) -> None:
        names = self.fill(site, holders)

        listed = direct(site.url).list_holders(ALPHA)

        assert {holder.name for holder in listed} == names
        assert len(listed) == holders

    @pytest.mark.parametrize(
        "nasty",
        [
            Nasty.BROKEN,
            Nasty.TOO_MANY,
            Nasty.MALFORMED,
            Nasty.EMPTY,
            Nasty.HUGE,
            Nasty.DROP_AFTER,
            Nasty.NO_RESULTS,
            Nasty.ODD_NEXT,
            Nasty.SAME_PAGE,
            Nasty.FAILURE,
            Nasty.ODD_VALUES,
            Nasty.OTHER_SHAPE,
        ],
    )
    @pytest.mark.parametrize("number", [0, 1, 2])
    def test_a_fault_on_any_page_leaves_no_list(self, site: TradingViewSite, nasty: Nasty, number: int) -> None:
        self.fill(site, 12)
        if number:
            site.be(None, times=number)
        site.be(nasty)

        with pytest.raises(TryLater):
            direct(site.url).list_holders(ALPHA)

    def test_a_session_that_dies_on_the_way_leaves_no_list(self, site: TradingViewSite) -> None:
        self.fill(site, 12)
        site.be(None)
        site.be(Nasty.SIGN_IN)

        with pytest.raises(NeedsStaff):
            direct(site.url).list_holders(ALPHA)

    def test_a_list_without_an_end_is_given_up(self, site: TradingViewSite, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(live_direct, "MOST_PAGES", 3)
        self.fill(site, 13)

        with pytest.raises(TryLater):
            direct(site.url).list_holders(ALPHA)

        assert len(site.seen) == 3

    @pytest.mark.parametrize("holders", [0, 1, 29, 30, 31, 60, 61])
    def test_a_last_page_that_says_nothing_of_a_next_one_is_understood(
        self, site: TradingViewSite, holders: int
    ) -> None:
        names = self.fill(site, holders, page=30)
        site.ends_in_silence = True

        assert {holder.name for holder in direct(site.url).list_holders(ALPHA)} == names

    @pytest.mark.parametrize("number", [0, 1])
    def test_a_full_page_that_says_nothing_of_a_next_one_is_doubted(self, site: TradingViewSite, number: int) -> None:
        names = self.fill(site, 61, page=30)
        if number:
            site.be(None, times=number)
        site.be(Nasty.NO_NEXT)

        assert {holder.name for holder in direct(site.url).list_holders(ALPHA)} == names

    @pytest.mark.parametrize("holders", [30, 31, 60])
    def test_a_full_page_that_never_says_whether_more_follow_leaves_no_list(
        self, site: TradingViewSite, holders: int
    ) -> None:
        self.fill(site, holders, page=30)
        site.be(Nasty.NO_NEXT, times=9)

        with pytest.raises(TryLater):
            direct(site.url).list_holders(ALPHA)

    def test_a_list_that_changes_while_it_is_read_leaves_no_list(
        self, site: TradingViewSite, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.fill(site, 8)
        rows = site._rows

        def shifted(script: str, begins: str, nasty: Nasty | None) -> list[dict[str, object]]:
            first, *others = rows(script, begins, nasty)
            return [first, *others, first | {"expiration": END.isoformat()}]

        monkeypatch.setattr(site, "_rows", shifted)

        with pytest.raises(TryLater):
            direct(site.url).list_holders(ALPHA)

    def test_the_next_page_is_asked_for_at_our_address_whatever_it_names(
        self, site: TradingViewSite, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.fill(site, 6)
        path_to = site._path_to
        monkeypatch.setattr(site, "_path_to", lambda rest, size: f"http://evil.example{path_to(rest, size)}")

        assert len(direct(site.url).list_holders(ALPHA)) == 6

        assert {seen.path for seen in site.seen} == {"/pine_perm/list_users/"}

    def test_ends_are_told(self, site: TradingViewSite) -> None:
        site.give("Trader", ALPHA, until=END)

        assert direct(site.url).list_holders(ALPHA) == [Holder("Trader", END)]

    def test_each_page_has_the_time_of_one_call(self, site: TradingViewSite) -> None:
        self.fill(site, 12)
        site.latency = 0.4

        assert len(direct(site.url, seconds=1).list_holders(ALPHA)) == 12

    def test_a_moment_without_a_zone_is_one_in_utc(self, site: TradingViewSite) -> None:
        site.give("Trader", ALPHA, until=END.replace(tzinfo=None))

        assert direct(site.url).list_holders(ALPHA) == [Holder("Trader", END)]

    def test_another_zone_is_the_same_moment(self, site: TradingViewSite) -> None:
        site.give("Trader", ALPHA, until=END.astimezone(timezone(timedelta(hours=-5))))

        (holder,) = direct(site.url).list_holders(ALPHA)

        assert holder.expires_at is not None
        assert (holder.expires_at, holder.expires_at.utcoffset()) == (END, timedelta(0))
