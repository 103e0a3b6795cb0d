"""A week at Stripe, made from a seed: what buyers, banks, Stripe's dashboard and the store's own desk do, hour by hour.

The same seed tells the same story, however late and in whatever order the store hears of it. Some deeds of a store do
depend on when it hears of something, and that is no fault of it: which of two payments for the same thing it takes for
the second one, and whether it ends a subscription before or after the next month is charged. So between two mornings on
which the store has heard of everything (a *stretch*) a person who has something already either pays again or has money
moved, and nothing more happens to a subscription that the store is about to end.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

import sqlalchemy as sa

from sts_app.accounts.models import User
from sts_app.billing import evidence, refunds
from sts_app.billing.gateway import DisputeStatus, RefundStatus
from sts_app.billing.models import Dispute, Purchase
from sts_app.billing.rules import ANSWERABLE, PurchaseStatus
from sts_app.billing.services import checkout_request, remember_checkout
from sts_app.billing.simulated import SimulatedPayments
from sts_app.billing.simulated_stories import NEXT_DISPUTE, Payment
from sts_app.catalog.models import Plan
from sts_app.core import clock
from sts_app.core.db import db, transaction
from sts_app.core.errors import Refusal
from tests import builders

DAYS = 7
MONDAY = datetime(2027, 3, 1, tzinfo=UTC)
PEOPLE = {"anna": "Anna", "bert": "Bertie"}
LIFETIME, SINGLE, MONTHLY = "lifetime", "single", "monthly"
WANTED = (LIFETIME, MONTHLY, MONTHLY, SINGLE)
# An open page is paid by card, with a promotion, or for nothing.
CODES = {"": 5.0, "SAVE20": 0.8, "FREE100": 0.6}
SENT: tuple[RefundStatus, ...] = ("succeeded", "pending")
BEGUN: tuple[DisputeStatus, ...] = ("needs_response", "warning_needs_response")
PART = 700
STAFF = "staff:sam@staff.example"

Deed = Callable[[], object]
Option = tuple[float, str, Deed]


@dataclass
class Page:
    """A payment page. `state` is open, processing, paid, failed or expired; `sub` is the subscription it began."""

    name: str
    person: str
    slug: str
    session_id: str
    state: str = "open"
    sub: Sub | None = None
    recovered: list[Page] = field(default_factory=list)

    @property
    def may_recover(self) -> bool:
        return self.state == "expired" and all(each.state == "expired" for each in self.recovered)


@dataclass(eq=False)
class Paid:
    """A payment that came in. What was free has no `intent`; `is_gone` is what the last morning knew."""

    name: str
    person: str
    slug: str
    intent: str | None
    sub: Sub | None = None
    is_gone: bool = False


@dataclass(eq=False)
class Sub:
    """A subscription: its paid months, latest last, and its unpaid invoices. The store ends one that `is_doomed`."""

    name: str
    person: str
    id: str
    months: list[Paid] = field(default_factory=list)
    due: list[str] = field(default_factory=list)
    renewals: int = 0
    is_to_end: bool = False
    is_late: bool = False
    is_over: bool = False
    is_doomed: bool = False


@dataclass
class Lane:
    """What a person's stretch is about.

    A `first` payment and what becomes of it (`focus`), a subscription begun by a `slow` bank, `paying` again,
    `moving` money, or nothing yet.
    """

    kind: str = ""
    focus: Paid | None = None
    is_touched: bool = False


class Story:
    """The week of one seed. Whatever does something runs in an app context, with the clock put right before."""

    def __init__(self, seed: int, till: SimulatedPayments) -> None:
        self.till = till
        self.luck = random.Random(f"week {seed}")
        self.log: list[str] = []
        self.names: dict[str, str] = {}
        self.pages: list[Page] = []
        self.payments: list[Paid] = []
        self.subs: list[Sub] = []
        self.lanes: dict[str, Lane] = {}
        # Paid for the same thing within one stretch: either of them may count as the second.
        self.twins: set[str] = set()
        # On the other mornings the store has not heard of everything, and leaves its desk alone.
        self.hears_all = [day == 0 or self.luck.random() < 0.7 for day in range(DAYS)]
        self.hours = [self._hours(day) for day in range(DAYS)]

    def begin(self) -> None:
        """People sign up."""
        with transaction():
            for person, spelling in PEOPLE.items():
                builders.named(builders.person(f"{person}@customers.example", name=person.title()), spelling)

    def _hours(self, day: int) -> list[datetime]:
        """When something happens on a day: once or twice, and sometimes twice within minutes."""
        found: list[datetime] = []
        for _ in range(self.luck.randint(1, 2)):
            at = MONDAY + timedelta(days=day, hours=8, seconds=self.luck.randrange(13 * 3600))
            for _ in range(self.luck.randint(1, 2)):
                if all(abs(at - other) > timedelta(seconds=20) for other in found):
                    found.append(at)
                at += timedelta(seconds=self.luck.randint(21, 100))
        return sorted(found)

    # What happens at Stripe.

    def go_on(self) -> None:
        """Something happens, of what may happen now."""
        options = list(self._options())
        [(_, what, deed)] = self.luck.choices(options, weights=[weight for weight, _, _ in options])
        self._say(what)
        deed()

    def close_pages(self) -> None:
        """In the evening what was left open runs out."""
        for page in self.pages:
            if page.state == "open":
                self._expire(page)

    def _options(self) -> Iterator[Option]:
        for page in list(self.pages):
            yield from self._of_page(page)
        for paid in list(self.payments):
            if paid.intent is not None and self._may_touch(paid):
                yield from self._of_money(paid, self.till.payment(paid.intent).payment)
        for sub in self.subs:
            if sub.months and not sub.is_over and self._may_touch(sub.months[0]):
                yield from self._of_months(sub)
        for person in PEOPLE:
            yield 0.1, f"{person} has another address", partial(self._move, person)

    def _of_page(self, page: Page) -> Iterator[Option]:
        if page.state == "open":
            if self._may_pay(page):
                for code, weight in CODES.items():
                    yield weight, f"{page.name} is paid {code}", partial(self._pay, page, code)
            if self._may_pay(page) or page.slug != MONTHLY:
                yield 1.5, f"{page.name} is left to a slow bank", partial(self._pay_slowly, page)
            yield 1, f"{page.name} is declined", partial(self.till.decline, page.session_id)
            yield 0.8, f"{page.name} expires", partial(self._expire, page)
        elif page.state == "processing":
            if self._may_pay(page):
                yield 2, f"{page.name} was paid by the slow bank", partial(self._settle, page, True)
            yield 1, f"{page.name} was not paid by the slow bank", partial(self._settle, page, False)
        elif page.may_recover:
            yield 0.5, f"{page.name} is opened again", partial(self._recover, page)

    def _of_money(self, paid: Paid, payment: Payment) -> Iterator[Option]:
        till, intent = self.till, payment.intent
        # What goes back of a month that another one has followed must not end what runs.
        often = 3 if paid.sub is not None and paid.sub.months[-1] is not paid else 1

        def money(weight: float, what: str, deed: Deed) -> Option:
            return weight, f"{paid.name}: {what}", partial(self._touch, paid, deed)

        for status in SENT if payment.left else ():
            yield money(0.4 * often, f"refunded, {status}", partial(till.give_back, intent, status=status))
            if payment.left > PART:
                yield money(0.5, f"a part back, {status}", partial(till.give_back, intent, PART, status=status))
        for refund, ways in till.payment(intent).refunds:
            for way in ways:
                word = f"refund of {refund.amount} becomes {way}"
                yield money(0.3 if way == "failed" else 0.6, word, partial(till.move_refund, refund.id, way))
        if not any(NEXT_DISPUTE[dispute.status] for dispute in payment.disputes):
            for begun in BEGUN:
                for cents in (payment.amount, payment.amount // 2):
                    yield money(0.2, f"{begun} about {cents}", partial(till.open_dispute, intent, begun, cents))
        for dispute in payment.disputes:
            for word in NEXT_DISPUTE[dispute.status]:
                what = f"dispute about {dispute.amount} becomes {word}"
                yield money(0.5, what, partial(till.move_dispute, dispute.id, word))

    def _of_months(self, sub: Sub) -> Iterator[Option]:
        def month(weight: float, what: str, deed: Deed) -> Option:
            return weight, f"{sub.name} {what}", partial(self._touch, sub.months[0], deed)

        if sub.is_to_end:
            yield month(0.8, "reaches its end", partial(self._end, sub, self.till.reach_the_end))
        else:
            yield month(1.5, "is renewed", partial(self._renew, sub, True))
            yield month(0.8, "is not renewed", partial(self._renew, sub, False))
        for invoice_id in sub.due:
            name = self.names[invoice_id]
            yield month(1.2, f"is paid late: {name}", partial(self._pay_late, sub, invoice_id, True))
            yield month(0.4, f"is refused again: {name}", partial(self._pay_late, sub, invoice_id, False))
        if sub.is_late:
            yield month(0.6, "is given up", partial(self.till.give_up, sub.id))
        word = "is to go on" if sub.is_to_end else "is to end"
        yield month(0.5, word, partial(self._set_end, sub, not sub.is_to_end))
        yield month(0.25, "ends at once", partial(self._end, sub, self.till.end_now))

    def _pay(self, page: Page, code: str) -> None:
        if code:
            self.till.apply_promotion(page.session_id, code)
        self.till.pay(page.session_id)
        self._came_in(page)

    def _pay_slowly(self, page: Page) -> None:
        self.till.pay_later(page.session_id)
        page.state = "processing"
        if page.slug == MONTHLY:
            self._subscribe(page)
            self._lane(page.person).kind = "slow"

    def _settle(self, page: Page, succeeded: bool) -> None:
        self.till.settle(page.session_id, succeeded)
        page.state = "failed"
        if succeeded:
            self._came_in(page)

    def _expire(self, page: Page) -> None:
        self.till.expire(page.session_id)
        page.state = "expired"

    def _recover(self, page: Page) -> None:
        name = f"{page.name}/{len(page.recovered) + 1}"
        page.recovered.append(self._page(name, page.person, page.slug, self.till.recover(page.session_id)))

    def _came_in(self, page: Page) -> None:
        page.state = "paid"
        if page.slug == MONTHLY:
            self._subscribe(page)
        paid = Paid(page.name, page.person, page.slug, self.till.look_up(page.session_id).intent_id, page.sub)
        lane = self._lane(page.person)
        if lane.focus is not None:
            self.twins |= {lane.focus.name, paid.name}
        has_others = any(each.person == page.person and not each.is_gone for each in self.payments)
        lane.kind, lane.focus = ("paying", None) if has_others else ("first", paid)
        self._keep(paid)

    def _keep(self, paid: Paid) -> None:
        self.payments.append(paid)
        if paid.sub is not None:
            paid.sub.months.append(paid)

    def _subscribe(self, page: Page) -> None:
        if page.sub is None:
            record = self.till.store.get("session", page.session_id) or {}
            page.sub = Sub(f"sub of {page.name}", page.person, record["subscription"])
            self.names[page.sub.id] = page.sub.name
            self.subs.append(page.sub)

    def _renew(self, sub: Sub, succeeded: bool) -> None:
        sub.renewals += 1
        invoice_id = self.till.renew(sub.id, succeeded)
        self.names[invoice_id] = f"{sub.name}, renewal {sub.renewals}"
        self.names[self._intent_of(invoice_id)] = f"intent of {self.names[invoice_id]}"
        sub.due.append(invoice_id)
        self._tried(sub, invoice_id, succeeded)

    def _pay_late(self, sub: Sub, invoice_id: str, succeeded: bool) -> None:
        self.till.pay_invoice(invoice_id, succeeded)
        self._tried(sub, invoice_id, succeeded)

    def _tried(self, sub: Sub, invoice_id: str, succeeded: bool) -> None:
        if succeeded:
            sub.due.remove(invoice_id)
            self._keep(Paid(self.names[invoice_id], sub.person, MONTHLY, self._intent_of(invoice_id), sub))
        sub.is_late = self.till.subscription(sub.id).facts.status in ("past_due", "unpaid")

    def _intent_of(self, invoice_id: str) -> str:
        payment = self.till.invoice(invoice_id).payment
        assert payment is not None, "a renewal is never free"
        return payment.intent

    def _set_end(self, sub: Sub, on: bool) -> None:
        self.till.cancel_at_period_end(sub.id, on)
        sub.is_to_end = on

    def _end(self, sub: Sub, how: Callable[[str], None]) -> None:
        how(sub.id)
        sub.is_over = True

    def _move(self, person: str) -> None:
        for known in self.till.customers():
            if known["name"] == person.title():
                self.till.change_customer(known["id"], email=f"{person}-{len(self.log)}@customers.example")

    # What may happen beside what, within a stretch.

    def _lane(self, person: str) -> Lane:
        return self.lanes.setdefault(person, Lane())

    def _may_pay(self, page: Page) -> bool:
        lane = self._lane(page.person)
        if lane.kind == "slow":
            return page.state == "processing" and page.slug == MONTHLY
        if lane.kind == "first" and lane.focus is not None:
            return lane.focus.slug == page.slug != MONTHLY and not lane.is_touched
        return lane.kind == ""

    def _may_touch(self, paid: Paid) -> bool:
        lane = self._lane(paid.person)
        if paid.sub is not None and paid.sub.is_doomed:
            return False
        if lane.kind == "first" and lane.focus is not None:
            return paid is lane.focus or (paid.sub is not None and paid.sub is lane.focus.sub)
        return lane.kind in ("", "moving")

    def _touch(self, paid: Paid, deed: Deed) -> None:
        lane = self._lane(paid.person)
        lane.kind, lane.is_touched = lane.kind or "moving", True
        deed()
        if paid.sub is not None:
            paid.sub.is_doomed = self._is_gone(paid.sub.months[-1])

    def _is_gone(self, paid: Paid) -> bool:
        """Whether all the money of a payment went back."""
        if paid.intent is None:
            return False
        payment = self.till.payment(paid.intent).payment
        lost = sum(dispute.amount for dispute in payment.disputes if dispute.status == "lost")
        return payment.refunded + lost >= payment.amount

    # What the store does at its desk, on a morning on which it has heard of everything.

    def at_the_desk(self, work: Deed) -> None:
        """Staff refund, decide and answer banks; buyers open pages. `work` lets a worker carry it out at once."""
        self.lanes.clear()
        purchases = [
            (self.names[row.session_id or row.invoice_id or ""], row.id)
            for row in db.session.scalars(sa.select(Purchase))
            if PurchaseStatus(row.status).was_paid
        ]
        shown = self.thing_names()
        disputes = [
            (shown[row.external_id], row.id)
            for row in db.session.scalars(sa.select(Dispute))
            if row.status in ANSWERABLE
        ]
        for name, purchase_id in sorted(purchases):
            self._at_desk(name, db.session.get_one(Purchase, purchase_id))
        for name, dispute_id in sorted(disputes):
            if self.luck.random() < 0.3:
                self._ask(f"evidence in {name}", partial(evidence.submit, dispute_id, actor=STAFF))
        work()
        for person in PEOPLE:
            for slug in self.luck.sample(WANTED, 1 if self.payments else 2):
                self._ask(f"{person} wants {slug}", partial(self._click, person, slug))
        work()
        for paid in self.payments:
            paid.is_gone = self._is_gone(paid)
        for sub in self.subs:
            sub.is_over, sub.is_doomed = self.till.subscription(sub.id).is_over, False

    def _at_desk(self, name: str, purchase: Purchase) -> None:
        luck = self.luck.random()
        keeps, part, slowly = (self.luck.random() < 0.5 for _ in range(3))
        if luck < 0.12:
            if slowly:
                self.till.next_refund("pending")
            asked = partial(refunds.ask, purchase.id, reason="asked for", actor=STAFF)
            self._ask(
                f"{name}: staff refund {'a part' if part else 'all'}",
                partial(asked, amount_cents=PART if part else None),
            )
        elif luck < 0.45 and purchase.status == PurchaseStatus.PARTIALLY_REFUNDED and purchase.subscription_id is None:
            decided = partial(refunds.decide_part, purchase.id, keeps_access=keeps, reason="so", actor=STAFF)
            self._ask(f"{name}: access {'stays' if keeps else 'ends'}", decided)
        elif luck < 0.8 and purchase.duplicate_of_id is not None and name not in self.twins:
            user = db.session.get_one(User, purchase.user_id)
            self._ask(f"{name}: the offer is taken", partial(refunds.take_offer, purchase, user))

    def _ask(self, what: str, deed: Deed) -> None:
        try:
            with transaction():
                deed()
        except Refusal as refusal:
            what = f"{what} ({type(refusal).__name__})"
        self._say(what)

    def _click(self, person: str, slug: str) -> None:
        user = db.session.scalars(sa.select(User).where(User.email == f"{person}@customers.example")).one()
        plan = db.session.scalars(sa.select(Plan).where(Plan.slug == slug)).one()
        purchase = builders.opened(user, plan)
        if purchase.session_id is None:
            wanted, key = checkout_request(purchase)
            opened = self.till.open_checkout(wanted, key=key)
            remember_checkout(purchase, opened)
            name = self.names[purchase.ref] = f"{person}'s {slug} {len(self.pages) + 1}"
            self._page(name, person, slug, opened.session_id)

    # Names for ids, the same in every telling of a seed.

    def thing_names(self) -> dict[str, str]:
        """What each id at Stripe is called; refunds and disputes by their place at their payment."""
        names = dict(self.names)
        for paid in self.payments:
            if paid.intent is not None:
                payment = self.till.payment(paid.intent).payment
                names |= {refund.id: f"refund {n} of {paid.name}" for n, refund in enumerate(payment.refunds)}
                names |= {dispute.id: f"dispute {n} of {paid.name}" for n, dispute in enumerate(payment.disputes)}
        return names

    def _page(self, name: str, person: str, slug: str, session_id: str) -> Page:
        record = self.till.store.get("session", session_id) or {}
        self.names |= {session_id: name, record["intent"]: f"intent of {name}", record["invoice"]: f"invoice of {name}"}
        self.pages.append(Page(name, person, slug, session_id))
        return self.pages[-1]

    def _say(self, what: str) -> None:
        self.log.append(f"{clock.now():%a %H:%M:%S} {what}")
