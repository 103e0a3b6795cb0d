"""Everything that the store keeps about a person, as one JSON document: a verb of each room, put together here."""

from __future__ import annotations

from typing import Any

from flask import current_app

from sts_app.accounts import privacy as accounts
from sts_app.accounts import queries as accounts_queries
from sts_app.accounts.models import User
from sts_app.audit import privacy as audit
from sts_app.billing import privacy as billing
from sts_app.core import clock
from sts_app.emails import privacy as emails
from sts_app.privacy import queries
from sts_app.provisioning import privacy as provisioning
from sts_app.support import queries as support

FORMAT = 1
NOT_IN_IT = (
    "Secrets that sign you in: only fingerprints of them are kept, which are of no use to anybody.",
    "What you had typed when we asked who is there, and have not sent again: it is kept encrypted for an hour at most.",
    "Notes that our staff make for themselves about a ticket, a refund or a task. The law may give you a copy: ask us. "
    "A person looks first, because they can tell of others.",
    "Who of our staff did something, because that is about them.",
    "What Stripe keeps about your payments, and TradingView about your account there: ask them.",
)


def everything_of(user: User) -> dict[str, Any]:
    """All of it, ready for JSON. Amounts are in cents, moments ISO 8601 in UTC, pictures base64.

    Nothing secret is in it, and nothing of other people.
    """
    erasures = queries.all_of(user.id)
    subjects = [*billing.subjects_of(user.id), *(f"erasure:{each.id}" for each in erasures)]
    return {
        "about": {
            "store": current_app.config["STS"].app_name,
            "made_at": clock.now().isoformat(),
            "format": FORMAT,
            "not_in_it": NOT_IN_IT,
        },
        **accounts.rows_of_person(user.id),
        **provisioning.rows_of_person(user.id),
        **billing.rows_of_person(user.id),
        **support.rows_of_person(user.id, addresses=_settled_addresses(user)),
        **emails.rows_of_person(user.id, address=user.email),
        **audit.rows_of_person(user.id, subjects=subjects),
        "erasures": [
            {
                "reference": each.ref,
                "state": each.state,
                "asked_at": each.created_at.isoformat(),
                "begins_at": each.begins_at.isoformat(),
                "taken_back_at": each.cancelled_at.isoformat() if each.cancelled_at else None,
            }
            for each in erasures
        ],
    }


def _settled_addresses(user: User) -> list[str]:
    """The person's addresses, without one that may still go back: who writes from that one may be somebody else."""
    now = clock.now()
    return [each for each in queries.addresses_of(user) if accounts_queries.moved_from(each, now) is None]
