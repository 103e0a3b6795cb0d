"""Letters that did not reach a customer: what is known of it, what to do, and the letters themselves."""

from __future__ import annotations

from flask import render_template
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_required

from sts_app.core import clock
from sts_app.core.money import as_moment
from sts_app.core.security import limiter, who_asks
from sts_app.core.web import see_other, toast
from sts_app.emails import letters as email_letters
from sts_app.emails import queries as emails
from sts_app.emails import services as email_services
from sts_app.emails.models import TRIAL_EVERY
from sts_app.pages.dashboard import slow_down
from sts_app.pages.views import bp as bp


@bp.get("/dashboard/letters")
@login_required  # type: ignore[untyped-decorator]  # flask-login carries no types
def letters() -> ResponseReturnValue:
    """How letters to this person fare, what they can do about it, and what did not arrive, to be read here."""
    now = clock.now()
    standing = emails.standing_of(current_user.email)
    return render_template(
        "pages/letters.html",
        trust=standing.trust,
        address=current_user.email,
        said=emails.words_about(current_user.email),
        # Within this time another letter would not be sent.
        tried_at=None if standing.is_fine or standing.may_be_tried(now) else standing.tried_at,
        again_at=standing.tried_at + TRIAL_EVERY if standing.tried_at else None,
        letters=emails.not_arrived(current_user.id, now),
    )


@bp.post("/dashboard/letters/confirm")
@limiter.limit("5 per 15 minutes", key_func=who_asks, on_breach=slow_down)
@login_required  # type: ignore[untyped-decorator]  # see above
def confirm_letters() -> ResponseReturnValue:
    """Write the letter whose button shows that letters arrive."""
    now = clock.now()
    standing = emails.standing_of(current_user.email)
    if standing.is_fine:
        toast("Nothing is wrong with letters to you.", "info")
    elif not standing.may_be_tried(now) and standing.tried_at is not None:
        toast(f"We wrote to you a moment ago. You can try again after {as_moment(standing.tried_at + TRIAL_EVERY)}.")
    else:
        email_letters.confirm_address(current_user.email, user_id=current_user.id, on=now)
        toast(f"A letter is on its way to {current_user.email}. Open it and press its button.")
    return see_other("pages.letters")


@bp.get("/dashboard/letters/arrived/<token>")
@limiter.limit("30 per 15 minutes")
def letter_arrived(token: str) -> ResponseReturnValue:
    """Show a button, and do nothing: mail scanners open every link. Signed in or not, on whichever device."""
    email_services.peek_confirmation(token)
    return render_template("pages/letter_arrived.html", token=token)


@bp.post("/dashboard/letters/arrived/<token>")
@limiter.limit("10 per 15 minutes")
def letter_arrived_post(token: str) -> ResponseReturnValue:
    email_services.confirm(token)
    toast("Thank you: our letters reach you again. What waited for you is on its way.")
    return see_other("pages.letters" if current_user.is_authenticated else "pages.home")
