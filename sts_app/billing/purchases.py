"""What a customer can do with what they bought: papers, a second payment back, withdrawal, Stripe's own page."""

from __future__ import annotations

import structlog
from flask import render_template, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_fresh, login_required

from sts_app.billing import account, customers, queries, refunds, withdrawals
from sts_app.billing.forms import WithdrawalForm
from sts_app.billing.gateway import NoSuchCustomer, PaymentFacts, PaymentsError, Refused
from sts_app.billing.models import Purchase
from sts_app.billing.rules import PurchaseStatus
from sts_app.billing.services import payments
from sts_app.billing.views import bp as bp
from sts_app.core import clock
from sts_app.core.db import checkpoint
from sts_app.core.errors import Act, NotNow, NotThere, Refusal
from sts_app.core.security import ask_again, limiter, visitor_address, who_asks
from sts_app.core.web import address_of, page_or_block, see_other, toast

log = structlog.get_logger()

PAGE = "billing/withdraw.html"


class PortalRefused(Refusal):
    status = 502
    code = "PORTAL_REFUSED"
    title = "Your page at Stripe does not open"
    sentence = (
        "Stripe does not open your page there, and trying again does not help: something has to be mended first, and "
        "we have been told. Your access and your payments are as they were. To change your card, end a subscription or "
        "have an invoice, write to the address our letters come from, and we do it for you."
    )


@bp.get("/purchases/<ref>/receipt")
@limiter.limit("20 per minute", key_func=who_asks)
@login_required  # type: ignore[untyped-decorator]  # flask-login carries no types
def receipt(ref: str) -> ResponseReturnValue:
    """To the receipt at Stripe. Asked for each time, because such an address expires."""
    facts = _facts(_own(ref), url_for("billing.receipt", ref=ref))
    return _paper(ref, "receipt", facts.receipt_url if facts is not None else None)


@bp.get("/purchases/<ref>/invoice")
@limiter.limit("20 per minute", key_func=who_asks)
@login_required  # type: ignore[untyped-decorator]  # see above
def invoice(ref: str) -> ResponseReturnValue:
    """To the invoice at Stripe, as a page, or as a PDF where there is no page."""
    facts = _facts(_own(ref), url_for("billing.invoice", ref=ref))
    return _paper(ref, "invoice", (facts.invoice_url or facts.invoice_pdf_url) if facts is not None else None)


@bp.get("/purchases/<ref>/have-back")
@login_required  # type: ignore[untyped-decorator]  # see above
def confirm_have_back(ref: str) -> ResponseReturnValue:
    """What goes back and what stays, before it is asked for. Leads away from a purchase that is not on offer."""
    purchase = _own(ref)
    shown = next(each for each in account.purchases_of(current_user.id, clock.now()) if each.purchase.id == purchase.id)
    if not shown.offers_refund:
        toast("There is nothing of this purchase to have back in this way.", "info")
        return see_other("pages.dashboard")
    if not login_fresh():
        return ask_again()
    left = refunds.left_of(purchase)
    return render_template("billing/have_back.html", purchase=purchase, plan=queries.plan_of(purchase), left=left)


@bp.post("/purchases/<ref>/have-back")
@limiter.limit("10 per minute", key_func=who_asks)
@login_required  # type: ignore[untyped-decorator]  # see above
def have_back(ref: str) -> ResponseReturnValue:
    """The second payment for the same thing goes back. A second press finds it on its way."""
    purchase = _own(ref)
    if not login_fresh():
        return ask_again()
    try:
        refund = refunds.take_offer(purchase, current_user)
    except refunds.CannotRefund as refusal:
        toast(refusal.sentence, "info")
    else:
        log.info("billing.offer_taken", purchase_id=purchase.id, refund_id=refund.id)
        toast("The money of your second payment goes back to where it came from. A letter tells you when it was sent.")
    return see_other("pages.dashboard")


@bp.get("/purchases/<ref>/withdraw")
@login_required  # type: ignore[untyped-decorator]  # see above
def withdraw(ref: str) -> ResponseReturnValue:
    """The declaration with its confirmation; once it was made, the page that says so, and when it arrived.

    Raises `NothingToWithdraw` for a purchase of which no money is with the store.
    """
    purchase = _own(ref)
    if queries.withdrawal_of(purchase.id) is None:
        if not withdrawals.is_open_to(purchase):
            raise withdrawals.NothingToWithdraw(act=Act("Your dashboard", url_for("pages.dashboard")))
        if not login_fresh():
            return ask_again()
    return render_template(PAGE, form=WithdrawalForm(formdata=None, name=current_user.name), **_declared(purchase))


