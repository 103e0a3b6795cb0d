"""The customer's own page: how often it asks again, what it says of each strategy, and *Recheck*."""

from __future__ import annotations

from datetime import timedelta
from itertools import accumulate

import pytest
from bs4 import BeautifulSoup
from flask_limiter import RequestLimit
from flask_limiter.util import get_qualified_name

from sts_app.catalog.models import Mode, Plan
from sts_app.core.db import db as database
from sts_app.core.security import limiter
from sts_app.pages.dashboard import poll_after, reload_after
from sts_app.provisioning import control, simulated
from sts_app.provisioning.rules import Switch
from sts_app.provisioning.simulated import Fault, misbehave
from tests.builders import (
    NOON,
    alice,
    bob,
    cashier,
    enter,
    entitled,
    grants,
    in_a_transaction,
    lifetime,
    named,
    open_page,
    rings,
    stopped_clock,
    work,
)
from tests.builders import vendor as tradingview


@pytest.fixture(autouse=True)
def clock():
    with stopped_clock() as traveller:
        yield traveller


@pytest.fixture
def vendor(db):
    return tradingview()


@pytest.fixture
def owner(vendor, clock):
    user = named(alice(), "Anna")
    entitled(user, lifetime(), "purchase:1")
    work("provisioning")
    return user


@pytest.fixture
def visitor(client, owner):
    enter(client, owner)
    return client


def page_of(visitor) -> BeautifulSoup:
    return BeautifulSoup(visitor.get("/dashboard").text, "html.parser")


def text_of(element) -> str:
    return " ".join(element.text.split())


def test_a_waiting_page_asks_often_at_first_then_ever_more_seldom_and_never_less_than_once_a_minute():
    waits = [poll_after(looks) for looks in range(1001)]

    assert waits[:15] == [2] * 15
    assert waits == sorted(waits)
    assert waits[-1] == 60


def test_a_page_left_open_for_an_hour_asks_less_than_a_hundred_times():
    assert sum(moment <= 3600 for moment in accumulate(map(poll_after, range(1001)))) < 100


class TestWithoutScript:
    @pytest.mark.parametrize(
        ("news_in", "seconds"),
        [
            ([], 60),
            ([None, None], 60),
            ([0], 5),
            ([None, -30, 600], 5),
            ([30], 35),
            ([600], 60),
            ([-300], 60),
            ([-300, 20], 25),
        ],
    )
    def test_a_page_loads_itself_again_when_there_can_be_news_and_else_once_a_minute(self, news_in, seconds):
        moments = [None if each is None else NOON + timedelta(seconds=each) for each in news_in]

        assert reload_after(moments, NOON) == seconds

    def test_what_a_person_has_shuts_nobodys_history_every_few_seconds(self, client, vendor):
        in_a_transaction(lambda: control.set_switch(Switch.MANUAL, actor="user:7", because="a test"))
        self.buy(client)
        assert self.reloads(client) == "5"

        work("provisioning")
        assert self.reloads(client) == "60"

    def test_between_two_tries_the_page_waits_for_the_next_one(self, client, vendor):
        misbehave(vendor, Fault.FAIL)
        self.buy(client)
        work("provisioning")

        assert self.reloads(client) == "35"

    def test_what_has_been_due_for_long_is_not_looked_for_every_few_seconds(self, client, vendor, clock):
        self.buy(client)
        clock.shift(timedelta(minutes=5))

        assert self.reloads(client) == "60"

    def test_nothing_moves_and_the_page_stays(self, visitor):
        assert page_of(visitor).find("meta", {"http-equiv": "refresh"}) is None

    def buy(self, client) -> None:
        user = named(alice(), "Anna")
        entitled(user, lifetime(), "purchase:1")
        enter(client, user)

    def reloads(self, client) -> str:
        return BeautifulSoup(client.get("/dashboard").text, "html.parser").find("meta", {"http-equiv": "refresh"})[
            "content"
        ]


