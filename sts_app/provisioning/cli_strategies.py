"""`sts strategies`: put them on sale, retire them, give them another script; each says first whom it reaches."""

from __future__ import annotations

import math
from datetime import timedelta

import click
from flask.cli import AppGroup

from sts_app.catalog import queries as catalog_queries
from sts_app.catalog import services as catalog
from sts_app.catalog.models import Strategy
from sts_app.core.commands import ACTOR, step
from sts_app.provisioning import control
from sts_app.provisioning.reach import Reach, reach_of

strategies = AppGroup("strategies", help="List strategies, put them on sale, retire them, give them another script.")
_yes = click.option("--yes", is_flag=True, help="Do not ask.")


@strategies.command("list")
def list_strategies() -> None:
    """Show every strategy: status, script, and how many of those entitled to it hold it."""
    with step():
        former = catalog_queries.former_scripts()
        for strategy in catalog_queries.all_strategies():
            reach = reach_of(strategy.id)
            before = len(former.get(strategy.id, ()))
            words = f"held by {reach.holding} of {reach.people}" + (f", former scripts: {before}" if before else "")
            click.echo(f"{strategy.slug:24} {strategy.status:8} {strategy.script_id:36} {words}")


@strategies.command()
@click.argument("slug")
@_yes
def activate(slug: str, yes: bool) -> None:
    """Put a draft or retired strategy on sale, and give it to everybody whose plan covers it."""
    with step():
        strategy = catalog_queries.strategy_for_staff(slug)
        _preview(f"{strategy.name} would go on sale with {strategy.script_id}.", reach_of(strategy.id))
    _confirm(yes)
    with step():
        changed = catalog.activate(_id(slug), ACTOR)
    click.echo(f"{slug} is on sale." if changed else f"{slug} was on sale already.")


@strategies.command()
@click.argument("slug")
@_yes
def retire(slug: str, yes: bool) -> None:
    """Take a strategy off the listing. Its holders keep it."""
    with step():
        strategy = catalog_queries.strategy_for_staff(slug)
        people = reach_of(strategy.id).people
        click.echo(f"{strategy.name} would leave the listing. {_people(people)} keep it, and new owners still get it.")
    _confirm(yes)
    with step():
        changed = catalog.retire(_id(slug), ACTOR)
    click.echo(f"{slug} is retired." if changed else f"{slug} was retired already.")


@strategies.command("change-script")
@click.argument("slug")
@click.argument("script_id", metavar="PUB;...")
@_yes
def change_script(slug: str, script_id: str, yes: bool) -> None:
    """Give a strategy another pine id, and move its holders. Put the id in quotes: it holds a semicolon."""
    with step():
        strategy = catalog_queries.strategy_for_staff(slug)
        _preview(
            f"{strategy.name} would move from {strategy.script_id} to {script_id}.", reach_of(strategy.id, script_id)
        )
    _confirm(yes)
    with step():
        changed = catalog.change_script(_id(slug), script_id, actor=ACTOR)
    click.echo(f"{slug} has {script_id} now." if changed else f"{slug} had {script_id} already.")


def _id(slug: str) -> int:
    """Looked up again: the catalog may have changed while somebody thought about the question."""
    strategy: Strategy = catalog_queries.strategy_for_staff(slug)
    return strategy.id


def _confirm(yes: bool) -> None:
    # Nothing is open or locked while a person thinks.
    if not yes:
        click.confirm("Go ahead?", abort=True)


def _preview(deed: str, reach: Reach) -> None:
    click.echo(deed)
    click.echo(
        f"It reaches {_people(reach.people)}: {reach.to_give} to give, {reach.holding} hold it already, "
        f"{reach.nameless} without a TradingView name yet."
    )
    if reach.leaving:
        click.echo(f"{reach.leaving} with another script of it lose that one, each after the new one is read back.")
    if not reach.to_give + reach.leaving:
        return
    if control.standing().by_hand:
        click.echo("The store works by hand at present: each is a task for a person.")
    else:
        click.echo(f"At the pace that is set this takes {_about(reach.takes)}; new buyers go first.")


def _people(count: int) -> str:
    return "1 person" if count == 1 else f"{count} people"


def _about(time: timedelta) -> str:
    minutes = math.ceil(time.total_seconds() / 60)
    if minutes <= 120:
        return "up to a minute" if minutes <= 1 else f"about {minutes} minutes"
    return f"about {math.ceil(minutes / 60)} hours"


commands: list[click.Command] = [strategies]
