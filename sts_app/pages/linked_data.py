"""What a page says to search engines, in the words of schema.org: the same facts as the page itself, no more.

Each function returns a dictionary for `ui.linked_data`, which writes it as JSON-LD. Nothing here rates or praises:
there are no reviews, and none are made up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sts_app.catalog.models import Mode, Plan, Strategy
from sts_app.pages.queries import Question

Facts = dict[str, Any]
CONTEXT = "https://schema.org"
IN_STOCK, SOLD_OUT = f"{CONTEXT}/InStock", f"{CONTEXT}/SoldOut"


def organization(*, name: str, home: str, logo: str, contact: str) -> Facts:
    """Who runs the store. Addresses are whole ones, `https://` included."""
    return {
        "@context": CONTEXT,
        "@type": "Organization",
        "@id": f"{home}/#organization",
        "name": name,
        "url": f"{home}/",
        "logo": logo,
        "contactPoint": {"@type": "ContactPoint", "contactType": "customer support", "url": contact},
    }


def website(*, name: str, home: str, search: str) -> Facts:
    """The site as a whole; `search` is the address of the page that searches the questions."""
    return {
        "@context": CONTEXT,
        "@type": "WebSite",
        "@id": f"{home}/#website",
        "name": name,
        "url": f"{home}/",
        "inLanguage": "en",
        "publisher": {"@id": f"{home}/#organization"},
        "potentialAction": {
            "@type": "SearchAction",
            "target": {"@type": "EntryPoint", "urlTemplate": f"{search}?q={{search_term_string}}"},
            "query-input": "required name=search_term_string",
        },
    }


def plan_product(plan: Plan, strategies: Sequence[Strategy], *, home: str, url: str, image: str, sold: bool) -> Facts:
    """A plan as a product with its price. `sold` is whether anybody can buy it at this moment."""
    return {
        "@context": CONTEXT,
        "@type": "Product",
        "name": plan.name,
        "description": (
            f"Access to {len(strategies)} invite-only TradingView strategy scripts for NQ futures, and to those added "
            f"later. Software for research and education, not investment advice."
        ),
        "sku": plan.slug,
        "category": "Software",
        "image": image,
        "url": url,
        "brand": {"@id": f"{home}/#organization"},
        "offers": _offer(plan, home=home, url=url, sold=sold),
    }


def strategy_product(
    strategy: Strategy, plan: Plan | None, *, home: str, url: str, pricing: str, image: str, sold: bool
) -> Facts:
    """One strategy. Its offer is that of the plan it is sold in, and leads to the page that says so; without a plan
    on sale it has none."""
    facts: Facts = {
        "@context": CONTEXT,
        "@type": "Product",
        "name": strategy.name,
        "description": strategy.summary,
        "sku": strategy.slug,
        "category": "Software",
        "image": image,
        "url": url,
        "brand": {"@id": f"{home}/#organization"},
    }
    if plan is not None:
        facts["offers"] = {**_offer(plan, home=home, url=pricing, sold=sold), "name": plan.name}
    return facts


def questions_page(questions: Iterable[Question]) -> Facts:
    """All questions with their answers as they stand on the page."""
    return {
        "@context": CONTEXT,
        "@type": "FAQPage",
        "mainEntity": [
            {
                "@type": "Question",
                "name": question.text,
                "acceptedAnswer": {"@type": "Answer", "text": " ".join(question.answer)},
            }
            for question in questions
        ],
    }


def breadcrumbs(trail: Sequence[tuple[str, str]]) -> Facts:
    """The way to a page from the front page: (name, whole address), the page itself last."""
    return {
        "@context": CONTEXT,
        "@type": "BreadcrumbList",
        "itemListElement": [
            {"@type": "ListItem", "position": place, "name": name, "item": address}
            for place, (name, address) in enumerate(trail, start=1)
        ],
    }


def _offer(plan: Plan, *, home: str, url: str, sold: bool) -> Facts:
    price = f"{plan.price_cents // 100}.{plan.price_cents % 100:02}"
    offer: Facts = {
        "@type": "Offer",
        "price": price,
        "priceCurrency": plan.currency.upper(),
        "availability": IN_STOCK if sold else SOLD_OUT,
        "url": url,
        "seller": {"@id": f"{home}/#organization"},
    }
    if plan.mode == Mode.SUBSCRIPTION:
        offer["priceSpecification"] = {
            "@type": "UnitPriceSpecification",
            "price": price,
            "priceCurrency": plan.currency.upper(),
            "unitText": plan.interval.upper(),
        }
    return offer