class TestTheRows:
    def test_each_says_what_stands_and_when_it_was_read(self, visitor):
        row = page_of(visitor).find("th", string=lambda text: text and "NQ Power Hour" in text) or page_of(
            visitor
        ).find("a", string="NQ Power Hour").find_parent("tr")

        assert (
            "TradingView shows this strategy on your account. Read back from TradingView 21 Nov 2026, 12:00 UTC."
            in text_of(row.find_parent("tr") or row)
        )

    def test_each_has_its_history_to_unfold(self, visitor):
        [history, *others] = page_of(visitor).find_all("details")

        assert len(others) == 5
        assert text_of(history.summary) == "History of NQ Momentum Alpha"
        assert [text_of(line) for line in history.find_all("li")] == [
            "21 Nov 2026, 12:00 UTC TradingView showed it on Anna.",
            "21 Nov 2026, 12:00 UTC Your payment arrived: it was to be given to Anna.",
        ]

    def test_news_are_listed_in_the_same_history_so_that_it_keeps_the_focus_and_stays_open(
        self, visitor, vendor, clock
    ):
        def ids_and_news() -> tuple[str, str, str]:
            history = page_of(visitor).find("details")
            return history["id"], history.summary["id"], text_of(history.li)

        details, summary, news = ids_and_news()
        assert news == "21 Nov 2026, 12:00 UTC TradingView showed it on Anna."
        clock.shift(timedelta(minutes=1))
        visitor.post("/dashboard/recheck")
        work("provisioning")

        news = (
            "First 21 Nov 2026, 12:00 UTC, last 21 Nov 2026, 12:01 UTC TradingView showed it on Anna, 2 times in a row."
        )
        assert ids_and_news() == (details, summary, news)

    def test_a_history_has_no_numbers_because_it_begins_with_its_end(self, visitor):
        assert not page_of(visitor).find("details").find("ol")

    def test_who_gave_no_name_is_asked_for_it(self, client, db, vendor):
        user = bob()
        entitled(user, lifetime(), "gift:1")
        enter(client, user)
        page = page_of(client)

        assert "We do not know your TradingView name" in page.main.text
        assert page.main.find("a", href="/onboarding", string=lambda text: "Enter your TradingView name" in text)


