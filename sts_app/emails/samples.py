"""Sample letters: what a room gives of each letter it writes, so that people and tests can look at all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sts_app.emails import services
from sts_app.emails.gateway import Letter as Letter


@dataclass(frozen=True)
class Sample:
    """One occasion on which a room writes. `letter` is the room's own function, `given` what it is called with.

    `given` runs in the transaction of whoever looks, which is rolled back: it may add the rows that the letter tells
    of. `name` is a word for addresses, `occasion` says in a few words what has happened.
    """

    name: str
    occasion: str
    letter: Callable[..., object]
    given: Callable[[], Given]

    def written(self) -> list[Letter]:
        """The letters of this occasion as they would be sent: several when both sides hear of it. Stores none.

        Each member of the staff gets the same; one of them is enough to look at.
        """
        given = self.given()
        with services.drafting() as drafts:
            self.letter(*given.args, **given.kwargs)
        by_kind: dict[str, Letter] = {}
        for draft in drafts:
            by_kind.setdefault(draft.kind, draft)
        return list(by_kind.values())


@dataclass(frozen=True)
class Given:
    """The arguments of a letter's function."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)


def given(*args: Any, **kwargs: Any) -> Given:
    """The arguments, as they would be written in the call."""
    return Given(args, kwargs)
