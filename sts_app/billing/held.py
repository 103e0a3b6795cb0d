"""What a person holds of what a plan gives, by whichever of their reasons, and the sentence that a letter has for it.

Money tells of one payment alone: who paid twice keeps everything when one of the payments goes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sts_app.billing.rules import Access
from sts_app.catalog import queries as catalog
from sts_app.catalog.models import Plan
from sts_app.core import clock
from sts_app.provisioning import queries as provisioning
from sts_app.provisioning.rules import AccessState

MAY_END = "If that ends your subscription, another letter tells you so. Your dashboard shows how your access stands."
SUSPENDED = "Your access is suspended until the bank has decided, and comes back by itself if the payment stands."


@dataclass(frozen=True)
class Held:
    """Names of a plan's strategies by how a person's access to them stands.

    `given` is read back from TradingView, `coming` is on its way there, `waiting` is for the person or for staff to
    go on with, `resting` is suspended, `gone` was theirs. What never was theirs is in none of them.

    `begins` says that what was paid for now is a subscription which has not been read yet, and `may_end` that the
    subscription of this money waits for a last look before it ends.
    """

    given: tuple[str, ...] = ()
    coming: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    resting: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    begins: bool = False
    may_end: bool = False

    @property
    def is_all(self) -> bool:
        """Whether some reason of theirs gives them everything that they ever had of the plan."""
        return bool(self._theirs) and not self._lost

    @property
    def rests(self) -> bool:
        """Whether they hold nothing of the plan for now, and may have it back."""
        return bool(self.resting) and not self._theirs

    def is_coming(self, own: Access) -> bool:
        """Whether access is on its way, or about to be: paid by the letter's `own` money, and nothing stands yet."""
        is_about_to = own is Access.STANDS and (self.begins or not (self._theirs or self._lost))
        return not self.waiting and (bool(self.coming) or is_about_to)

    @property
    def _theirs(self) -> tuple[str, ...]:
        return self.given + self.coming + self.waiting

    @property
    def _lost(self) -> tuple[str, ...]:
        return self.resting + self.gone

    def in_words(self, own: Access, *, thing: str = "purchase") -> str:
        """Whole sentences for who holds this. `own` is what the letter's `thing` gives them, whatever else does."""
        if self.may_end:
            return MAY_END
        if self._theirs and self._lost:
            end = "has ended" if self.gone else "is suspended"
            return f"You keep your access to {_listed(self._theirs)}. Your access to {_listed(self._lost)} {end}."
        if self.waiting:
            return "Your dashboard shows how your access stands, and what it waits for."
        if self.is_coming(own):
            return "Your access is on its way, and your dashboard shows how far it is."
        if self.given:
            return "Your access goes on." if own is Access.STANDS else f"Your access goes on without this {thing}."
        if self.gone and not self.resting:
            return f"This {thing} gives no access any more. Your dashboard says Revoked once TradingView shows that."
        if own is Access.SUSPENDED:
            return SUSPENDED
        return (
            "Your access is suspended. Your dashboard says why." if self.resting else f"This {thing} gives no access."
        )


def held_by(user_id: int, plan: Plan) -> Held:
    """What this person holds of a plan now. To be asked after reasons for access have followed the money."""
    covered = {strategy.id for strategy in catalog.covered_strategies(plan)}
    rows = [row for row in provisioning.access_of(user_id, clock.now()) if row.strategy.id in covered]

    def those(*states: AccessState) -> tuple[str, ...]:
        return tuple(row.strategy.name for row in rows if row.state in states)

    return Held(
        given=those(AccessState.ACTIVE),
        coming=those(AccessState.PENDING),
        waiting=those(AccessState.ACTION_NEEDED, AccessState.FAILED),
        resting=those(AccessState.SUSPENDED),
        gone=those(AccessState.REVOKING, AccessState.REVOKED),
    )


def _listed(names: Sequence[str]) -> str:
    """`A`, `A and B`, `A, B and C`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
