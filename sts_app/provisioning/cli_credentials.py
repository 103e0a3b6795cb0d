"""`sts credentials` and `sts rotate-key`: enter, see and retire what signs us in at TradingView."""

from __future__ import annotations

from datetime import datetime
from typing import TextIO

import click
from flask import current_app
from flask.cli import AppGroup, with_appcontext

from sts_app.core.commands import ACTOR, Refused, step, text
from sts_app.core.db import transaction
from sts_app.core.errors import Refusal
from sts_app.provisioning import adapter_for, cookies, entering
from sts_app.provisioning import credentials as stored

credentials = AppGroup(
    "credentials", help="Enter, see and retire the credentials of TradingView. They are never shown."
)


@credentials.command("set")
@click.option(
    "--session-id-file",
    type=click.File(errors="replace"),
    help="A file that holds the session id, or both cookies as a Cookie header; - is standard input.",
)
@click.option("--signature-file", type=click.File(errors="replace"), help="A file that holds the signature.")
@click.option(
    "--api-url",
    metavar="URL",
    help="The access service; without this option the one that is stored stays. Empty for that of TV_ACCESS_API_URL. "
    "Where the service signs in itself, leave both prompts empty.",
)
def set_(session_id_file: TextIO | None, signature_file: TextIO | None, api_url: str | None) -> None:
    """Save the session id and the signature, once TradingView has accepted them.

    Sign in at www.tradingview.com as the owner of the scripts. Open the browser's developer tools (F12),
    there Application (in Firefox: Storage), then Cookies, then https://www.tradingview.com, and copy the
    values of the cookies sessionid and sessionid_sign. What you paste at the prompts is not shown. They can
    also come from a file or a pipe; as arguments they would stand in the shell's history, so they cannot.

    The credentials are tried first: five times in a minute at most, one call each. Only what TradingView
    accepts is stored, encrypted, in place of what was active; it also ends an open incident. An access service
    needs TV_CANARY_USERNAME for that: without it only its being there is checked.

    Exit codes: 0 stored, 1 refused, 75 try again later. Unless it is 0, nothing has changed.
    """
    try:
        number, accepted = _saved(session_id_file, signature_file, api_url)
    except Refusal as refusal:
        raise Refused(refusal) from None
    click.echo(accepted.sentence)
    if service := entering.service_of(accepted.credentials):
        click.echo(f"The access service that was asked is {service}, {_source(accepted.credentials, api_url)}.")
    click.echo(f"They are stored as number {number} and active from now on.")


def _saved(
    session_id_file: TextIO | None, signature_file: TextIO | None, api_url: str | None
) -> tuple[int, entering.Accepted]:
    entering.refuse_unready()
    session_id, signature = _given(session_id_file, signature_file, may_be_empty=bool(api_url))
    candidate = entering.shaped(session_id=session_id, signature=signature, api_url=api_url or "")
    with transaction():
        if api_url is None:
            candidate = entering.at_the_address_kept(candidate)
        entering.count_try(actor=ACTOR)
        adapter = adapter_for(current_app.config["STS"], candidate)
    accepted = entering.ask(candidate, adapter)
    with transaction():
        return entering.keep(accepted, actor=ACTOR), accepted


def _source(kept: stored.Credentials, api_url: str | None) -> str:
    """Where the address of the access service comes from."""
    if kept.api_url is None:
        return "that of TV_ACCESS_API_URL"
    return "whose address was stored before" if api_url is None else "as entered"


def _given(session_id_file: TextIO | None, signature_file: TextIO | None, *, may_be_empty: bool) -> tuple[str, str]:
    """What stands in the files; without any of them, what a person types unseen."""
    if session_id_file or signature_file:
        # A letter more than is taken, so that an endless pipe is refused and not read.
        session_id, signature = (
            file.read(cookies.LONGEST_PASTED + 1) if file else "" for file in (session_id_file, signature_file)
        )
        return session_id, signature

    def ask(words: str) -> str:
        typed = click.prompt(words, hide_input=True, show_default=False, default="" if may_be_empty else None)
        return str(typed)

    session_id = ask("sessionid, or a whole Cookie header (not shown)")
    if cookies.holds_both(session_id):
        return session_id, ""
    return session_id, ask("sessionid_sign (not shown)")


