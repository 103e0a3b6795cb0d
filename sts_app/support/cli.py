"""`sts tickets`: who waits for an answer, what they wrote, and what staff do about it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from flask.cli import AppGroup, with_appcontext

from sts_app.core import clock
from sts_app.core.commands import ACTOR, print_json, step
from sts_app.core.money import as_moment
from sts_app.core.web import LARGEST_ROW_NUMBER
from sts_app.support import canned, desk, desk_queries, queries
from sts_app.support.desk_queries import DeskRow
from sts_app.support.models import SupportTicket
from sts_app.support.queries import Line
from sts_app.support.rules import Category, Priority, Side, TicketStatus, tidy

PAGE = 50
FROM = {Side.CUSTOMER: "Customer", Side.STAFF: "Support", Side.NOTE: "Note, for staff alone"}


def _choice(words: type[TicketStatus] | type[Priority]) -> click.Choice[str]:
    return click.Choice([word.value for word in words], case_sensitive=False)


_ref = click.argument("ref", metavar="REF")
_text = click.option("--text", "words", metavar="TEXT", help="What to write. Left out, it is read from standard input.")


@click.group(cls=AppGroup, invoke_without_command=True)
@click.pass_context
def tickets(ctx: click.Context) -> None:
    """Work the tickets of customers and of people who wrote through the contact page.

    Without a command it lists those that wait for an answer, the oldest promise first.
    """
    if ctx.invoked_subcommand is None:
        _list_waiting(as_json=False, limit=PAGE)


@tickets.command("list")
@click.option("--all", "everything", is_flag=True, help="All tickets, the latest message first.")
@click.option("--status", type=_choice(TicketStatus), help="Only those with this status.")
@click.option("--priority", type=_choice(Priority), help="Only those with this priority.")
@click.option("--search", default="", metavar="TEXT", help="In reference, address or subject.")
@click.option("--suspected", is_flag=True, help="What was probably not written by a person. Nobody was told of these.")
@click.option("--limit", type=click.IntRange(1, 1000), default=PAGE, show_default=True, help="How many at most.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def list_(
    everything: bool,
    status: str | None,
    priority: str | None,
    search: str,
    suspected: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List the tickets that wait for an answer, or with an option others."""
    if not (everything or status or priority or search or suspected):
        _list_waiting(as_json=as_json, limit=limit)
        return
    now = clock.now()
    with step():
        rows = desk_queries.tickets_matching(
            now, search=search, status=status or "", priority=priority or "", suspected=suspected, limit=limit
        )
    _print_rows(rows, as_json=as_json)


@with_appcontext
def _list_waiting(*, as_json: bool, limit: int) -> None:
    now = clock.now()
    with step():
        rows, counts = desk_queries.waiting_for_staff(now, limit=limit), desk_queries.counts(now)
    _print_rows(rows, as_json=as_json, counts=asdict(counts))
    if not as_json:
        click.echo(
            f"{counts.waiting} wait for an answer, {counts.late} of them longer than promised; "
            f"{counts.waiting_on_customer} wait for the customer; {counts.suspected} suspected."
        )


@tickets.command()
@_ref
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def show(ref: str, as_json: bool) -> None:
    """Show a ticket with its whole thread, notes included."""
    now = clock.now()
    with step():
        ticket = queries.ticket_by_ref(ref)
        row = desk_queries.desk_row(ticket.id, now)
        assert row is not None, "it was found a line above"
        lines = queries.thread_of(ticket.id, notes=True, limit=10_000).lines
        purchase, strategy = queries.about(ticket)
    if as_json:
        print_json(_as_dict(row) | {"messages": [_line_as_dict(line) for line in lines]})
        return
    _print_row(row)
    for name, value in (
        ("Purchase", purchase.ref if purchase is not None else None),
        ("Strategy", strategy.name if strategy is not None else None),
        ("Name given", ticket.name or None),
    ):
        if value:
            click.echo(f"{'':8}{name}: {_shown(value)}")
    for line in lines:
        click.echo(f"\n{as_moment(line.message.created_at)}  {FROM[Side(line.message.side)]} ({line.message.actor})")
        for written in line.message.text.split("\n"):
            click.echo(f"  {_shown(written)}")
        for picture in line.pictures:
            click.echo(f"  [picture {picture.id}: {picture.kind}, {picture.width} x {picture.height}]")


@tickets.command()
@_ref
@_text
@click.option("--canned", "slug", type=click.Choice([each.slug for each in canned.CANNED]), help="One of `canned`.")
@click.option(
    "--then",
    type=click.Choice([TicketStatus.IN_PROGRESS, TicketStatus.RESOLVED, TicketStatus.CLOSED], case_sensitive=False),
    help="What the ticket is then. Left out, it waits for the customer.",
)
def reply(ref: str, words: str | None, slug: str | None, then: str | None) -> None:
    """Answer the customer. They get one letter with what you write."""
    if slug is not None and words is not None:
        raise click.UsageError("Either --text or --canned, not both.")
    chosen = next((each for each in canned.CANNED if each.slug == slug), None)
    # Read before anything is begun: somebody may type it.
    text = _written(words) if chosen is None else ""
    with step():
        ticket = queries.ticket_by_ref(ref)
        text = text if chosen is None else chosen.for_ticket(ticket)
        desk.reply(ticket.id, text, actor=ACTOR, then=TicketStatus(then.upper()) if then else None)
        told = f"{ticket.ref} is now {ticket.status}. A letter is on its way."
    click.echo(told)


