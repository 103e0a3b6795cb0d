"""Tickets for people with an account: the list, a new one, a thread with its reply, and the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from flask import Blueprint, Response, current_app, make_response, render_template, request
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_required
from werkzeug.exceptions import RequestEntityTooLarge
from wtforms.fields.choices import SelectChoice

from sts_app.catalog import queries as catalog
from sts_app.core import clock, tokens
from sts_app.core.errors import NotThere, Refusal
from sts_app.core.security import limiter, who_asks
from sts_app.core.web import is_htmx, page_or_block, row_number, see_other, toast
from sts_app.support import drafts, queries, services
from sts_app.support.forms import CATEGORY_WORDS, ReplyForm, TicketForm, WithPictures
from sts_app.support.models import SupportTicket, TicketAttachment
from sts_app.support.pictures import LARGEST_FILE, MOST_PICTURES, NotAPicture, Picture, from_file
from sts_app.support.queries import Place
from sts_app.support.rules import Category
from sts_app.support.services import Opening, TicketClosed

bp = Blueprint("support", __name__)

PAGE = 20
MESSAGES = 50
# More than three pictures may have, so that pictures which are too large come back with a sentence beside the text
# that was typed. What is larger still is not read.
LARGEST_REQUEST = 16 * 1024 * 1024
WITH_PICTURES = {"support.new_ticket_post", "support.reply", "support.reply_by_link"}
TICKETS_PER_PERSON = "5 per 10 minutes; 20 per day"
REPLIES_PER_PERSON = "10 per 10 minutes"
# Forms that came back with faults count as well: they leave pictures behind.
TRIES_PER_PERSON = "30 per 10 minutes"
PICTURES = "240 per minute"


class TooLarge(Refusal):
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE.value
    code = "TOO_LARGE"
    title = "These pictures are too large"
    sentence = (
        "One message takes 5,000 characters and three pictures of 2 MB each, and this was far more. Nothing was sent. "
        "Your text still stands in the form you came from: choose smaller pictures there, and send it again."
    )


@bp.url_value_preprocessor
def _make_room(endpoint: str | None, values: dict[str, object] | None) -> None:
    """Before anything reads the request: the guard of forms looks for its token in it."""
    if endpoint in WITH_PICTURES:
        request.max_content_length = LARGEST_REQUEST


@bp.errorhandler(RequestEntityTooLarge)
def _too_large(error: RequestEntityTooLarge) -> ResponseReturnValue:
    return current_app.handle_user_exception(TooLarge())


def was_taken(answer: Response) -> bool:
    """A form that comes back with its faults does not count: a typo must lock nobody out."""
    return answer.status_code != HTTPStatus.UNPROCESSABLE_ENTITY


@bp.get("/support")
def support() -> ResponseReturnValue:
    """To where help is: one's tickets or the contact page; with a `strategy`, to a form about it."""
    slug = request.args.get("strategy")
    if not current_user.is_authenticated:
        return see_other("support.contact", about=Category.TECHNICAL.value if slug else None)
    if slug:
        return see_other("support.new_ticket", strategy=slug, category=Category.TECHNICAL.value)
    return see_other("support.tickets")


@bp.get("/dashboard/support")
@login_required  # type: ignore[untyped-decorator]  # flask-login carries no types
def tickets() -> ResponseReturnValue:
    """One's tickets, the latest message first."""
    show = request.args.get("show", "")
    before = Place.read(request.args.get("before"))
    found = queries.tickets_of(current_user, show=show, before=before, limit=PAGE + 1)
    last = found[PAGE - 1] if len(found) > PAGE else None
    return page_or_block(
        "support/tickets.html",
        "results",
        tickets=found[:PAGE],
        show=show if show in queries.FILTERS else "",
        following=str(Place(last.last_message_at, last.id)) if last is not None else None,
        is_first_page=before is None,
        words=CATEGORY_WORDS,
    )