@credentials.command()
def show() -> None:
    """Say how old the active credentials are and who entered them; never what they are.

    Exit codes: 0 when there are some that can be read, 1 when not.
    """
    with step():
        found = stored.kept()
        try:
            active = stored.active()
        except stored.CannotRead as trouble:
            raise click.ClickException(f"Number {trouble.credential_id}: {trouble.reason}.") from None
    if active is None:
        raise click.ClickException("There are no credentials. `sts credentials set` saves some.")
    if found is None:
        click.echo(
            "The credentials come from TV_SESSION_ID and TV_SIGNATURE, which is deprecated: nobody knows how old they "
            "are. `sts credentials set` saves them encrypted."
        )
        return
    held = {"session id": active.session_id, "signature": active.signature, "API address": active.api_url}
    click.echo(f"Number {found.id}, entered by {found.entered_by} and accepted {_at(found.validated_at)}.")
    click.echo(f"They hold: {', '.join(words for words, secret in held.items() if secret is not None)}.")
    click.echo(f"Sealed under the key {found.key_id}.")
    click.echo(f"Age: {_days(found.age.days)}.{_urgency(found)}")


@credentials.command()
def history() -> None:
    """List every set that ever was stored: when, by whom, under which key, and why it was retired."""
    with step():
        sets = stored.history()
    if not sets:
        click.echo("No credentials were ever stored.")
    for each in sets:
        ended = f"retired {_at(each.retired_at)}: {each.retired_because}" if each.retired_at else "active"
        key = each.key_id if each.key == "present" else f"{each.key_id} ({each.key})"
        click.echo(f"{each.id:>4}  {_at(each.validated_at)}  by {each.entered_by}  key {key}  {ended}")


@credentials.command()
@click.option(
    "--reason",
    "because",
    required=True,
    metavar="TEXT",
    callback=text,
    help="Why; it stands in the history and in the audit log.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def retire(because: str, yes: bool) -> None:
    """Stop using the active credentials, without new ones in their place."""
    if not yes:
        click.confirm("Automatic access stops until credentials are set again. Go ahead?", abort=True)
    with step():
        number = stored.retire(actor=ACTOR, because=because)
    click.echo(f"Number {number} is retired.")
    settings = current_app.config["STS"]
    if settings.tv_session_id is not None or settings.tv_signature is not None:
        click.echo("TV_SESSION_ID and TV_SIGNATURE of the environment are used from now on. Remove them to use none.")


@click.command("rotate-key")
@with_appcontext
def rotate_key() -> None:
    """Seal every stored secret under the present CREDENTIAL_ENCRYPTION_KEY.

    Put the new key into CREDENTIAL_ENCRYPTION_KEY and the old one into CREDENTIAL_ENCRYPTION_KEY_FALLBACKS on
    every process, deploy, run this, and remove the old key. It may be stopped and run again at any time.

    Exit codes: 0 when the old keys are needless now, 1 when something does not open with any key.
    """
    sealed = unreadable = after = 0
    with step():
        key_id = stored.present_key_id()
    while True:
        with step():
            batch = stored.reseal(actor=ACTOR, after=after)
        if batch is None:
            break
        sealed, unreadable, after = sealed + batch.sealed, unreadable + batch.unreadable, batch.last_id
    click.echo(f"Sealed under the key {key_id} now: {sealed}. Not readable with any key: {unreadable}.")
    if unreadable:
        raise click.ClickException("Bring the missing key back as a fallback and run this again, or leave them lost.")
    click.echo("CREDENTIAL_ENCRYPTION_KEY_FALLBACKS is needless now.")


def _urgency(found: stored.Kept) -> str:
    if found.is_too_old:
        return " Replace them now."
    return " Replace them soon." if found.is_old else ""


def _days(count: int) -> str:
    return "1 day" if count == 1 else f"{count} days"


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


commands: list[click.Command] = [credentials, rotate_key]