@tickets.command()
@_ref
@_text
def note(ref: str, words: str | None) -> None:
    """Write down what only staff read."""
    text = _written(words)
    with step():
        desk.note(queries.ticket_by_ref(ref).id, text, actor=ACTOR)
    click.echo("Noted. The customer does not see it.")


@tickets.command()
@_ref
@click.argument("status", type=_choice(TicketStatus))
def status(ref: str, status: str) -> None:
    """Give a ticket another status. A customer is told by letter that theirs is resolved."""
    _change(ref, lambda ticket: desk.set_status(ticket.id, TicketStatus(status.upper()), actor=ACTOR))


@tickets.command()
@_ref
@click.argument("priority", type=_choice(Priority))
def priority(ref: str, priority: str) -> None:
    """Give a ticket another priority: what was promised changes with it."""
    _change(ref, lambda ticket: desk.set_priority(ticket.id, Priority(priority.upper()), actor=ACTOR))


@tickets.command()
@_ref
@click.argument("email", required=False)
@click.option("--nobody", is_flag=True, help="Take it from whoever has it.")
def assign(ref: str, email: str | None, nobody: bool) -> None:
    """Give a ticket to the member of staff with the address EMAIL, or to --nobody."""
    if (email is None) != nobody:
        raise click.UsageError("Say the address of a member of staff, or --nobody.")
    _change(ref, lambda ticket: desk.assign(ticket.id, email, actor=ACTOR))


@tickets.command()
@_ref
def accept(ref: str) -> None:
    """Say that a suspected ticket was written by a person. The letters about it go out now."""
    _change(ref, lambda ticket: desk.accept(ticket.id, actor=ACTOR))


@tickets.command("canned")
@click.option("--for", "category", type=click.Choice([each.value for each in Category]), help="Those for it first.")
def canned_(category: str | None) -> None:
    """Show the answers that are given often."""
    for each in canned.canned_for(Category(category)) if category else canned.CANNED:
        click.echo(f"{each.slug}: {each.title}")
        for line in each.text.split("\n"):
            click.echo(f"  {line}")
        click.echo()


@tickets.command()
@_ref
@click.argument("picture_id", type=click.IntRange(1, LARGEST_ROW_NUMBER))
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def picture(ref: str, picture_id: int, file: Path) -> None:
    """Write a picture of a ticket to FILE, to look at. An existing file is left alone."""
    with step():
        found = queries.picture_in(queries.ticket_by_ref(ref).id, picture_id, notes=True)
        data = found.data
    try:
        with file.open("xb") as out:
            out.write(data)
    except OSError as error:
        raise click.ClickException(f"{file} cannot be written: {error.strerror}.") from None
    click.echo(f"{file}: {found.kind}, {found.width} x {found.height}.")


def _change(ref: str, deed: Callable[[SupportTicket], SupportTicket]) -> None:
    now = clock.now()
    with step():
        changed = deed(queries.ticket_by_ref(ref))
        row = desk_queries.desk_row(changed.id, now)
        assert row is not None, "it was changed a line above"
    _print_row(row)


def _written(words: str | None) -> str:
    """What is to be written: the option, or all of standard input. Ends the command when that is nothing."""
    if words is None:
        if sys.stdin.isatty():
            click.echo("Type the text, and end it with Ctrl-D on a line of its own.", err=True)
        words = sys.stdin.read()
    text = tidy(words)
    if not text:
        raise click.UsageError("There is nothing to write: give it with --text or on standard input.")
    return text


def _print_rows(rows: list[DeskRow], *, as_json: bool, counts: dict[str, int] | None = None) -> None:
    if as_json:
        told: dict[str, Any] = {"tickets": [_as_dict(row) for row in rows]}
        print_json(told | ({"counts": counts} if counts is not None else {}))
        return
    for row in rows:
        _print_row(row)
    if not rows:
        click.echo("No ticket.")


def _print_row(row: DeskRow) -> None:
    ticket = row.ticket
    click.echo(f"{ticket.ref}  {ticket.priority:6}  {ticket.status}  {_shown(ticket.subject)}")
    whose = f"{row.email}{'' if row.has_account else ' (contact form)'}" if row.email else "forgotten"
    click.echo(f"{'':8}{ticket.category}, from {whose}, with {row.assignee or 'nobody'}")
    if ticket.answer_due_at is not None:
        late = ", which is over" if row.is_late else ""
        click.echo(f"{'':8}Answer promised until {as_moment(ticket.answer_due_at)}{late}")


def _as_dict(row: DeskRow) -> dict[str, Any]:
    ticket = row.ticket
    columns = (
        "ref", "subject", "category", "priority", "status", "suspected", "created_at", "waiting_since",
        "answer_due_at", "first_answered_at", "last_message_at",
    )  # fmt: skip
    return {name: getattr(ticket, name) for name in columns} | {
        "email": row.email,
        "has_account": row.has_account,
        "assignee": row.assignee,
        "is_late": row.is_late,
    }


def _line_as_dict(line: Line) -> dict[str, Any]:
    return {
        "side": line.message.side,
        "actor": line.message.actor,
        "at": line.message.created_at,
        "text": line.message.text,
        "pictures": [picture.id for picture in line.pictures],
    }


def _shown(text: str) -> str:
    """What a terminal shows as it stands: nothing that turns the direction of writing or hides a part of the line."""
    return "".join(mark if mark.isprintable() else "\ufffd" for mark in text)


commands: list[click.Command] = [tickets]
