"""`sts explain`: why somebody has access or has not, readable in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Protocol

import click
from flask.cli import with_appcontext

from sts_app.catalog import queries as catalog
from sts_app.core.commands import print_json
from sts_app.core.db import transaction
from sts_app.core.errors import NotThere
from sts_app.core.money import as_moment
from sts_app.provisioning.explain import Explanation, person_called
from sts_app.provisioning.explain import explain as explained
from sts_app.provisioning.verdicts import PairTold, StrategyTold

AS_WANTED, NOT_YET, NOBODY = 0, 1, 2


class Unpaid(Protocol):
    """A purchase that gives no access yet, because its payment has not arrived."""

    @property
    def purchase(self) -> str: ...
    @property
    def plan(self) -> str: ...
    @property
    def words(self) -> str: ...
    @property
    def next(self) -> str: ...
    @property
    def is_with_bank(self) -> bool: ...


def explaining(unpaid_of: Callable[[int], Sequence[Unpaid]]) -> click.Command:
    """`sts explain`. `unpaid_of` gives the open purchases of a user id, of which this floor knows nothing."""

    @click.command(short_help="Why somebody has access or has not.")
    @click.argument("who", metavar="EMAIL|NAME")
    @click.argument("strategy", metavar="[STRATEGY]", required=False)
    @click.option("--json", "as_json", is_flag=True, help="The same for machines.")
    @with_appcontext
    def explain(who: str, strategy: str | None, as_json: bool) -> None:
        """Say why somebody has access or has not, by e-mail address or TradingView name.

        Exit code 0: all is as wanted. 1: something is not yet. 2: nobody, or no strategy, is called that.
        """
        with transaction():
            user_id = person_called(who)
            if user_id is None:
                raise _Nobody(f"Nobody has the {'address' if '@' in who else 'TradingView name'} {who!r}.")
            found = explained(user_id, _id(strategy) if strategy else None)
            unpaid = unpaid_of(user_id)
        if as_json:
            print_json(_for_machines(found, unpaid))
        else:
            for line in _lines(found, unpaid):
                click.echo(line)
        is_all = found.as_wanted and not any(each.is_with_bank for each in unpaid)
        click.get_current_context().exit(AS_WANTED if is_all else NOT_YET)

    return explain


class _Nobody(click.ClickException):
    exit_code = NOBODY


def _id(slug: str) -> int:
    try:
        return catalog.strategy_for_staff(slug).id
    except NotThere as refusal:
        raise _Nobody(refusal.sentence) from None


def _for_machines(found: Explanation, unpaid: Sequence[Unpaid]) -> dict[str, Any]:
    of_each = ("purchase", "plan", "words", "next", "is_with_bank")
    return asdict(found) | {"unpaid": [{name: getattr(each, name) for name in of_each} for each in unpaid]}


def _lines(found: Explanation, unpaid: Sequence[Unpaid]) -> Iterator[str]:
    yield f"{found.email} (user {found.user_id}), {as_moment(found.at)}"
    yield found.verdict
    if len(unpaid) == 1:
        yield "A purchase is not paid yet, and gives no access before."
    elif unpaid:
        yield f"{len(unpaid)} purchases are not paid yet, and give no access before."
    yield f"At TradingView {found.vendor}."
    yield ""
    yield "TradingView names"
    yield from (f"  {name.spelling}: {name.words}." for name in found.names)
    yield from () if found.names else ("  none",)
    yield "Reasons"
    yield from (
        f"  {reason.source} ({reason.plan}) {'counts' if reason.holds else 'does not count'}: it {reason.words}."
        for reason in found.reasons
    )
    yield from () if found.reasons else ("  none",)
    if unpaid:
        yield "Purchases that are not paid"
    for each in unpaid:
        yield f"  {each.purchase} ({each.plan}): {each.words}."
        yield f"    Next: {each.next}"
    for strategy in found.strategies:
        yield ""
        yield from _strategy_lines(strategy)


def _strategy_lines(told: StrategyTold) -> Iterator[str]:
    yield f"{told.name} ({told.slug}): {told.state.value if told.customer else 'not theirs'}"
    yield f"  {told.verdict}"
    if told.customer:
        yield f"  The customer reads: {told.customer}"
    for pair in told.pairs:
        yield from _pair_lines(pair)


def _pair_lines(pair: PairTold) -> Iterator[str]:
    proof = f", {pair.evidence or 'nothing was ever sent'}" if pair.state in ("verified", "absent") else ""
    since = f" on {as_moment(pair.since)}" if pair.since else ""
    number = f" (grant {pair.grant_id})" if pair.grant_id else ""
    yield f"  {pair.name} with {pair.script_id}{number}: {pair.words}{proof}{since}; {pair.because}."
    yield f"    Next: {pair.next}"
    for each in pair.tries:
        reason = f" ({each.reason})" if each.reason else ""
        yield f"    {as_moment(each.at)}  {each.act}: {each.words}{reason}"
