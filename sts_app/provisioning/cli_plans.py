"""`sts plans`: what is sold, and what it covers. What a change of coverage reaches is said before it is made."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

import click
from flask.cli import AppGroup

from sts_app.catalog import queries as catalog_queries
from sts_app.catalog import services as catalog
from sts_app.catalog.models import Mode, Plan, Strategy, StrategyStatus
from sts_app.core.commands import ACTOR, print_json, step, text
from sts_app.core.money import as_money
from sts_app.provisioning.reach import Turn, holders_of, turn_of

plans = AppGroup("plans", help="List plans, make them, change them, sell them or not.", no_args_is_help=True)
_slug = click.argument("slug", metavar="PLAN", callback=text)
_strategy = click.argument("strategy", metavar="STRATEGY", callback=text)
_yes = click.option("--yes", is_flag=True, help="Do not ask.")


class Price(click.ParamType[int]):
    """An amount such as 99 or 19.50, in cents."""

    name = "amount"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        amount = re.fullmatch(r"([0-9]{1,7})(?:\.([0-9]{1,2}))?", str(value), re.ASCII)
        if amount is None:
            self.fail("an amount is a number such as 99 or 19.50.", param, ctx)
        whole, rest = amount.groups(default="")
        return int(whole) * 100 + int(rest.ljust(2, "0"))


@dataclass(frozen=True)
class Told:
    """One plan as it is shown. `covers` are slugs of strategies, drafts among them, and None for all."""

    slug: str
    name: str
    on_sale: bool
    price_cents: int
    currency: str
    mode: str
    interval: str
    stripe_price_id: str | None
    position: int
    covers: list[str] | None
    holders: int


@plans.command("list")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def list_plans(as_json: bool) -> None:
    """Show every plan: whether it is sold, its price, what it covers, and how many people hold it."""
    with step():
        rows = [_told(plan) for plan in catalog_queries.all_plans()]
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    for row in rows:
        price = as_money(row.price_cents, row.currency) + (f" a {row.interval}" if row.interval else " once")
        covers = "every strategy" if row.covers is None else ", ".join(row.covers) or "nothing"
        click.echo(
            f"{row.slug:24} {'on sale' if row.on_sale else 'not sold':8} {price:18} "
            f"{row.stripe_price_id or 'no price at Stripe':30} held by {row.holders}, covers {covers}"
        )
    if not rows:
        click.echo("There is no plan. `sts seed` makes the first one.")


@plans.command()
@_slug
@click.option("--name", required=True, metavar="TEXT", callback=text, help="What buyers read.")
@click.option("--price", required=True, type=Price(), help="Such as 99 or 19.50.")
@click.option("--currency", default="usd", show_default=True)
@click.option("--every", type=click.Choice(["month", "year"]), help="A subscription that renews so often.")
@click.option("--all", "covers_all", is_flag=True, help="It covers every strategy, later ones too.")
@click.option("--covers", "strategies", multiple=True, metavar="STRATEGY", help="It covers this one; more than once.")
@click.option("--stripe-price", metavar="price_...", callback=text, help="The id of its price at Stripe.")
def add(
    slug: str,
    name: str,
    price: int,
    currency: str,
    every: str | None,
    covers_all: bool,
    strategies: tuple[str, ...],
    stripe_price: str | None,
) -> None:
    """Make the plan PLAN, which is not sold before `on-sale`. It is paid once, unless --every says how often."""
    with step():
        catalog.create_plan(
            slug,
            name=name,
            price_cents=price,
            currency=currency,
            mode=Mode.SUBSCRIPTION if every else Mode.PAYMENT,
            interval=every or "",
            covers_all=covers_all,
            strategies=strategies,
            stripe_price_id=stripe_price,
            actor=ACTOR,
        )
    first = "" if stripe_price else "`sts stripe-setup` gives it a price at Stripe; then "
    click.echo(f"{slug} is made. {first}`sts plans on-sale {slug}` sells it.")


@plans.command()
@_slug
@click.option("--name", metavar="TEXT", callback=text, help="What buyers read.")
@click.option("--price", type=Price(), help="Such as 99 or 19.50. Where payments are live, with --stripe-price.")
@click.option("--stripe-price", metavar="price_...", callback=text, help="The id of its price at Stripe.")
@click.option("--position", type=click.IntRange(min=0), help="Its place among the plans; the smallest comes first.")
def change(slug: str, name: str | None, price: int | None, stripe_price: str | None, position: int | None) -> None:
    """Change the name, the price or the place of PLAN. Who bought it keeps it."""
    if (name, price, stripe_price, position) == (None,) * 4:
        raise click.UsageError("Say what to change: --name, --price, --stripe-price or --position.")
    with step():
        changed = catalog.change_plan(
            catalog_queries.plan_named(slug),
            name=name,
            price_cents=price,
            stripe_price_id=stripe_price,
            position=position,
            actor=ACTOR,
        )
    click.echo(f"{slug} is changed." if changed else f"{slug} was so already.")


@plans.command("on-sale")
@_slug
def on_sale(slug: str) -> None:
    """Let PLAN be bought."""
    with step():
        changed = catalog.put_on_sale(catalog_queries.plan_named(slug), actor=ACTOR)
    click.echo(f"{slug} is on sale." if changed else f"{slug} was on sale already.")


@plans.command("off-sale")
@_slug
def off_sale(slug: str) -> None:
    """Let PLAN be bought no more. Its holders keep it, and subscriptions to it go on."""
    with step():
        changed = catalog.take_off_sale(catalog_queries.plan_named(slug), actor=ACTOR)
    click.echo(f"{slug} is not sold any more." if changed else f"{slug} was not on sale.")


@plans.command()
@_slug
@_strategy
@_yes
def cover(slug: str, strategy: str, yes: bool) -> None:
    """Put STRATEGY on the list of PLAN, and give it to whoever holds that."""
    with step():
        plan, one = _both(slug, strategy)
        click.echo(f"{plan.name} would cover {one.name}. {_reached(plan, one, 'get')}")
    _confirm(yes)
    with step():
        changed = catalog.cover(*_both(slug, strategy), actor=ACTOR)
    click.echo(f"{slug} covers {strategy}." if changed else f"{slug} covered {strategy} already.")


@plans.command()
@_slug
@_strategy
@_yes
def uncover(slug: str, strategy: str, yes: bool) -> None:
    """Take STRATEGY off the list of PLAN. Who has it by this plan alone loses it."""
    with step():
        plan, one = _both(slug, strategy)
        click.echo(f"{plan.name} would not cover {one.name} any more. {_reached(plan, one, 'lose')}")
    _confirm(yes)
    with step():
        changed = catalog.uncover(*_both(slug, strategy), confirmed=True, actor=ACTOR)
    click.echo(f"{slug} does not cover {strategy} any more." if changed else f"{slug} did not cover {strategy}.")


def _both(slug: str, strategy: str) -> tuple[Plan, Strategy]:
    """Looked up again for the deed: the catalog may have changed while somebody thought about the question."""
    return catalog_queries.plan_named(slug), catalog_queries.strategy_for_staff(strategy)


def _confirm(yes: bool) -> None:
    # Nothing is open or locked while a person thinks.
    if not yes:
        click.confirm("Go ahead?", abort=True)


def _reached(plan: Plan, strategy: Strategy, verb: str) -> str:
    """How many people get or lose it, in a sentence."""
    if strategy.status == StrategyStatus.DRAFT:
        return "It is a draft, which nobody has."
    turn: Turn = turn_of(plan, strategy)
    people = f"1 person {verb}s" if turn.people == 1 else f"{turn.people} people {verb}"
    return f"{people} it, {turn.nameless} of them without a TradingView name; who has it by another plan keeps that."


def _told(plan: Plan) -> Told:
    return Told(
        slug=plan.slug,
        name=plan.name,
        on_sale=plan.active,
        price_cents=plan.price_cents,
        currency=plan.currency,
        mode=plan.mode,
        interval=plan.interval,
        stripe_price_id=plan.stripe_price_id,
        position=plan.position,
        covers=None if plan.covers_all else [each.slug for each in catalog_queries.listed_strategies(plan)],
        holders=holders_of(plan),
    )


commands: list[click.Command] = [plans]
