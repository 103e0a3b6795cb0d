"""The worker's side of an erasure: one step at a time, each a transaction, safe to be killed between or to be repeated.

Nothing here calls a vendor. What has to happen at Stripe and at TradingView is left as rows, which the engines of
those rooms work as they do everything else; an erasure looks what came of it, and goes on once nothing is left to wait
for. Names are replaced last, because from then on nobody knows under which one access stood.
"""

from __future__ import annotations

import structlog

from sts_app.accounts import privacy as accounts
from sts_app.accounts.models import User
from sts_app.audit import privacy as audit_rows
from sts_app.audit import services as audit
from sts_app.billing import privacy as billing
from sts_app.core import clock
from sts_app.core.db import db
from sts_app.core.queue import wake
from sts_app.emails import privacy as letters_kept
from sts_app.privacy import letters, queries, services
from sts_app.privacy.models import Erasure
from sts_app.privacy.rules import ErasureState, Wait
from sts_app.provisioning import privacy as provisioning
from sts_app.support import services as support

log = structlog.get_logger()


def advance(erasure_id: int) -> bool:
    """Go one step on, if one can be made now. True when another look at once may lead further."""
    erasure = services.locked(erasure_id)
    now = clock.now()
    if erasure.state == ErasureState.REQUESTED:
        services.settle_called_off(erasure.user_id)
    if erasure.state == ErasureState.REQUESTED and erasure.begins_at <= now:
        _close(erasure)
        return True
    if erasure.state != ErasureState.REVOKING:
        return False
    if erasure.replaced_at is not None:
        return _finish(erasure)
    erasure.waits = sorted(_waits(erasure))
    if erasure.waits:
        return False
    _replace(erasure)
    return True


def _close(erasure: Erasure) -> None:
    """Requested becomes revoking: nobody signs in or buys any more, and every reason for access ends."""
    now = clock.now()
    user = accounts.locked(erasure.user_id)
    sessions = accounts.close(user)
    erasure.state, erasure.begun_at = ErasureState.REVOKING, now
    erasure.waits = [Wait.ACCESS]
    db.session.flush()
    ended = provisioning.end_all(erasure.user_id, actor=audit.SYSTEM)
    audit.record(
        audit.SYSTEM,
        "privacy.account_closed",
        f"user:{erasure.user_id}",
        erasure=erasure.id,
        sessions=sessions,
        reasons=ended,
    )
    log.info("privacy.account_closed", erasure_id=erasure.id)


def _waits(erasure: Erasure) -> set[str]:
    """What stands in the way, after what can be done about it was asked for."""
    waits: set[str] = set(billing.wind_down(erasure.user_id, actor=audit.SYSTEM))
    left = provisioning.left_of(erasure.user_id)
    if left.waiting:
        waits.add(Wait.ACCESS)
    else:
        erasure.access_gone_at = left.gone_at or erasure.begun_at
    # Last of all: until then the money of this person may still have to be found there by name.
    if waits:
        return waits
    if not billing.delete_customer(erasure.user_id):
        return {Wait.CUSTOMER}
    erasure.customer_gone_at = erasure.customer_gone_at or clock.now()
    # Without the person's lock, which comes after those of their payments.
    user = db.session.get_one(User, erasure.user_id)
    if letters_kept.named_in_motion(user.id, addresses=queries.addresses_of(user), names=_names(user)):
        return {Wait.LETTERS}
    return set()


def _names(user: User) -> list[str]:
    """What letters to staff may call this person by, besides their addresses."""
    return sorted({user.name, *billing.names_of(user.id), *provisioning.names_of(user.id)} - {""})


def _replace(erasure: Erasure) -> None:
    """Take the person out of every room, in one transaction: all of it or nothing.

    Rooms come in the order of their locks: payments, tickets, then the person and what hangs on them. The last letter
    is written while the address is still known.
    """
    now = clock.now()
    user_id = erasure.user_id
    left = provisioning.left_of(user_id)
    subjects = [*billing.subjects_of(user_id), f"erasure:{erasure.id}"]
    payments = billing.payments_of(user_id)
    # Before what they stand in is replaced, and without the person's lock, which comes after those of payments.
    user = db.session.get_one(User, user_id)
    addresses, names = queries.addresses_of(user), _names(user)
    billing.forget(user_id)
    tickets = support.forget(user_id, addresses=addresses)
    user = accounts.locked(user_id)
    erasure.replaced_at = now
    erasure.report = {
        "access_removed": left.gone,
        "access_confirmed_by_staff": left.by_staff,
        "payments_kept": payments,
        "tickets_erased": tickets,
        "names_replaced": provisioning.forget(user_id, keep_because=billing.WORDS_OF_MONEY),
    }
    letters.done(user, erasure)
    letters_kept.strike_out(user_id, addresses=addresses, names=names)
    blanked = sum(letters_kept.forget(user_id, address=address) for address in addresses)
    erasure.report = erasure.report | {"letters_blanked": blanked}
    audit_rows.forget(user_id, subjects=subjects)
    accounts.forget(user)
    audit.record(audit.SYSTEM, "privacy.erased", f"user:{user_id}", erasure=erasure.id)
    log.info("privacy.erased", erasure_id=erasure.id)
    wake("privacy.work")


def _finish(erasure: Erasure) -> bool:
    """The last letters have gone out, or will not: blank them, and it is done."""
    assert erasure.replaced_at is not None
    address, state = letters_kept.fate_of_letter(erasure.letter_key)
    if letters_kept.in_motion(erasure.user_id, address=address, written_before=erasure.replaced_at):
        erasure.waits = [Wait.LETTERS]
        return False
    blanked = letters_kept.forget(erasure.user_id, address=address, written_before=erasure.replaced_at)
    erasure.report = erasure.report | {
        "letters_blanked": erasure.report["letters_blanked"] + blanked,
        "last_letter": state,
    }
    erasure.state, erasure.done_at, erasure.waits = ErasureState.DONE, clock.now(), []
    audit.record(audit.SYSTEM, "privacy.erasure_done", f"user:{erasure.user_id}", erasure=erasure.id)
    return False
