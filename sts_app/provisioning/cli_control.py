"""`sts provisioning`: whether automatic calls to TradingView are made, and what stands in their way."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import click
from flask.cli import AppGroup

from sts_app.core import clock
from sts_app.core.commands import ACTOR, print_json, step, text
from sts_app.core.db import db
from sts_app.core.errors import FixInput, NotThere
from sts_app.core.money import as_moment
from sts_app.provisioning import control, credentials, pace, queries, way, worklist
from sts_app.provisioning.control import Check
from sts_app.provisioning.models import ProvisioningControl
from sts_app.provisioning.rules import Switch

provisioning = AppGroup(
    "provisioning", help="See and set whether automatic calls to TradingView are made.", no_args_is_help=True
)
_because = click.option(
    "--reason", "because", required=True, metavar="TEXT", callback=text, help="Why; it stands in the audit log."
)


@provisioning.command()
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def status(as_json: bool) -> None:
    """Show the switch, the incident, the circuit, the pace, what is due, open tasks and the credentials' age."""
    with step():
        facts = _facts()
    if as_json:
        print_json(facts)
        return
    for label, line in _lines(facts):
        click.echo(f"{label:12} {line}")


@provisioning.command()
@_because
def auto(because: str) -> None:
    """Let automatic calls be made. Refused while TradingView refuses our session; then see `resume`."""
    _switch(Switch.AUTO, because, "Everything that waits is due, who paid first before the others.")


@provisioning.command()
@_because
def manual(because: str) -> None:
    """Make no automatic call that changes anything: what is due goes to people, as tasks."""
    _switch(Switch.MANUAL, because, "What is due goes to people; `sts tasks` lists it.")


@provisioning.command()
@_because
def disabled(because: str) -> None:
    """Make no call at all, hand out no task, and sell nothing."""
    _switch(Switch.DISABLED, because, "No calls, no new tasks, no sales.")


@provisioning.command()
def resume() -> None:
    """Ask TradingView for the session with the present credentials, and end the incident when it accepts them.

    The switch goes back to AUTO if the incident moved it. For new credentials use `sts credentials set`,
    which does the same.

    Exit codes: 0 TradingView accepts the session, 1 it does not.
    """
    with step():
        if control.standing().switch is Switch.DISABLED:
            raise FixInput("The switch stands at DISABLED, so nothing is asked. `sts provisioning manual` first.")
        found = way()
        if found is None:
            raise NotThere("This store has no way to TradingView: PROVISIONING_MODE is manual.")
    check, reason = control.ask_session(found.adapter)
    with step():
        control.settle_check(check, reason, credential_id=found.credential_id)
        ended = check is Check.FINE and control.session_restored(
            actor=ACTOR, because="asked by a person, TradingView accepts the session"
        )
        switch = control.standing().switch
    if check is Check.REFUSED:
        raise click.ClickException(f"TradingView refuses the session: {reason}. `sts credentials set` saves others.")
    if check is Check.NO_ANSWER:
        raise click.ClickException(f"TradingView did not answer: {reason}. Nothing has changed.")
    click.echo("TradingView accepts the session." + (" The incident is over." if ended else " No incident was open."))
    click.echo(f"The switch stands at {switch}.")


def _switch(to: Switch, because: str, follows: str) -> None:
    with step():
        before = control.standing().switch
        control.set_switch(to, actor=ACTOR, because=because)
    if before is to:
        click.echo(f"The switch stood at {to} already.")
    else:
        click.echo(f"The switch went from {before} to {to}. {follows}")


