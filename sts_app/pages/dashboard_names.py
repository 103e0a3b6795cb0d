"""The TradingView names a customer's access stands under: during a change both, until the old one is removed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sts_app.provisioning import queries as provisioning
from sts_app.provisioning.rules import GrantState


@dataclass(frozen=True)
class NameStanding:
    """One name. `holds` strategies stand under it, of `of` that should in the end, or that did for one that goes.

    `is_kept` says of an earlier name that it is still needed: something does not stand under the new one yet.
    """

    spelling: str
    is_current: bool
    since: datetime
    verified_at: datetime | None
    holds: int
    of: int
    is_kept: bool = False

    @property
    def words(self) -> str:
        """What happens with an earlier name, for its owner."""
        strategies = "1 strategy" if self.holds == 1 else f"{self.holds} strategies"
        if self.is_kept:
            return f"keeps {strategies} until TradingView shows them under the new name"
        if self.holds:
            return f"is being removed from {strategies}"
        return "has nothing left, and is about to be free"


def names_standing(user_id: int) -> list[NameStanding]:
    """The present name first, then earlier ones that something still stands under. Empty for who gave none."""
    names = provisioning.names_of(user_id)
    grants = provisioning.grants_of(name.name_key for name in names)
    found = []
    for name in names:
        own = [grant for grant in grants if grant.name_key == name.name_key]
        verified = sum(grant.state == GrantState.VERIFIED for grant in own)
        if name.replaced_at is None:
            of = sum(grant.wanted for grant in own)
            holding = sum(grant.wanted and grant.state == GrantState.VERIFIED for grant in own)
            found.append(NameStanding(name.spelling, True, name.created_at, name.verified_at, holding, of))
            continue
        left = [grant for grant in own if grant.state != GrantState.ABSENT and grant.called_at is not None]
        kept = any(grant.wanted for grant in left)
        if left:
            holds = verified if kept else len(left)
            found.append(NameStanding(name.spelling, False, name.created_at, name.verified_at, holds, len(own), kept))
    return sorted(found, key=lambda each: (not each.is_current, each.since))