@bp.post("/purchases/<ref>/withdraw")
@limiter.limit("10 per minute", key_func=who_asks)
@login_required  # type: ignore[untyped-decorator]  # see above
def withdraw_post(ref: str) -> ResponseReturnValue:
    """Take the declaration in. A second press finds the first one."""
    purchase = _own(ref)
    if not login_fresh():
        return ask_again(WithdrawalForm())
    form = WithdrawalForm()
    if queries.withdrawal_of(purchase.id) is None and not form.validate_on_submit():
        return page_or_block(PAGE, "form", status=422, form=form, **_declared(purchase))
    withdrawals.declare(current_user, purchase.id, name=form.name.data or "", address=visitor_address())
    return see_other("billing.withdraw", ref=ref)


@bp.get("/billing/portal")
def portal_again() -> ResponseReturnValue:
    """Loaded again, or bookmarked: the page that has the button."""
    return see_other("pages.dashboard")


@bp.post("/billing/portal")
@limiter.limit("10 per minute", key_func=who_asks)
@login_required  # type: ignore[untyped-decorator]  # see above
def portal() -> ResponseReturnValue:
    """To Stripe's page of this customer: invoices, cards, and the end of a subscription."""
    if not login_fresh():
        return ask_again()
    customer_id = customers.of(current_user)
    if customer_id is None:
        return _nothing_to_show()
    checkpoint()
    try:
        address = payments().open_portal(customer_id, return_url=address_of("pages.dashboard"))
    except NoSuchCustomer:
        # Deleted in Stripe's dashboard: the next purchase makes the person known anew.
        customers.forget(customer_id)
        return _nothing_to_show()
    except Refused as trouble:
        log.error("billing.portal_refused", reason=trouble.reason)
        raise PortalRefused(cause=trouble.reason, act=Act("Your dashboard", url_for("pages.dashboard"))) from None
    except PaymentsError as trouble:
        raise NotNow(
            "Stripe does not answer at this moment, so your page there cannot be opened. Please try again in a minute.",
            cause=trouble.reason,
            retry_after=60,
            act=Act("Try again", url_for("billing.portal"), post=True),
        ) from None
    return see_other(address)


def _own(ref: str) -> Purchase:
    """This visitor's own purchase. Raises `NotThere` for another's as for one that never was."""
    purchase = queries.purchase_named(current_user.id, ref)
    if purchase is None:
        raise NotThere(cause=f"no purchase {ref!r} of user:{current_user.id}")
    return purchase


def _facts(purchase: Purchase, again: str) -> PaymentFacts | None:
    """What the provider says of a payment today; None where none was made, or it knows of none. Raises `NotNow`."""
    purchase_id, session_id, invoice_id = purchase.id, purchase.session_id, purchase.invoice_id
    if not PurchaseStatus(purchase.status).was_paid:
        return None
    # Nothing stays open while the provider is asked.
    checkpoint()
    try:
        if session_id is not None:
            return payments().look_up(session_id)
        return payments().look_up_invoice(invoice_id) if invoice_id is not None else None
    except Refused as refusal:
        log.warning("billing.no_papers", purchase_id=purchase_id, reason=refusal.reason)
        return None
    except PaymentsError as trouble:
        raise NotNow(
            "Stripe keeps receipts and invoices, and does not answer at this moment. Please try again in a minute.",
            cause=trouble.reason,
            retry_after=60,
            act=Act("Try again", again),
        ) from None


def _paper(ref: str, paper: str, address: str | None) -> ResponseReturnValue:
    """To the paper, or the page that says that there is none."""
    if address is not None:
        return see_other(address)
    purchase = _own(ref)
    is_paid = PurchaseStatus(purchase.status).was_paid
    return render_template("billing/no_paper.html", purchase=purchase, paper=paper, is_paid=is_paid)


def _declared(purchase: Purchase) -> dict[str, object]:
    """What the page of a withdrawal shows beside its form."""
    until = withdrawals.runs_until(purchase)
    return {
        "purchase": purchase,
        "plan": queries.plan_of(purchase),
        "withdrawal": queries.withdrawal_of(purchase.id),
        "left": refunds.left_of(purchase),
        "until": until,
        "is_late": until is not None and until <= clock.now(),
    }


def _nothing_to_show() -> ResponseReturnValue:
    toast("Stripe has nothing to show about you yet.", "info")
    return see_other("pages.dashboard")
