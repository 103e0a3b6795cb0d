"""Purchases with their refunds and disputes, subscriptions, customers at the provider, and the inbox."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, synonym

from sts_app.billing.lease import Keyed, Leased
from sts_app.billing.rules import Access, EventState, PurchaseStatus, RefundState, SubscriptionState
from sts_app.core.db import Base, Row, text_enum


class StripeCustomer(Leased, Base):
    """Who a person is at the provider: one customer each, made before anything is charged.

    The row stands before the call, so that a lost answer is found again under `ref`. Without an
    `external_id` none is known (yet, or any more). One that is to be deleted there is due at `delete_at`;
    since `deleted_at` the provider has none, and the id stays for events that come late.
    """

    __tablename__ = "stripe_customer"
    __table_args__ = (
        sa.UniqueConstraint("user_id"),
        sa.UniqueConstraint("external_id"),
        sa.UniqueConstraint("ref"),
        sa.Index("ix_stripe_customer_delete", "delete_at", postgresql_where=sa.text("delete_at IS NOT NULL")),
    )

    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"))
    ref: Mapped[str]
    external_id: Mapped[str | None]
    request: Mapped[dict[str, Any]] = mapped_column(JSONB)
    attempt: Mapped[int] = mapped_column(default=1)
    asked_at: Mapped[datetime | None]

    tries: Mapped[int] = mapped_column(default=0, server_default="0")  # code before this column leaves it out
    delete_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    due_at: Mapped[datetime | None] = synonym("delete_at")


class AddressUpdate(Leased, Base):
    """Somebody whose customer at the provider is to have the e-mail address that is theirs now. Gone once it has.

    Which address that is, is read when it is told: it may change again meanwhile.
    """

    __tablename__ = "address_update"
    __table_args__ = (sa.UniqueConstraint("user_id"), sa.Index("ix_address_update_due", "next_attempt_at"))

    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"))
    next_attempt_at: Mapped[datetime]
    due_at: Mapped[datetime | None] = synonym("next_attempt_at")


class Purchase(Leased, Base):
    """One payment of one person for one plan. For a checkout the row stands before its page does.

    `checkout_request` holds the exact parameters the page is opened with: a key replayed with other
    parameters is an error at the vendor, so they are stored and replayed. `ref` is what the vendor
    carries round for us. A renewal of a subscription is a purchase as well: it has no checkout, and its
    `invoice_id` makes it once. So each cent that came in is in one purchase.

    `access` is what its money says of the access it was paid for; the entitlement follows it.
    """

    __tablename__ = "purchase"
    __table_args__ = (
        sa.UniqueConstraint("ref"),
        sa.UniqueConstraint("session_id"),
        sa.UniqueConstraint("invoice_id"),
        text_enum(*PurchaseStatus, name="known_status"),
        text_enum(*Access, name="known_access"),
        sa.CheckConstraint("partial_verdict IN ('keep', 'end')", name="known_partial_verdict"),
        sa.Index(
            "uq_purchase_open",
            "user_id",
            "plan_id",
            unique=True,
            postgresql_where=sa.text("status = 'PENDING'"),
        ),
        # Left behind by code from before `access`; and what an abandoned checkout's one letter is looked for among.
        sa.Index(
            "ix_purchase_unreckoned",
            "id",
            postgresql_where=sa.text("access = 'none' AND status IN ('COMPLETED', 'PARTIALLY_REFUNDED', 'REFUNDED')"),
        ),
        sa.Index("ix_purchase_expired", "closed_at", postgresql_where=sa.text("status = 'EXPIRED'")),
        sa.Index("ix_purchase_look_up", "next_look_up_at", postgresql_where=sa.text("next_look_up_at IS NOT NULL")),
    )

    ref: Mapped[str]
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"), index=True)
    plan_id: Mapped[int] = mapped_column(sa.ForeignKey("plan.id"))
    subscription_id: Mapped[int | None] = mapped_column(sa.ForeignKey("subscription.id"), index=True)
    status: Mapped[str] = mapped_column(default=PurchaseStatus.PENDING)
    access: Mapped[str] = mapped_column(server_default=Access.NONE)  # code before this column leaves it out
    amount_cents: Mapped[int]
    discount_cents: Mapped[int] = mapped_column(server_default="0")  # as above
    currency: Mapped[str]
    refunded_cents: Mapped[int] = mapped_column(default=0)
    # What staff said to a partial refund: access stays, or ends.
    partial_verdict: Mapped[str | None]
    partial_verdict_cents: Mapped[int | None]
    # The reference that the provider carries round for a second payment, that of the first: it knows no `ref` of it.
    told_ref: Mapped[str | None]
    # The purchase that had paid for the same already.
    duplicate_of_id: Mapped[int | None] = mapped_column(sa.ForeignKey("purchase.id"))

    checkout_request: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    checkout_attempt: Mapped[int] = mapped_column(default=1)
    session_id: Mapped[str | None]
    checkout_url: Mapped[str | None]
    checkout_expires_at: Mapped[datetime | None]
    intent_id: Mapped[str | None] = mapped_column(index=True)
    invoice_id: Mapped[str | None]
    declined_because: Mapped[str | None]
    # The buyer has done their part, and the bank has neither confirmed nor declined it.
    with_bank: Mapped[bool] = mapped_column(server_default=sa.false())  # as above
    # What a payment for a subscription pays until.
    period_end: Mapped[datetime | None]
    paid_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]

    look_ups: Mapped[int] = mapped_column(default=0)
    tries: Mapped[int] = mapped_column(default=0, server_default="0")  # as above
    next_look_up_at: Mapped[datetime | None]
    due_at: Mapped[datetime | None] = synonym("next_look_up_at")

    @property
    def is_renewal(self) -> bool:
        """Whether a subscription that ran was charged again. A second payment has no checkout of ours, but a page."""
        return self.subscription_id is not None and self.checkout_request is None and self.session_id is None


class Consent(Row, Base):
    """What a buyer agreed to with one purchase, as it was at that moment. Written once, never changed.

    `words` holds the sentences that stood beside the button. `may_remind` allows one letter about a
    checkout that was left.
    """

    __tablename__ = "consent"
    __table_args__ = (sa.Index("ix_consent_purchase_id", "purchase_id"),)

    purchase_id: Mapped[int] = mapped_column(sa.ForeignKey("purchase.id"))
    texts_version: Mapped[str]
    texts_accepted_at: Mapped[datetime]
    words: Mapped[list[str]] = mapped_column(JSONB)
    address: Mapped[str]
    browser: Mapped[str]
    may_remind: Mapped[bool] = mapped_column(default=False)


class Refund(Keyed, Base):
    """Money given back, or to be. Ours stand as `intended` before the provider hears of them.

    `ref` is ours, carried round by the provider; `external_id` is the provider's. `request` holds the
    exact parameters of the call. Of a refund that was made at the provider there is no `ref`.
    """

    __tablename__ = "refund"
    __table_args__ = (
        sa.UniqueConstraint("ref"),
        sa.UniqueConstraint("external_id"),
        text_enum(*RefundState, name="known_state"),
        sa.CheckConstraint("amount_cents > 0", name="amount_positive"),
        sa.CheckConstraint("ref IS NOT NULL OR external_id IS NOT NULL", name="has_a_name"),
        sa.Index("ix_refund_due", "next_attempt_at", postgresql_where=sa.text("next_attempt_at IS NOT NULL")),
    )

    purchase_id: Mapped[int] = mapped_column(sa.ForeignKey("purchase.id"), index=True)
    ref: Mapped[str | None]
    external_id: Mapped[str | None]
    amount_cents: Mapped[int]
    currency: Mapped[str]
    state: Mapped[str] = mapped_column(default=RefundState.INTENDED)
    reason: Mapped[str | None]
    asked_by: Mapped[str]
    failed_because: Mapped[str | None]

    request: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    asked_at: Mapped[datetime | None]
    next_attempt_at: Mapped[datetime | None]
    due_at: Mapped[datetime | None] = synonym("next_attempt_at")


class Dispute(Keyed, Base):
    """A payment that its payer disputes at the bank. `status` is the provider's word.

    The evidence is prepared as a whole (`evidence`), handed over under `evidence_ref`, and counted by
    the provider: `submissions`.
    """

    __tablename__ = "dispute"
    __table_args__ = (
        sa.UniqueConstraint("external_id"),
        sa.UniqueConstraint("evidence_ref"),
        sa.CheckConstraint("amount_cents >= 0", name="amount_not_negative"),
        sa.Index("ix_dispute_due", "next_attempt_at", postgresql_where=sa.text("next_attempt_at IS NOT NULL")),
    )

    purchase_id: Mapped[int] = mapped_column(sa.ForeignKey("purchase.id"), index=True)
    external_id: Mapped[str]
    amount_cents: Mapped[int]
    currency: Mapped[str]
    status: Mapped[str]
    reason: Mapped[str]
    opened_at: Mapped[datetime]
    due_by: Mapped[datetime | None]
    submissions: Mapped[int] = mapped_column(default=0)
    # The `due_by` that staff were warned of.
    warned_of: Mapped[datetime | None]

    evidence: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    evidence_ref: Mapped[str | None]
    evidence_by: Mapped[str | None]
    evidence_files: Mapped[dict[str, str]] = mapped_column(JSONB, default=dict)
    next_attempt_at: Mapped[datetime | None]
    due_at: Mapped[datetime | None] = synonym("next_attempt_at")


class Subscription(Keyed, Base):
    """A plan that is paid again and again. `status` is the provider's word; `state` is what it means for access.

    `settled` counts how often facts were applied: facts that were fetched before the last time are not
    applied but fetched again, because a subscription goes back and forth.
    `cancel_because` is set when the store wants it to end, until the provider has ended it.
    """

    __tablename__ = "subscription"
    __table_args__ = (
        sa.UniqueConstraint("external_id"),
        text_enum(*SubscriptionState, name="known_state"),
        sa.Index("ix_subscription_due", "next_look_up_at", postgresql_where=sa.text("next_look_up_at IS NOT NULL")),
    )

    external_id: Mapped[str]
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"), index=True)
    plan_id: Mapped[int] = mapped_column(sa.ForeignKey("plan.id"))
    status: Mapped[str]
    state: Mapped[str] = mapped_column(default=SubscriptionState.NONE)
    started_at: Mapped[datetime]
    period_end: Mapped[datetime | None]
    ends_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    past_due_since: Mapped[datetime | None]
    settled: Mapped[int] = mapped_column(default=0)

    cancel_because: Mapped[str | None]
    next_look_up_at: Mapped[datetime | None]
    due_at: Mapped[datetime | None] = synonym("next_look_up_at")


class Withdrawal(Row, Base):
    """A customer's declaration to withdraw from a purchase, as it was made. Staff decide, with a refund or a reason."""

    __tablename__ = "withdrawal"
    __table_args__ = (
        sa.UniqueConstraint("purchase_id"),
        sa.CheckConstraint("verdict IN ('accepted', 'refused')", name="known_verdict"),
    )

    purchase_id: Mapped[int] = mapped_column(sa.ForeignKey("purchase.id"))
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"), index=True)
    name: Mapped[str]
    address: Mapped[str]
    verdict: Mapped[str | None]
    decided_at: Mapped[datetime | None]
    decided_by: Mapped[str | None]
    note: Mapped[str | None]


