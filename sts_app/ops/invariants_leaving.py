"""What must always hold of those who leave: shut first, access absent before names go, and nothing left in the end."""

from __future__ import annotations

from sts_app.ops.invariant import Invariant

LEAVING = (
    Invariant(
        "no closed account that somebody is signed in to",
        """SELECT s.id FROM user_session s JOIN users u ON u.id = s.user_id
           WHERE u.closed_at IS NOT NULL AND s.revoked_at IS NULL""",
    ),
    Invariant(
        "no closed account with a reason for access that holds",
        """SELECT e.id FROM entitlement e JOIN users u ON u.id = e.user_id
           WHERE u.closed_at IS NOT NULL AND (e.ends_at IS NULL OR e.ends_at > :now)""",
    ),
    Invariant(
        "no account that says otherwise than its erasure",
        """SELECT u.id FROM users u LEFT JOIN erasure e ON e.user_id = u.id AND e.state <> 'cancelled'
           -- An old mailbox has taken it back; the worker closes the record within a minute.
           AND NOT (e.state = 'requested' AND u.leaving_at IS NULL AND EXISTS (
               SELECT 1 FROM email_change c WHERE c.user_id = u.id AND c.called_off_at >= e.created_at))
           WHERE (u.leaving_at IS NOT NULL) <> (e.id IS NOT NULL)
              OR (u.closed_at IS NOT NULL) <> (e.begun_at IS NOT NULL)
              OR (u.erased_at IS NOT NULL) <> (e.replaced_at IS NOT NULL)""",
    ),
    Invariant(
        "nobody erased who still has an address, a name or a customer at Stripe",
        """SELECT u.id FROM users u WHERE u.erased_at IS NOT NULL AND (
               u.email <> 'erased-' || u.id || '@erased.invalid' OR u.name <> ''
            OR EXISTS (SELECT 1 FROM tradingview_name n
                       WHERE n.user_id = u.id AND (n.released_at IS NULL OR n.name_key NOT LIKE 'erased:%'))
            OR EXISTS (SELECT 1 FROM stripe_customer c
                       WHERE c.user_id = u.id AND c.deleted_at IS NULL AND c.delete_at IS NULL))""",
    ),
    Invariant(
        "no pair under an erased name that is not absent",
        "SELECT id FROM grants WHERE name_key LIKE 'erased:%' AND (state <> 'absent' OR wanted)",
    ),
)
