"""What a checkout page offers, in the words that its button stands for, and whether that is offered still."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sts_app.billing import covered
from sts_app.billing.words import OFTEN
from sts_app.catalog import queries as catalog
from sts_app.catalog.models import Plan
from sts_app.core.money import as_money

_CENTS = re.compile(r"[0-9]{1,9}", re.ASCII)
_CURRENCY = re.compile(r"[a-z]{3}", re.ASCII)
_MARK = re.compile(r"[0-9a-f]{16}", re.ASCII)


@dataclass(frozen=True)
class Offer:
    """What stands on the page: cents, the currency, how often, and the mark of the sentences beside the button.

    The form carries it, so that a press says which page was pressed. `interval` is empty for what is paid once.
    """

    amount_cents: int
    currency: str
    interval: str
    mark: str

    @property
    def price(self) -> str:
        """`$99.00 once`, or `$19.00 every month`."""
        return f"{as_money(self.amount_cents, self.currency)} {OFTEN.get(self.interval, 'once')}"

    @property
    def fields(self) -> dict[str, str]:
        """What the form carries, by the names of its fields; `read` reads it again."""
        return {
            "amount": str(self.amount_cents),
            "currency": self.currency,
            "interval": self.interval,
            "agreed": self.mark,
        }


def words_of(plan: Plan, replaced: Sequence[Plan] = ()) -> tuple[str, ...]:
    """The sentences beside the button that a buyer agrees to by pressing it, kept with the purchase.

    `replaced` are plans that they subscribe to, and that end when they pay.
    """
    price = as_money(plan.price_cents, plan.currency)
    return (
        f"You pay {price}, {OFTEN.get(plan.interval, 'once')}, for {plan.name}.",
        *renewal_of(plan),
        *(
            f"Your subscription to {each.name} ends at once when this payment arrives, and is not charged again. What "
            "you paid for the rest of its time is not given back."
            for each in replaced
        ),
        "By paying you accept the terms of sale and the risk disclaimer.",
        "All sales are final. Any right of withdrawal that the law of your country gives you stays untouched.",
        "You ask for access to be given at once, and know that a right of withdrawal may end when it has been.",
    )


def renewal_of(plan: Plan, cents: int | None = None) -> tuple[str, ...]:
    """How a subscription goes on and how it is ended, in sentences; nothing for a plan that is paid once.

    `cents` is what somebody has it for; without them it is today's price.
    """
    if not plan.interval:
        return ()
    charged = plan.price_cents if cents is None else cents
    return (
        f"It is a subscription: it renews by itself and {as_money(charged, plan.currency)} are charged "
        f"{OFTEN[plan.interval]}, until you end it.",
        "You can end it at any time on your dashboard, under Manage the subscription. It then runs to the end of the "
        "time that is paid, and is not charged again.",
    )


def words_for(user_id: int, plan: Plan) -> tuple[str, ...]:
    """The same for this person, with what of theirs ends when they pay."""
    replaced = [each.plan_id for each in covered.replaced_by(user_id, plan)]
    return words_of(plan, [each for each in catalog.all_plans() if each.id in replaced] if replaced else ())


def offer_of(plan: Plan, words: Sequence[str] | None = None) -> Offer:
    """What the page of this plan offers now; `words` are the sentences on it where they are not `words_of` it."""
    mark = hashlib.sha256("\n".join(words_of(plan) if words is None else words).encode()).hexdigest()[:16]
    return Offer(plan.price_cents, plan.currency.lower(), plan.interval, mark)


def read(values: Mapping[str, str]) -> Offer | None:
    """The offer that a form carries. None for a button of another page, and for what no page of ours sends."""
    amount, currency = values.get("amount", ""), values.get("currency", "")
    interval, mark = values.get("interval", ""), values.get("agreed", "")
    if not (_CENTS.fullmatch(amount) and _CURRENCY.fullmatch(currency) and _MARK.fullmatch(mark)):
        return None
    if interval and interval not in OFTEN:
        return None
    return Offer(int(amount), currency, interval, mark)


def change_in_words(shown: Offer, now: Offer) -> str:
    """What a buyer is told whose page shows another offer than today's. Nothing was charged."""
    if shown.price != now.price:
        return (
            f"The price has changed since this page was opened, from {shown.price} to {now.price}. Nothing was charged."
        )
    return "What you agree to has changed since this page was opened. Nothing was charged. Please read it once more."
