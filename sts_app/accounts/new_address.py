"""The pages of a change of address: asking for it, and the two links that letters carry."""

from __future__ import annotations

from flask import render_template
from flask.typing import ResponseReturnValue
from flask_login import current_user, fresh_login_required, login_fresh, login_required

from sts_app.accounts import addresses, sessions
from sts_app.accounts.forms import NewAddressForm
from sts_app.accounts.views import bp
from sts_app.core.security import ask_again, limiter, who_asks
from sts_app.core.web import page_or_block, see_other, toast

PAGE = "accounts/email.html"


@bp.get("/dashboard/settings/email")
@fresh_login_required  # type: ignore[untyped-decorator]  # flask-login carries no types
def change_email() -> ResponseReturnValue:
    return render_template(PAGE, form=NewAddressForm(formdata=None, present=current_user.email))


@bp.post("/dashboard/settings/email")
@limiter.limit("5 per 15 minutes", key_func=who_asks)
@login_required  # type: ignore[untyped-decorator]  # see above
def change_email_post() -> ResponseReturnValue:
    """Write to the new address; the page says the same whoever has it."""
    form = NewAddressForm(present=current_user.email)
    if not login_fresh():
        return ask_again(form)
    if not form.validate_on_submit():
        return page_or_block(PAGE, "form", status=422, form=form)
    addresses.ask_for_change(current_user, form.email.data)
    toast(f"A letter is on its way to {form.email.data}. Open its link within a day, and that is your address.")
    return see_other("accounts.settings")


@bp.post("/dashboard/settings/email/drop")
@login_required  # type: ignore[untyped-decorator]  # see above
def drop_email() -> ResponseReturnValue:
    """Forget the change that waits for its link."""
    addresses.drop_change(current_user)
    toast("Your address stays as it is.")
    return see_other("accounts.settings")


@bp.get("/sign-in/email/<link>")
@limiter.limit("30 per 15 minutes")
def confirm_email(link: str) -> ResponseReturnValue:
    """Show a button, and do nothing: mail scanners open every link. Signed in or not, on whichever device."""
    change = addresses.peek_confirmation(link)
    return render_template("accounts/confirm_email.html", link=link, address=change.new_email)


@bp.post("/sign-in/email/<link>")
@limiter.limit("10 per 15 minutes")
def confirm_email_post(link: str) -> ResponseReturnValue:
    user = addresses.confirm(link)
    toast(f"Your address is {user.email} from now on.")
    return see_other("accounts.settings")


@bp.get("/sign-in/email/back/<link>")
@limiter.limit("30 per 15 minutes")
def call_off_email(link: str) -> ResponseReturnValue:
    """Show a button, and do nothing, as above."""
    change = addresses.peek_call_off(link)
    return render_template("accounts/call_off_email.html", link=link, address=change.old_email)


@bp.post("/sign-in/email/back/<link>")
@limiter.limit("10 per 15 minutes")
def call_off_email_post(link: str) -> ResponseReturnValue:
    """Give the address back and sign everybody out, this browser too if it was in."""
    user = addresses.call_off(link)
    sessions.end()
    toast(f"Your address is {user.email} again, and every device is signed out. Sign in to look around.")
    return see_other("accounts.sign_in")