def _facts() -> dict[str, Any]:
    now = clock.now()
    stands, incident = control.standing(), control.open_incident()
    # Looked at, not taken: whoever asks how things stand holds nobody up.
    row = db.session.get_one(ProvisioningControl, 1)
    tasks, held = worklist.counts(), credentials.kept()
    return {
        "switch": {
            "is": stands.switch,
            "at": row.switched_at,
            "by": row.switched_by,
            "because": row.switched_because,
        },
        "hasAdapter": stands.has_adapter,
        "mayRead": stands.may_read,
        "mayWrite": stands.may_write,
        "salesClosed": stands.sales_closed,
        "incident": incident
        and {
            "id": incident.id,
            "since": incident.created_at,
            "reason": incident.reason,
            "refusals": incident.refusals,
            "lastRefusedAt": incident.last_refused_at,
            "told": incident.told,
        },
        "circuit": {
            "openSince": row.circuit_opened_at,
            "because": row.circuit_because,
            "canaryAt": row.canary_at,
            "failuresInRow": row.failures_in_row,
        },
        "session": {"checkedAt": row.session_checked_at, "verdict": row.session_verdict},
        "pace": pace.figures(),
        "due": queries.grants_due(now),
        "pairs": queries.count_by_state(),
        "tasks": {
            "open": tasks.open,
            "toGive": tasks.to_give,
            "toRemove": tasks.to_remove,
            "byKind": tasks.by_kind,
            "waitingSince": tasks.waiting_since,
        },
        "credentials": held
        and {"id": held.id, "validatedAt": held.validated_at, "ageDays": held.age.days, "isTooOld": held.is_too_old},
    }


def _lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """The same for people, a label and a line each."""
    switch, incident, circuit, tasks = facts["switch"], facts["incident"], facts["circuit"], facts["tasks"]
    told: list[tuple[str, str]] = [("Switch", _since(switch["is"], switch["at"], switch["by"], switch["because"]))]
    if not facts["hasAdapter"]:
        told.append(("Adapter", "none: PROVISIONING_MODE is manual, everything is worked by hand"))
    told.append(
        (
            "Incident",
            f"number {incident['id']}, since {as_moment(incident['since'])}: {incident['reason']}"
            if incident
            else "none",
        )
    )
    told.append(
        (
            "Circuit",
            f"open since {as_moment(circuit['openSince'])}: {circuit['because']}; "
            f"the next call is made {as_moment(circuit['canaryAt'])}"
            if circuit["openSince"]
            else f"closed, failures in a row: {circuit['failuresInRow']}",
        )
    )
    session = facts["session"]
    unasked = session["verdict"] or "never asked for"
    asked = _or(session["checkedAt"], lambda at: f"{session['verdict']}, asked {as_moment(at)}", unasked)
    told.append(("Session", asked))
    for kind in ("write", "read"):
        bucket = facts["pace"].get(kind)
        if bucket is not None:
            held = f", nobody before {bucket['heldUntil']}" if bucket["heldUntil"] else ""
            told.append((f"Pace, {kind}s", f"{bucket['perMinute']} a minute, {bucket['tokens']} at once now{held}"))
    calls = ", ".join(f"{each['calls']} {each['kind']} {each['outcome']}" for each in facts["pace"]["lastHour"])
    told.append(("Last hour", calls or "no calls"))
    told.append(("Due", str(facts["due"])))
    told.append(("Pairs", ", ".join(f"{count} {state}" for state, count in sorted(facts["pairs"].items())) or "none"))
    waiting = f", the oldest since {as_moment(tasks['waitingSince'])}" if tasks["waitingSince"] else ""
    told.append(("Tasks", f"{tasks['open']} open: {tasks['toGive']} to give, {tasks['toRemove']} to remove{waiting}"))
    told.append(("Credentials", _or(facts["credentials"], _age, "none stored")))
    return told


def _since(switch: Switch, at: datetime | None, by: str | None, because: str | None) -> str:
    return f"{switch} since {as_moment(at)}, by {by}: {because}" if at is not None else f"{switch}"


def _age(held: dict[str, Any]) -> str:
    days = held["ageDays"]
    urgent = "; replace them now" if held["isTooOld"] else ""
    return f"number {held['id']}, {days} {'day' if days == 1 else 'days'} old{urgent}"


def _or(value: Any, words: Callable[[Any], str], otherwise: str) -> str:
    return words(value) if value else otherwise


commands: list[click.Command] = [provisioning]
