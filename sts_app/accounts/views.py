"""Sign-in by letter, and sign-out."""

from __future__ import annotations

from flask import Blueprint, Response, current_app, render_template, request, session
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_fresh

from sts_app.accounts import identities, services, sessions
from sts_app.accounts.forms import CodeForm, SignInForm
from sts_app.accounts.services import SignedIn
from sts_app.core import tokens
from sts_app.core.security import limiter
from sts_app.core.web import own_path, page_or_block, see_other, toast
from sts_app.settings import AppEnv

bp = Blueprint("accounts", __name__)

LETTERS_PER_ADDRESS = "5 per 15 minutes"


def _letters_per_visitor() -> str:
    """On a developer's own machine every customer of a tour is the same visitor."""
    is_own = current_app.config["STS"].app_env is AppEnv.DEVELOPMENT
    return "50 per 15 minutes" if is_own else LETTERS_PER_ADDRESS


def _wrote_a_letter(answer: Response) -> bool:
    """A form that comes back with its faults has sent nothing, and a typo must lock nobody out."""
    return answer.status_code != 422


@bp.get("/sign-in")
def sign_in() -> ResponseReturnValue:
    next_path = own_path(request.args.get("next"))
    if current_user.is_authenticated and login_fresh():
        return see_other(next_path or "pages.dashboard")
    is_again = current_user.is_authenticated
    form = SignInForm(
        formdata=None,
        next=next_path or "",
        email=current_user.email if is_again else "",
        remember=is_again and current_app.config["REMEMBER_COOKIE_NAME"] in request.cookies,
    )
    return _page_of(form)


@bp.get("/login")
def login() -> ResponseReturnValue:
    return see_other("accounts.sign_in", next=own_path(request.args.get("next")))


@bp.post("/sign-in")
@limiter.limit(_letters_per_visitor, deduct_when=_wrote_a_letter)
@limiter.limit(
    LETTERS_PER_ADDRESS,
    key_func=lambda: request.form.get("email", "").strip().lower()[:254],
    deduct_when=_wrote_a_letter,
)
def sign_in_post() -> ResponseReturnValue:
    form = SignInForm()
    if not form.validate_on_submit():
        return _page_of(form), 422
    browser = session.setdefault("sign_in_browser", tokens.new_secret())
    token = services.ask_for_link(
        form.email.data, browser=browser, next_path=own_path(form.next.data), remember=form.remember.data
    )
    session["sign_in_token"] = token.id
    session["sign_in_email"] = form.email.data
    return see_other("accounts.letter_sent")


@bp.get("/sign-in/sent")
def letter_sent() -> ResponseReturnValue:
    if "sign_in_token" not in session:
        return see_other("accounts.sign_in")
    return render_template("accounts/letter_sent.html", form=CodeForm(), email=session["sign_in_email"])


@bp.post("/sign-in/code")
@limiter.limit("10 per 15 minutes")
def code_post() -> ResponseReturnValue:
    if "sign_in_token" not in session:
        return see_other("accounts.sign_in")
    form = CodeForm()
    signed_in = None
    if form.validate_on_submit():
        signed_in = services.sign_in_with_code(session["sign_in_token"], form.code.data, device=sessions.device())
        if signed_in is None:
            form.code.errors = [*form.code.errors, "That is not the code in the letter. Five wrong tries end it."]
    if signed_in is None:
        return page_or_block("accounts/letter_sent.html", "form", status=422, form=form, email=session["sign_in_email"])
    return enter(signed_in)


@bp.get("/sign-in/link/<link>")
@limiter.limit("30 per 15 minutes")
def continue_sign_in(link: str) -> ResponseReturnValue:
    """Show *Continue*: mail scanners open every link, and only a person presses a button.

    The browser that asked for the letter has proved itself by its cookie and goes straight in.
    """
    token = services.peek_link(link)
    browser = session.get("sign_in_browser", "")
    if token.browser_digest and tokens.matches("sign-in-browser", browser, token.browser_digest):
        return enter(services.sign_in_with_link(link, device=sessions.device()))
    return render_template("accounts/continue.html", link=link, email=token.email)


@bp.post("/sign-in/link/<link>")
@limiter.limit("10 per 15 minutes")
def continue_sign_in_post(link: str) -> ResponseReturnValue:
    return enter(services.sign_in_with_link(link, device=sessions.device()))


@bp.post("/sign-out")
def sign_out() -> ResponseReturnValue:
    sessions.end()
    toast("You are signed out.")
    return see_other("pages.home")


def enter(signed_in: SignedIn) -> ResponseReturnValue:
    """Begin the session of somebody who has shown who they are, and lead them to where they wanted to go."""
    sessions.begin(signed_in)
    toast("Welcome to the store." if signed_in.is_new else "Welcome back.")
    return see_other(signed_in.next_path or "pages.dashboard")


def _page_of(form: SignInForm) -> str:
    """The page that asks who is there. It is sent whole: one form leads to two places, by letter and by Google."""
    return render_template("accounts/sign_in.html", form=form, google_is_offered=identities.is_offered())
