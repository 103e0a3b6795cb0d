"""Walks the store as a robot does: from its front door along every link, and notes what it finds."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit

from bs4 import BeautifulSoup, Tag
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, RequestRedirect

from sts_app.ops.journey import Visitor

TIMEOUT = 30
MOST_PAGES = 600
# Where a page names what a browser fetches or a person goes to, by the attribute that names it.
NAMED = {
    "a": ("href",),
    "link": ("href",),
    "script": ("src",),
    "img": ("src",),
    "source": ("src",),
    "iframe": ("src",),
    "use": ("href",),
    "object": ("data",),
}
FOLLOWED = ("a", "iframe", "form")
# What letters say is their own tests' matter: their links are for once, and those of samples lead nowhere.
LETTER = re.compile(r"^/dev/(outbox|letters)/[^?]")


@dataclass(frozen=True)
class Reference:
    """That a page names an address; `method` is how it is asked for there."""

    page: str
    element: str
    address: str
    fragment: str = ""
    method: str = "GET"


@dataclass
class Page:
    """One answer, by the address it was asked for; `path` is where it was found in the end."""

    asked: str
    path: str
    status: int
    kind: str
    content: bytes
    robots: str = ""
    endpoint: str | None = None
    has_arguments: bool = False

    @property
    def is_html(self) -> bool:
        return self.kind.startswith("text/html")

    @property
    def is_whole(self) -> bool:
        """A document, and not a part of one that a script asks for."""
        return self.is_html and b"<html" in self.content[:4096].lower()

    @cached_property
    def soup(self) -> BeautifulSoup:
        return BeautifulSoup(self.content, "html.parser")

    @cached_property
    def ids(self) -> list[str]:
        return [str(one["id"]) for one in self.soup.find_all(id=True)]

    @property
    def title(self) -> str:
        return " ".join(self.soup.title.get_text().split()) if self.soup.title else ""

    def meta(self, name: str) -> str | None:
        found = self.soup.find("meta", attrs={"name": name}) or self.soup.find("meta", attrs={"property": name})
        return str(found["content"]) if isinstance(found, Tag) and found.has_attr("content") else None

    @property
    def is_shown_to_robots(self) -> bool:
        return "noindex" not in f"{self.meta('robots') or ''} {self.robots}"


@dataclass
class Crawl:
    """All that one visitor comes to from `/`, by following links and sending forms that only ask."""

    who: str
    visitor: Visitor
    rules: Map
    pages: dict[str, Page] = field(default_factory=dict)
    references: list[Reference] = field(default_factory=list)

    def walk(self, *starts: str, but_not: tuple[str, ...] = ()) -> Crawl:
        """Go everywhere that `starts` lead to, but for addresses that begin as `but_not` say."""
        waiting = deque(starts)
        while waiting:
            address = waiting.popleft()
            if address in self.pages or address.startswith(but_not) or self._is_known_letter(address):
                continue
            assert len(self.pages) < MOST_PAGES, f"the store has no end for {self.who}: {address}"
            page = self.pages[address] = self._fetch(address)
            for reference in self._references(page):
                self.references.append(reference)
                if reference.method == "GET" and reference.element in FOLLOWED:
                    waiting.append(reference.address)
        return self

    def endpoint_of(self, address: str, method: str = "GET") -> tuple[str | None, dict[str, Any]]:
        """The endpoint that answers an address, and what it takes from it; None where none does."""
        try:
            found: tuple[str, dict[str, Any]] = self.rules.bind("127.0.0.1").match(urlsplit(address).path, method)
        except RequestRedirect as elsewhere:
            return self.endpoint_of(urlsplit(elsewhere.new_url).path, method)
        except HTTPException:
            return None, {}
        return found

    @property
    def endpoints(self) -> set[str]:
        """Every endpoint that was asked, also those that sent the visitor on."""
        return {name for address in self.pages if (name := self.endpoint_of(address)[0]) is not None}

    def whole_pages(self) -> list[Page]:
        """The documents that were there, each once."""
        found = {page.path: page for page in self.pages.values() if page.status == 200 and page.is_whole}
        return list(found.values())

    def _is_known_letter(self, address: str) -> bool:
        """Whether this is a letter that was seen in other colours."""
        path = address.partition("?")[0]
        return LETTER.search(address) is not None and any(seen.partition("?")[0] == path for seen in self.pages)

    def _fetch(self, address: str) -> Page:
        answer = self.visitor.http.get(
            urljoin(self.visitor.url, address), headers={"Accept": "text/html,*/*;q=0.8"}, timeout=TIMEOUT
        )
        path = answer.url.removeprefix(self.visitor.url)
        endpoint, arguments = self.endpoint_of(path)
        kind, robots = answer.headers.get("Content-Type", ""), answer.headers.get("X-Robots-Tag", "")
        return Page(address, path, answer.status_code, kind, answer.content, robots, endpoint, bool(arguments))

    def _references(self, page: Page) -> Iterator[Reference]:
        if page.path == "/robots.txt":
            named = re.findall(r"^Sitemap: *(\S+)", page.content.decode(), re.M)
            yield from self._each(page, "a", named)
        elif page.path == "/sitemap.xml":
            yield from self._each(page, "a", re.findall(r"<loc>([^<]+)</loc>", page.content.decode()))
        elif page.is_html:
            is_letter = LETTER.search(page.path) is not None
            for element, attributes in NAMED.items():
                for tag in page.soup.find_all(element) if not is_letter or element == "iframe" else ():
                    yield from self._each(page, element, [tag[name] for name in attributes if tag.has_attr(name)])
            if not is_letter:
                yield from self._each(page, "meta", [image] if (image := page.meta("og:image")) else [])
                yield from self._forms(page)

    def _forms(self, page: Page) -> Iterator[Reference]:
        for form in page.soup.find_all("form"):
            address = [form.get("action") or page.path]
            yield from self._each(page, "form", address, str(form.get("method", "get")).upper())
        for method in ("get", "post"):
            for tag in page.soup.find_all(attrs={f"hx-{method}": True}):
                yield from self._each(page, f"hx-{method}", [tag[f"hx-{method}"]], method.upper())

    def _each(self, page: Page, element: str, addresses: list[Any], method: str = "GET") -> Iterator[Reference]:
        """The references to our own addresses among these."""
        for address in addresses:
            whole, fragment = urldefrag(urljoin(f"{self.visitor.url}{page.path}", str(address)))
            if whole == self.visitor.url or whole.startswith(f"{self.visitor.url}/"):
                yield Reference(page.path, element, whole.removeprefix(self.visitor.url) or "/", fragment, method)