@bp.get("/dashboard/support/new")
@login_required  # type: ignore[untyped-decorator]  # see above
def new_ticket() -> ResponseReturnValue:
    """An empty form, tied to the purchase or strategy that one comes from.

    Raises `NotThere` for somebody else's purchase and for a strategy that is not shown.
    """
    form = TicketForm(formdata=None, nonce=tokens.new_secret())
    for kind in ("purchase", "strategy"):
        if request.args.get(kind):
            form.about.data = f"{kind}:{request.args[kind]}"
    _offer_topics(form)
    if request.args.get("category") in CATEGORY_WORDS:
        form.category.data = request.args["category"]
    return render_template("support/new.html", form=form, kept=[])


@bp.post("/dashboard/support/new")
@limiter.limit(TICKETS_PER_PERSON, key_func=who_asks, deduct_when=was_taken)
@limiter.limit(TRIES_PER_PERSON, key_func=who_asks)
@login_required  # type: ignore[untyped-decorator]  # see above
def new_ticket_post() -> ResponseReturnValue:
    """Open the ticket, or show the form again with all that was typed and chosen."""
    form = TicketForm()
    _offer_topics(form)
    is_sound = form.validate_on_submit()
    owner = services.owner_of(current_user)
    kept, sent = take_pictures(form, owner)
    if not is_sound or form.pictures.errors:
        return page_or_block("support/new.html", "form", status=422, form=form, kept=kept)
    opening = Opening(form.subject.data, form.text.data, Category(form.category.data), form.about.data or "")
    ticket = services.open_ticket(current_user, opening, nonce=form.nonce.data, sent=sent)
    toast("Your ticket is open, and a letter confirms it.")
    return see_other("support.ticket", ref=ticket.ref)


@bp.get("/dashboard/support/<ref>")
@login_required  # type: ignore[untyped-decorator]  # see above
def ticket(ref: str) -> ResponseReturnValue:
    """The thread, the latest part of it, and what may be done."""
    found = queries.own_ticket(current_user, ref)
    services.mark_seen(found)
    form = ReplyForm(formdata=None, nonce=tokens.new_secret())
    return render_template("support/ticket.html", **around(found), form=form, kept=[])


@bp.post("/dashboard/support/<ref>")
@limiter.limit(REPLIES_PER_PERSON, key_func=who_asks, deduct_when=was_taken)
@limiter.limit(TRIES_PER_PERSON, key_func=who_asks)
@login_required  # type: ignore[untyped-decorator]  # see above
def reply(ref: str) -> ResponseReturnValue:
    """Add a message. Where the ticket was closed meanwhile, what was typed waits in the form of a new one."""
    found = queries.own_ticket(current_user, ref)
    form = ReplyForm()
    is_sound = form.validate_on_submit()
    owner = services.owner_of(current_user)
    kept, sent = take_pictures(form, owner)
    if not is_sound or form.pictures.errors:
        return page_or_block("support/ticket.html", "form", status=422, **around(found), form=form, kept=kept)
    try:
        services.reply(found.id, form.text.data, actor=owner, owner=owner, nonce=form.nonce.data, sent=sent)
    except TicketClosed as refusal:
        if is_htmx():
            raise  # the page keeps its form, and shows the sentence above it
        return _open_anew(found, form, kept, refusal)
    toast("Your reply is sent.")
    return see_other("support.ticket", ref=found.ref)


def picture_headers() -> dict[str, object]:
    """Options for Flask-Talisman: should a picture ever be taken for a page, it may do nothing there."""
    return {"content_security_policy": "default-src 'none'; sandbox; frame-ancestors 'none'"}


@bp.get("/dashboard/support/pictures/<int:picture_id>")
@limiter.limit(PICTURES, key_func=who_asks)
@login_required  # type: ignore[untyped-decorator]  # see above
def picture(picture_id: int) -> ResponseReturnValue:
    """One picture, for the owner of its ticket and for staff."""
    return picture_answer(queries.picture_for(current_user, picture_id))


# Where Flask-Talisman looks.
picture.talisman_view_options = picture_headers()