class TestPurchases:
    """What became of the money, and what can be done about it."""

    @pytest.fixture
    def till(self, app, vendor):
        return cashier(rings(app.test_client()))

    @pytest.fixture
    def buyer(self, client, till):
        user = named(alice(), "Anna")
        enter(client, user)
        return user

    @pytest.fixture
    def bought(self, buyer, till):
        return self.buy(till, buyer, lifetime())

    @pytest.fixture
    def monthly(self, db):
        made = monthly_plan()
        db.session.flush()
        return made

    def buy(self, till, user, plan):
        purchase = open_page(user, plan)
        till.pay(purchase.session_id)
        work()
        return purchase

    def section(self, client, name="purchases"):
        return page_of(client).find("section", {"aria-labelledby": f"{name}-title"})

    def test_a_paid_one_has_a_receipt_an_invoice_and_the_way_out_of_it(self, client, bought):
        links = {link["href"]: text_of(link) for link in self.section(client).find_all("a")}

        assert links == {
            f"/purchases/{bought.ref}/receipt": f"Receipt of purchase {bought.ref}",
            f"/purchases/{bought.ref}/invoice": f"Invoice of purchase {bought.ref}",
            f"/purchases/{bought.ref}/withdraw": f"Withdraw from contract here, purchase {bought.ref}",
            f"/dashboard/support/new?purchase={bought.ref}": f"Get help with purchase {bought.ref}",
        }

    def test_what_was_not_paid_has_none_of_them(self, client, buyer, till):
        open_page(buyer, lifetime())

        section = self.section(client)
        links = [link["href"] for link in section.find_all("a")]
        assert links[0] == "/checkout?plan=lifetime"
        assert not any("/purchases/" in link for link in links)
        assert not section.find("form")

    def test_the_way_out_is_shown_for_the_fourteen_days_of_the_law(self, client, buyer, bought, clock):
        clock.shift(timedelta(days=14))
        enter(client, buyer)

        assert "Withdraw from contract here" not in self.section(client).text
        assert "Receipt" in self.section(client).text

    def test_a_withdrawal_shows_how_it_stands(self, client, buyer, bought):
        client.post(f"/purchases/{bought.ref}/withdraw", data={"name": "Alice"})

        section = self.section(client)
        assert "You withdrew on 21 Nov 2026, 12:00 UTC. Our staff look at it" in text_of(section)
        assert "Withdraw from contract here" not in section.text
        assert section.find("a", href=f"/purchases/{bought.ref}/withdraw")

    def test_a_refund_shows_where_it_is_and_what_it_means(self, client, bought, till):
        till.give_back(bought.session_id, 2000, status="pending")
        work()
        assert "A refund of $20.00 is on its way." in text_of(self.section(client))
        assert "The access that it gives goes on." in text_of(self.section(client))

        till.give_back(bought.session_id, 7900)
        work()
        assert "A refund of $79.00 was paid out." in text_of(self.section(client))
        assert "This purchase gives no access any more." in text_of(self.section(client))

    def test_a_dispute_shows_what_it_means(self, client, bought, till):
        till.open_dispute(bought.session_id)
        work()

        said = text_of(self.section(client))
        assert "Your bank told us that this payment is disputed." in said
        assert "The access that it gives is suspended until the bank has decided" in said

    def test_a_second_payment_can_be_had_back_by_a_press(self, client, buyer, till):
        first = open_page(buyer, lifetime())
        till.expire(first.session_id)
        work("billing")
        second = open_page(buyer, lifetime())
        for session_id in (till.recover(first.session_id), second.session_id):
            till.pay(session_id)
            work()
        [notice, link] = [a for a in page_of(client).main.find_all("a") if "Have it back" in a.text]

        assert notice.find_parent(class_="notice").p.text == "You have paid twice for the same thing"
        assert notice["href"] == link["href"] == f"/purchases/{second.ref}/have-back"
        form = BeautifulSoup(client.get(notice["href"]).text, "html.parser").main.form
        assert text_of(form.button) == "Have $99.00 back"
        client.post(form["action"])
        assert "Have it back" not in page_of(client).main.text
        assert "A refund of $99.00 is being sent to your bank." in text_of(self.section(client))

    def test_stripes_page_is_offered_to_buyers_alone(self, app, client, bought):
        visitor = app.test_client()
        enter(visitor, bob())

        assert self.section(client).find("form", action="/billing/portal")
        assert not page_of(visitor).find("form", action="/billing/portal")

    def test_who_left_the_page_of_another_plan_goes_on_with_that_one(self, client, buyer, till, monthly):
        open_page(buyer, monthly)

        links = [link["href"] for link in page_of(client).main.find_all("a") if "Go on paying" in link.text]
        assert links == ["/checkout?plan=monthly"] * 2

    def test_who_has_no_subscription_sees_nothing_of_subscriptions(self, client, bought):
        assert self.section(client, "subscriptions") is None

    def test_a_subscription_says_when_it_renews_and_leads_to_where_it_is_ended(self, client, buyer, till, monthly):
        self.buy(till, buyer, monthly)

        section = self.section(client, "subscriptions")
        assert "Monthly access Running It renews on 21 Dec 2026, 12:00 UTC: $19.00 every month." in text_of(section)
        assert text_of(section.find("form", action="/billing/portal").button) == "Manage the subscription"

    def test_a_subscriber_reads_the_price_that_they_pay_and_not_that_of_today(self, client, buyer, till, monthly):
        self.buy(till, buyer, monthly)
        monthly.price_cents = 2900

        assert "$19.00 every month" in text_of(self.section(client, "subscriptions"))

    def test_a_subscription_that_is_to_end_says_when(self, client, buyer, till, monthly):
        self.buy(till, buyer, monthly)
        till.cancel_at_period_end(till.subscriptions()[0].facts.id)
        work()

        said = text_of(self.section(client, "subscriptions"))
        assert "It ends on 21 Dec 2026, 12:00 UTC, with your access, and is not charged again." in said

    def test_a_renewal_that_failed_says_until_when_access_goes_on(self, client, buyer, till, monthly):
        self.buy(till, buyer, monthly)
        till.renew(till.subscriptions()[0].facts.id, succeeded=False)
        work()

        section = self.section(client, "subscriptions")
        assert "Renewal failed" in section.text
        assert "Your access goes on until 28 Nov 2026, 12:00 UTC." in text_of(section)

    def test_each_says_what_was_bought_and_a_renewal_until_when_it_pays(self, client, buyer, till, monthly, clock):
        self.buy(till, buyer, monthly)
        clock.shift(timedelta(days=30))
        till.renew(till.subscriptions()[0].facts.id)
        work()
        enter(client, buyer)

        renewal, first = self.section(client).find_all("tr")[1:]
        assert "Monthly access, renewal" in text_of(renewal)
        assert "Paid until " in text_of(renewal)
        assert "renewal" not in text_of(first)

    def test_a_dispute_is_the_state_of_its_purchase_and_so_is_its_loss(self, client, bought, till):
        dispute_id = till.open_dispute(bought.session_id)
        work()
        badge = self.section(client).find(class_="badge")
        assert text_of(badge) == "Disputed"

        till.move_dispute(dispute_id, "lost")
        work()
        assert text_of(self.section(client).find(class_="badge")) == "Taken back by the bank"

    def test_what_ran_out_says_why_and_can_be_tried_again(self, client, buyer, till):
        till.expire(open_page(buyer, lifetime()).session_id)
        work()

        section = self.section(client)
        assert "Its payment page ran out before it was paid, so nothing was charged. Try again" in text_of(section)
        assert section.find("a", string="Try again")["href"] == "/checkout?plan=lifetime"

    def test_what_the_bank_refused_in_the_end_says_so(self, client, buyer, till):
        purchase = open_page(buyer, lifetime())
        till.pay_later(purchase.session_id)
        till.settle(purchase.session_id, succeeded=False)
        work()

        assert "The bank did not make the payment, so nothing was charged. Try again" in text_of(self.section(client))

    def test_nobody_is_asked_to_try_again_what_they_have_by_now(self, client, buyer, till):
        till.expire(open_page(buyer, lifetime()).session_id)
        work()
        self.buy(till, buyer, lifetime())

        assert "Try again" not in self.section(client).text

    def test_what_cost_nothing_leads_to_no_papers(self, client, buyer, till):
        purchase = open_page(buyer, lifetime())
        till.apply_promotion(purchase.session_id, "FREE100")
        till.pay(purchase.session_id)
        work()

        section = self.section(client)
        assert "It cost nothing, so there is neither a receipt nor an invoice." in text_of(section)
        assert not section.find("a", string="Receipt")
        assert f"/purchases/{purchase.ref}/receipt" not in str(section)

    def test_a_subscription_that_is_to_end_wears_its_date(self, client, buyer, till, monthly):
        self.buy(till, buyer, monthly)
        till.cancel_at_period_end(till.subscriptions()[0].facts.id)
        work()

        assert text_of(self.section(client, "subscriptions").find(class_="badge")) == "Ends on 21 Dec 2026"

    def test_one_that_has_ended_can_be_begun_again(self, client, buyer, till, monthly):
        self.buy(till, buyer, monthly)
        till.end_now(till.subscriptions()[0].facts.id)
        work()

        section = self.section(client, "subscriptions")
        assert section.find("a", href="/checkout?plan=monthly")

    def test_an_unpaid_renewal_is_why_access_rests_and_leads_to_where_it_is_paid(self, client, buyer, till, monthly):
        lifetime()
        self.buy(till, buyer, monthly)
        subscription = till.subscriptions()[0].facts.id
        till.renew(subscription, succeeded=False)
        till.give_up(subscription)
        work()

        page = page_of(client)
        assert "because a renewal of your subscription was not paid" in text_of(page.find(id="access"))
        assert page.find(id="access").find("a", href="#subscriptions-title")
        button = self.section(client, "subscriptions").find("form", action="/billing/portal").button
        assert text_of(button) == "Pay the renewal: manage the subscription"


