"""Let a reason for access follow the money that it was given for."""

from __future__ import annotations

from sts_app.billing.rules import OF_MONEY
from sts_app.provisioning import queries as provisioning_queries
from sts_app.provisioning import services as provisioning


def let_stand(source: str, *, because: str) -> None:
    """Undo what money had ended or put to rest. What staff ended or suspended themselves stays as they left it."""
    entitlement = provisioning_queries.entitlement_from(source)
    if entitlement is None:
        return
    if entitlement.ended_because in OF_MONEY:
        provisioning.reinstate(source, because=because, actor="system")
    if entitlement.suspended_because in OF_MONEY:
        provisioning.resume(source, because=because, actor="system")


def let_rest(source: str, *, because: str) -> None:
    """Put the reason to rest while its money is in doubt; one that rests for money already rests for this now."""
    provisioning.suspend(source, because=because, actor="system", instead_of=OF_MONEY)
    entitlement = provisioning_queries.entitlement_from(source)
    if entitlement is not None and entitlement.ended_because in OF_MONEY:
        # Only once it rests: nobody is given access for a moment.
        provisioning.reinstate(source, because=because, actor="system")


def let_end(source: str, *, because: str) -> None:
    """End the reason: its money went back, and nothing about it is in doubt any more."""
    provisioning.end_entitlement(source, because=because, actor="system", instead_of=OF_MONEY)
    entitlement = provisioning_queries.entitlement_from(source)
    if entitlement is not None and entitlement.suspended_because in OF_MONEY:
        provisioning.resume(source, because=because, actor="system")
