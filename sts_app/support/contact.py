"""The contact page for people without an account, and the thread behind the link in our letters."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum

import structlog
from flask import Response, make_response, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from sts_app.core import clock, tokens
from sts_app.core.errors import Act
from sts_app.core.security import limiter
from sts_app.core.web import is_htmx, page_or_block, see_other, toast
from sts_app.support import drafts, links, queries, services
from sts_app.support.forms import CATEGORY_WORDS, ContactForm, ReplyForm, normal_address
from sts_app.support.models import SupportTicket
from sts_app.support.rules import Category
from sts_app.support.services import Opening, TicketClosed
from sts_app.support.views import (
    PICTURES,
    REPLIES_PER_PERSON,
    TRIES_PER_PERSON,
    around,
    picture_answer,
    picture_headers,
    take_pictures,
    was_taken,
)
from sts_app.support.views import bp as bp

log = structlog.get_logger()

PAGE = "support/ticket.html"

STAMP = "contact-form"
STAMP_AGE = timedelta(days=1)
# Nobody reads the page, writes twenty characters and chooses a category in less; programs do.
SOONEST = timedelta(seconds=3)
STALE = "This page was open for a long time. Please look it through and send it once more: nothing is lost."
PICTURES_LEFT = (
    "Your pictures were not kept: this form takes none. Send them once our letter has come: its link leads to where "
    "pictures can be added."
)
MESSAGES_PER_VISITOR = "3 per minute; 20 per day"
MESSAGES_PER_ADDRESS = "5 per hour; 15 per day"


@bp.get("/contact")
def contact() -> ResponseReturnValue:
    """How to reach us, for everybody; who is signed in is shown the shorter way."""
    email = current_user.email if current_user.is_authenticated else ""
    name = current_user.name if current_user.is_authenticated else ""
    form = ContactForm(formdata=None, email=email, name=name, stamp=_new_stamp())
    if request.args.get("about") in CATEGORY_WORDS:
        form.category.data = request.args["about"]
    return render_template("support/contact.html", form=form)


@bp.post("/contact")
@limiter.limit(MESSAGES_PER_VISITOR, deduct_when=was_taken)
@limiter.limit(
    MESSAGES_PER_ADDRESS,
    key_func=lambda: normal_address(request.form.get("email")).lower()[:254],
    deduct_when=was_taken,
)
def contact_post() -> ResponseReturnValue:
    """Take the message in. The answer is the same for every address, and for programs that were found out."""
    form = ContactForm()
    is_sound = form.validate_on_submit()
    stamp = _read_stamp(form.stamp.data)
    if isinstance(stamp, NoStamp):
        form.text.errors = [*form.text.errors, STALE]
        # Whoever had the form open for days has read it.
        form.stamp.data = _new_stamp(age=SOONEST if stamp is NoStamp.OVER else timedelta(0))
    if not is_sound or isinstance(stamp, NoStamp):
        return page_or_block("support/contact.html", "form", status=422, form=form)
    nonce, age = stamp
    suspected = bool(form.website.data) or age < SOONEST
    opening = Opening(form.subject.data, form.text.data, Category(form.category.data))
    ticket = services.write_from_outside(
        opening, email=form.email.data, name=form.name.data, nonce=nonce, suspected=suspected
    )
    log.info("support.written_from_outside", ticket_id=ticket.id, suspected=suspected)
    session["contact_email"] = form.email.data
    return see_other("support.contact_sent")


@bp.get("/contact/sent")
def contact_sent() -> ResponseReturnValue:
    """The same for everybody, but for the address they typed: a slip of the hand shows there."""
    if "contact_email" not in session:
        return see_other("support.contact")
    return _to_oneself(make_response(render_template("support/sent.html", email=session["contact_email"])))


@bp.get("/contact/ticket/<link>")
@limiter.limit("60 per 15 minutes")
def thread_by_link(link: str) -> ResponseReturnValue:
    """The thread for whoever holds the link of a letter. It signs nobody in. Raises `LinkOver`."""
    ticket = _behind(link)
    services.mark_seen(ticket)
    form = ReplyForm(formdata=None, nonce=tokens.new_secret())
    return _to_oneself(make_response(render_template(PAGE, **_around(ticket, link), form=form, kept=[])))


@bp.post("/contact/ticket/<link>")
@limiter.limit(REPLIES_PER_PERSON, deduct_when=was_taken)
@limiter.limit(TRIES_PER_PERSON)
def reply_by_link(link: str) -> ResponseReturnValue:
    """Add a message to the thread of the link. What was typed into one that is closed waits in the contact form."""
    ticket = _behind(link)
    form = ReplyForm()
    is_sound = form.validate_on_submit()
    owner = services.owner_by_link(ticket)
    kept, sent = take_pictures(form, owner)
    if not is_sound or form.pictures.errors:
        return _to_oneself(page_or_block(PAGE, "form", status=422, **_around(ticket, link), form=form, kept=kept))
    try:
        services.reply(ticket.id, form.text.data, actor="address", owner=owner, nonce=form.nonce.data, sent=sent)
    except TicketClosed as refusal:
        if is_htmx():
            raise  # as for people with an account
        drafts.drop(owner, form.nonce.data)
        return _write_anew(ticket, form, refusal, with_pictures=bool(kept))
    toast("Your reply is sent.")
    return see_other("support.thread_by_link", link=link)


@bp.get("/contact/ticket/<link>/pictures/<int:picture_id>")
@limiter.limit(PICTURES)
def picture_by_link(link: str, picture_id: int) -> ResponseReturnValue:
    """One picture of the link's own thread."""
    ticket = links.ticket_behind(link)
    return picture_answer(queries.picture_in(ticket.id, picture_id, notes=False))