def picture_answer(found: TicketAttachment) -> Response:
    """The bytes with headers that let a browser do nothing with them but show them.

    The browser may keep them, and asks each time whether it still may show them: not after signing out.
    """
    answer = make_response(found.data)
    answer.mimetype = f"image/{found.kind}"
    answer.headers["Content-Disposition"] = f'inline; filename="picture-{found.id}.{found.kind}"'
    answer.headers["Cache-Control"] = "private, no-cache"
    answer.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    answer.set_etag(found.digest)
    answer.make_conditional(request)
    return answer


def take_pictures(form: WithPictures, owner: str) -> tuple[Sequence[TicketAttachment], Sequence[str]]:
    """Hang the pictures that were sent on their form; what cannot be taken stands as a fault at the field.

    The pictures that hang there now, and what this request named: the same again when it is sent twice.
    """
    form.nonce.data = form.nonce.data or tokens.new_secret()
    pictures: list[Picture] = []
    faults: list[str] = []
    files = form.pictures.data or []
    for file in files[:MOST_PICTURES]:
        try:
            pictures.append(from_file(file.filename or "", file.read(LARGEST_FILE + 1)))
        except NotAPicture as refusal:
            faults.append(refusal.sentence)
    still = {row_number(text) for text in request.form.getlist("keep") if text.isascii() and text.isdigit()}
    try:
        kept, left_out = drafts.keep(owner, form.nonce.data, pictures, still=still)
    except drafts.TooManyPictures as refusal:
        kept, left_out = drafts.kept(owner, form.nonce.data), 0
        faults.append(refusal.sentence)
    left_out += max(len(files) - MOST_PICTURES, 0)
    if left_out:
        faults.append(
            f"Three pictures fit into one message: {left_out} more {'was' if left_out == 1 else 'were'} left out."
        )
    form.pictures.errors = [*form.pictures.errors, *faults]
    return kept, [*sorted(str(number) for number in still), *(picture.digest for picture in pictures)]


def around(found: SupportTicket) -> dict[str, object]:
    """What the page of a thread shows beside the form."""
    purchase, strategy = queries.about(found)
    before = request.args.get("before", type=row_number)
    return {
        "ticket": found,
        "thread": queries.thread_of(found.id, notes=False, before=before, limit=MESSAGES),
        "is_latest": before is None,
        "purchase": purchase,
        "strategy": strategy,
        "category": CATEGORY_WORDS[found.category],
        "link": None,
        "is_late": found.answer_due_at is not None and found.answer_due_at < clock.now(),
    }


def _open_anew(
    found: SupportTicket, form: ReplyForm, kept: Sequence[TicketAttachment], refusal: TicketClosed
) -> ResponseReturnValue:
    """What was typed into a ticket that takes no more, in the form of a new one."""
    anew = TicketForm(
        formdata=None,
        nonce=form.nonce.data,
        subject=f"Again about {found.ref}",
        category=found.category,
        text=form.text.data,
    )
    _offer_topics(anew)
    anew.text.errors = [refusal.sentence]
    return make_response(render_template("support/new.html", form=anew, kept=kept), refusal.status)


def _offer_topics(form: TicketForm) -> None:
    """What the ticket can be about. Raises `NotThere` when something else was chosen."""
    topics = [
        SelectChoice(topic.value, topic.label, optgroup=topic.kind) for topic in queries.topics_of(current_user.id)
    ]
    form.about.choices = [SelectChoice("", "Nothing in particular"), *topics]
    chosen = form.about.data or ""
    if chosen not in {choice.value for choice in form.about.choices}:
        kind, _, slug = chosen.partition(":")
        if kind != "strategy" or "\x00" in slug:
            raise NotThere(cause="a topic that is not theirs")
        # Not listed, and chosen nevertheless: a retired strategy keeps its page and its holders.
        name = catalog.strategy_by_slug(slug).name
        form.about.choices.append(SelectChoice(chosen, name, optgroup=queries.STRATEGIES))