class WebhookEvent(Leased, Base):
    """One event, taken in once: `(source, external_id)` is unique. `payload` is blank after its time."""

    __tablename__ = "webhook_event"
    __table_args__ = (
        sa.UniqueConstraint("source", "external_id"),
        text_enum(*EventState, name="known_state"),
        sa.Index("ix_webhook_event_due", "next_attempt_at", postgresql_where=sa.text("next_attempt_at IS NOT NULL")),
        sa.Index("ix_webhook_event_occurred_at", "occurred_at"),
        sa.Index("ix_webhook_event_stuck", "id", postgresql_where=sa.text("state = 'stuck'")),
    )

    source: Mapped[str]
    external_id: Mapped[str]
    type: Mapped[str]
    live: Mapped[bool]
    occurred_at: Mapped[datetime]
    payload: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    # Whether it came by itself, or was fetched from the provider's own list.
    fetched: Mapped[bool] = mapped_column(server_default=sa.false())
    purchase_ref: Mapped[str | None]
    session_id: Mapped[str | None]
    intent_id: Mapped[str | None]
    invoice_id: Mapped[str | None]
    stripe_subscription_id: Mapped[str | None]
    customer_id: Mapped[str | None]

    state: Mapped[str] = mapped_column(default=EventState.RECEIVED)
    changed: Mapped[bool] = mapped_column(server_default=sa.false())
    purchase_id: Mapped[int | None] = mapped_column(sa.ForeignKey("purchase.id"), index=True)
    subscription_id: Mapped[int | None] = mapped_column(sa.ForeignKey("subscription.id"), index=True)
    refusals: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime | None]
    due_at: Mapped[datetime | None] = synonym("next_attempt_at")
    handled_at: Mapped[datetime | None]


class Comparison(Row, Base):
    """One comparison of our events and purchases with the provider's own lists, and its counts."""

    __tablename__ = "billing_comparison"

    since: Mapped[datetime]
    until: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    at_stripe: Mapped[int] = mapped_column(default=0)
    stored: Mapped[int] = mapped_column(default=0)
    handled: Mapped[int] = mapped_column(default=0)
    effects: Mapped[int] = mapped_column(default=0)
    fetched: Mapped[int] = mapped_column(default=0)
    # What did not add up: one sentence each.
    findings: Mapped[list[str]] = mapped_column(JSONB, default=list)