picture_by_link.talisman_view_options = picture_headers()  # type: ignore[attr-defined]  # as in `views`


def _behind(link: str) -> SupportTicket:
    """The ticket of the link. Raises `LinkOver`, with the way to write again."""
    try:
        return links.ticket_behind(link)
    except links.LinkOver as over:
        over.act = Act("Write to us", url_for("support.contact"))
        raise


def _around(ticket: SupportTicket, link: str) -> dict[str, object]:
    # What the ticket is tied to belongs to an account; whoever holds a link has shown none.
    return around(ticket) | {"link": link, "purchase": None}


def _write_anew(ticket: SupportTicket, form: ReplyForm, refusal: TicketClosed, *, with_pictures: bool) -> Response:
    """What was typed into a ticket that takes no more, in a new contact form. That form takes no pictures."""
    anew = ContactForm(
        formdata=None,
        email=ticket.email,
        name=ticket.name,
        category=ticket.category,
        subject=f"Again about {ticket.ref}",
        text=form.text.data,
        # It was typed into the thread, and has taken its time there.
        stamp=_new_stamp(age=SOONEST),
    )
    anew.text.errors = [refusal.sentence, PICTURES_LEFT] if with_pictures else [refusal.sentence]
    return _to_oneself(make_response(render_template("support/contact.html", form=anew), refusal.status))


class NoStamp(Enum):
    """What came with a form in place of a stamp that can be used."""

    OVER = "one of ours, too old"
    FOREIGN = "none of ours"


def _new_stamp(*, age: timedelta = timedelta(0)) -> str:
    """When this form was made, so long ago if `age` says so, and a name for it, signed."""
    return tokens.sign(STAMP, [tokens.new_secret(), int((clock.now() - age).timestamp() * 1000)])


def _read_stamp(text: str | None) -> tuple[str, timedelta] | NoStamp:
    """The name and the age of a form of ours."""
    try:
        nonce, made_at = tokens.read(STAMP, text or "", max_age=int(STAMP_AGE.total_seconds()))
    except tokens.TokenExpired:
        return NoStamp.OVER
    except tokens.TokenInvalid:
        return NoStamp.FOREIGN
    return str(nonce), timedelta(milliseconds=int(clock.now().timestamp() * 1000) - int(made_at))


def _to_oneself(answer: Response) -> Response:
    """A page with somebody's address or thread on it is kept by no cache."""
    answer.headers["Cache-Control"] = "no-store"
    return answer
