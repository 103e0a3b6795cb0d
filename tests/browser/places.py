"""Which pages are looked at in a browser, and as whom: each endpoint that a crawl came to, and some states more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sts_app.ops.journey import Visitor
from tests.browser.crawl import Crawl
from tests.browser.people import People, way_out

# What a link does not lead to, or what looks different there, by who looks.
STATES = {
    "stranger": (
        "/pricing?canceled=true",
        "/faq?q=name",
        "/faq?q=nothing+holds+this",
        "/nothing/here",
        "/dev/patterns",
    ),
    "newcomer": ("/onboarding", "/dashboard", "/dashboard/support"),
    "buyer": ("/dashboard", "/onboarding", "/pricing"),
    "owner": ("/", "/pricing", "/refunds", "/strategies/nq-momentum-alpha", "/contact", "/admin/"),
    "returned": ("/dashboard", "/pricing"),
    "stuck": ("/dashboard", "/onboarding"),
    "paused": ("/dashboard", "/dashboard/letters"),
    "leaving": ("/dashboard",),
    "refused": ("/dashboard",),
    "waiting": ("/dashboard",),
    "nameless": ("/dashboard",),
    "staff": ("/admin/access?q=nobody+of+this+name",),
}
# Who has most on a page, and so shows it for the others.
FIRST = ("stranger", "owner", "staff")
# A letter alone is no page of ours, and the book shows all of them at once: their own tests look at them.
LETTERS = {"emails_dev.letter_html", "ops_dev.letter_html", "ops_dev.letters"}
# Statuses that some of these answer with.
REFUSALS = (403, 404)


@dataclass(frozen=True)
class Place:
    """A page, and the visitor who looks at it."""

    who: str
    visitor: Visitor
    path: str

    @property
    def is_for_developers(self) -> bool:
        return self.path.startswith("/dev/")

    @property
    def name(self) -> str:
        """Fit for a file."""
        return f"{self.who}-{re.sub(r'[^a-z0-9]+', '-', self.path.lower()).strip('-') or 'front'}"


def places(people: People, crawls: dict[str, Crawl]) -> list[Place]:
    """Each endpoint once, as the first of the people who comes to it, and then all of `STATES`."""
    found: dict[tuple[str, str], Place] = {}
    visitors = people.by_name
    seen: set[str | None] = set(LETTERS)
    for who in sorted(crawls, key=lambda who: FIRST.index(who) if who in FIRST else len(FIRST)):
        for page in sorted(crawls[who].whole_pages(), key=lambda page: len(page.path)):
            if page.endpoint not in seen:
                seen.add(page.endpoint)
                found[who, page.path] = Place(who, visitors[who], page.path)
    for who, path in _states(people):
        found[who, path] = Place(who, visitors[who], path)
    return list(found.values())


def _states(people: People) -> Iterator[tuple[str, str]]:
    for who, paths in STATES.items():
        yield from ((who, path) for path in paths)
    yield "buyer", people.payment_page
    yield "buyer", f"/dashboard?success=true&session_id={people.payment_page.rpartition('/')[2]}"
    yield "waiting", people.back_to_waiting
    yield "owner", people.back_to_active
    yield "owner", way_out(people.owner)
    yield "stuck", way_out(people.stuck)
    yield "stranger", sign_in_link(people)


def sign_in_link(people: People) -> str:
    """The address in a sign-in letter that nobody has opened, on its way to another browser."""
    somebody = people.somebody()
    somebody.open("/sign-in").submit("/sign-in", email=somebody.email)
    letter = somebody.wait_for(lambda: somebody.letter("sign_in"), "the sign-in letter", seconds=60)
    link = re.search(r"/sign-in/link/[^\s>)]+", letter["text"])
    assert link is not None
    return link.group(0)