def monthly_plan() -> Plan:
    """A plan besides the lifetime plan, covering the same."""
    made = Plan(
        slug="monthly",
        name="Monthly access",
        price_cents=1900,
        stripe_price_id="price_monthly",
        mode=Mode.SUBSCRIPTION,
        interval="month",
        covers_all=True,
        position=1,
    )
    database.session.add(made)
    return made


class TestRecheck:
    def test_makes_everything_due_and_says_what_happens(self, visitor, owner):
        answer = visitor.post("/dashboard/recheck", follow_redirects=True)

        assert "We are asking TradingView again. This page shows what it says." in answer.text
        assert {grant.next_attempt_at is not None for grant in grants()} == {True}

    def test_has_the_page_look_again_until_it_is_read(self, visitor):
        visitor.post("/dashboard/recheck")
        assert "hx-get" in page_of(visitor).find(id="standing").decode()

        work("provisioning")
        assert "hx-get" not in page_of(visitor).find(id="standing").decode()

    def test_finds_what_tradingview_lost(self, visitor, vendor):
        for held in simulated.holdings(vendor):
            simulated.take(vendor, held.username, held.script_id)
        visitor.post("/dashboard/recheck")
        misbehave(vendor, Fault.FAIL)
        work("provisioning")

        assert "TradingView did not answer properly." in page_of(visitor).main.text

    def test_does_no_harm_however_often_it_is_pressed(self, visitor):
        for _ in range(3):
            visitor.post("/dashboard/recheck")
            work("provisioning")

        assert {grant.state for grant in grants()} == {"verified"}

    def test_says_what_is_true_while_tradingview_does_not_answer(self, visitor):
        in_a_transaction(lambda: [control.note_failure("HTTP 502") for _ in range(control.FAILURES_OPEN)])

        answer = visitor.post("/dashboard/recheck", follow_redirects=True)

        assert "TradingView does not answer at the moment." in answer.text

    def test_is_for_the_one_who_presses_alone(self, visitor, owner, clock):
        entitled(named(bob(), "Bobby"), lifetime(), "purchase:2")
        work("provisioning")

        visitor.post("/dashboard/recheck")

        assert {grant.name_key for grant in grants() if grant.next_attempt_at is not None} == {"anna"}

    def test_is_shut_to_strangers_and_to_other_pages(self, app, visitor):
        assert visitor.post("/dashboard/recheck", csrf=False).status_code == 400
        assert app.test_client().post("/dashboard/recheck").location.startswith("/sign-in")

    def test_too_often_leads_back_to_the_dashboard(self, app):
        [limit] = limiter.limit_manager.decorated_limits(get_qualified_name(app.view_functions["pages.recheck"]))

        with app.test_request_context():
            answer = limit.on_breach(RequestLimit(limiter, limit.limit, [], True, False))

        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "60")
        back = BeautifulSoup(answer.get_data(as_text=True), "html.parser").find("a", string="Back to the dashboard")
        assert back["href"] == "/dashboard"

    def test_says_what_tradingview_answered_once_it_was_read(self, visitor, clock):
        pressed = visitor.post("/dashboard/recheck")
        clock.shift(timedelta(seconds=5))
        work("provisioning")

        page = BeautifulSoup(visitor.get(pressed.location).text, "html.parser")
        assert text_of(page.find(id="rechecked")) == "TradingView was asked again, and shows all of them."

    def test_never_says_that_tradingview_was_asked_when_it_was_not(self, visitor, clock):
        in_a_transaction(lambda: [control.note_failure("HTTP 502") for _ in range(control.FAILURES_OPEN)])
        pressed = visitor.post("/dashboard/recheck")
        clock.shift(timedelta(seconds=5))

        told = text_of(BeautifulSoup(visitor.get(pressed.location).text, "html.parser").find(id="rechecked"))
        assert "was asked" not in told
        assert "TradingView does not answer at the moment." in told

    def test_by_script_answers_in_place_and_goes_on_looking(self, visitor):
        answer = visitor.post("/dashboard/recheck", headers={"HX-Request": "true"})

        piece = BeautifulSoup(answer.text, "html.parser")
        assert "<html" not in answer.text
        assert "We are asking TradingView again." in text_of(piece.find(id="rechecked"))
        assert "asked=" in piece.find(attrs={"hx-get": True})["hx-get"]

    @pytest.mark.parametrize("asked", ["tomorrow", "-1", "0", "99999999999", "1"])
    def test_a_time_that_cannot_be_is_no_time(self, visitor, asked):
        page = BeautifulSoup(visitor.get(f"/dashboard?asked={asked}").text, "html.parser")

        assert "Safe to press" in page.find(id="rechecked").text
