"""What staff hear when money has stopped on its way: each once for one trouble, because the work itself is tried again.

A key without the right to do something answers as Stripe does when it is away, so that waiting alone never ends it.
"""

from __future__ import annotations

from sts_app.accounts.models import User
from sts_app.billing.letters_note import Facts, facts_of, to_staff
from sts_app.billing.models import Dispute, Purchase, Refund, StripeCustomer, Subscription, WebhookEvent
from sts_app.core import clock
from sts_app.core.db import db
from sts_app.core.money import as_moment, as_money

GOES_ON = (
    "It is tried again every hour, and nothing is lost. If the last answer speaks of a permission or of the key, "
    "mend the restricted key at Stripe; if there was no answer, Stripe may be away."
)


def refund_held_up(purchase: Purchase, refund: Refund) -> None:
    to_staff(
        key=f"admin-refund-held-up:{refund.id}",
        kind="admin_refund_held_up",
        heading="A refund does not go out",
        paragraphs=("Stripe has not taken this refund so far, and the customer waits for the money.", GOES_ON),
        facts=[
            ("Asked by", refund.asked_by),
            ("To go back", as_money(refund.amount_cents, refund.currency)),
            ("Last answer", refund.last_reason or "none"),
            *facts_of(purchase, by=_buyer(purchase)),
        ],
    )


def evidence_held_up(purchase: Purchase, dispute: Dispute) -> None:
    to_staff(
        key=f"admin-evidence-held-up:{dispute.id}:{dispute.evidence_ref}",
        kind="admin_evidence_held_up",
        heading="Evidence does not go out",
        paragraphs=(
            "Stripe has not taken the evidence for this dispute so far. The bank waits for it until the time below.",
            GOES_ON,
        ),
        facts=[*_about(purchase, dispute), ("Last answer", dispute.last_reason or "none")],
    )


def dispute_due(purchase: Purchase, dispute: Dispute) -> None:
    """Less than two days are left to answer a bank. `sts disputes show` says how far the evidence is."""
    to_staff(
        key=f"admin-dispute-due:{dispute.id}:{dispute.due_by:%Y%m%d%H%M}",
        kind="admin_dispute_due",
        heading="A dispute is due within two days",
        paragraphs=(
            "The bank has no answer to this dispute. Without one the money is lost when the time below comes.",
            "Evidence is on its way and was not taken so far: see to it, or hand it in at Stripe."
            if dispute.next_attempt_at is not None
            else f"`sts disputes evidence {dispute.id}` shows what speaks for us, and "
            f"`sts disputes submit {dispute.id}` answers the bank.",
        ),
        facts=_about(purchase, dispute),
    )


def subscription_stuck(subscription: Subscription) -> None:
    """Once for an end that the provider does not make, and once for each time it keeps refusing a look."""
    is_ending = subscription.cancel_because is not None
    to_staff(
        key=f"admin-subscription-stuck:{subscription.id}:{'end' if is_ending else subscription.settled}",
        kind="admin_subscription_stuck",
        heading="A subscription does not end" if is_ending else "A subscription needs a person",
        paragraphs=(
            "The store wants this subscription to end, and Stripe has not ended it so far: its payer may be charged "
            "again. End it at Stripe if that is near.",
            GOES_ON,
        )
        if is_ending
        else ("Stripe keeps refusing what the store asks about this subscription. Look at it there.",),
        facts=[
            ("Subscription", subscription.external_id),
            *([("To be ended because", subscription.cancel_because)] if subscription.cancel_because else []),
            *([("Paid until", as_moment(subscription.period_end))] if subscription.period_end else []),
            ("Last answer", subscription.last_reason or "none"),
        ],
    )


def events_held_up(event: WebhookEvent) -> None:
    """At most once a day: when the provider does not answer, every event waits for the same."""
    to_staff(
        key=f"admin-events-held-up:{clock.now():%Y%m%d}",
        kind="admin_events_held_up",
        heading="Payment events wait for Stripe",
        paragraphs=(
            "The store is told of payments and cannot look them up: somebody may have paid and wait for access. "
            "`sts events list` shows what waits; the one below is the first that waited so long today.",
            GOES_ON,
        ),
        facts=[("Event", event.external_id), ("Type", event.type), ("Last answer", event.last_reason or "none")],
    )


def payment_unknown(purchase: Purchase) -> None:
    to_staff(
        key=f"admin-payment-unknown:{purchase.id}",
        kind="admin_payment_unknown",
        heading="Stripe does not know a payment",
        paragraphs=(
            "Stripe keeps refusing to show the payment of this purchase; it may belong to another account. Look for "
            "the reference below among all payments there.",
            "The purchase is not looked up any more, unless something says that it was paid. Money that is heard of "
            "later still counts.",
        ),
        facts=[
            ("Checkout or invoice", purchase.session_id or purchase.invoice_id or "none"),
            ("Last answer", purchase.last_reason or "none"),
            *facts_of(purchase, by=_buyer(purchase)),
        ],
    )


def customer_stays(customer: StripeCustomer) -> None:
    """Somebody is being erased, and the provider has not deleted its customer so far. Once for each of them."""
    to_staff(
        key=f"admin-customer-stays:{customer.id}",
        kind="admin_customer_stays",
        heading="A customer is not deleted at Stripe",
        paragraphs=(
            "Somebody asked to be erased, and that is not done before Stripe has deleted its customer as well.",
            GOES_ON,
        ),
        facts=[("Customer", customer.external_id or "not known yet"), ("Last answer", customer.last_reason or "none")],
    )


def paid_after_closing(purchase: Purchase) -> None:
    """Money came in for an account that had closed: it is on record, and gives nothing."""
    to_staff(
        key=f"admin-paid-after-closing:{purchase.id}",
        kind="admin_paid_after_closing",
        heading="Money came in for a closed account",
        paragraphs=(
            "This was paid after its buyer's account had closed, because they asked to be erased. The payment is on "
            "record and gives no access.",
            f"Send it back with `sts refunds ask {purchase.ref}`. It goes to the card it came from, whoever that was.",
        ),
        facts=facts_of(purchase),
    )


def _about(purchase: Purchase, dispute: Dispute) -> Facts:
    return [
        ("Dispute", dispute.external_id),
        ("Disputed", as_money(dispute.amount_cents, dispute.currency)),
        *([("Evidence is due by", as_moment(dispute.due_by))] if dispute.due_by else []),
        *facts_of(purchase, by=_buyer(purchase)),
    ]


def _buyer(purchase: Purchase) -> User:
    return db.session.get_one(User, purchase.user_id)
