"""What must always hold of money: each cent in one row, and access that says what the money says."""

from __future__ import annotations

from sts_app.ops.invariant import Invariant

_WAS_PAID = "('COMPLETED', 'PARTIALLY_REFUNDED', 'REFUNDED')"

# What went back of each payment, what a bank has taken for good, and whether one is deciding.
_BACK = f"""
    SELECT p.id, p.status, p.access, p.amount_cents, p.refunded_cents, p.partial_verdict,
        coalesce((SELECT sum(r.amount_cents) FROM refund r WHERE r.purchase_id = p.id
                  AND r.state IN ('pending', 'requires_action', 'succeeded')), 0) AS refunded,
        coalesce((SELECT sum(d.amount_cents) FROM dispute d WHERE d.purchase_id = p.id
                  AND d.status = 'lost'), 0) AS lost,
        EXISTS (SELECT 1 FROM dispute d
                WHERE d.purchase_id = p.id AND d.status IN ('needs_response', 'under_review')) AS disputed
    FROM purchase p WHERE p.status IN {_WAS_PAID}
"""

MONEY = (
    Invariant(
        "no purchase whose status says otherwise than its refunds",
        f"""SELECT id FROM ({_BACK}) b WHERE refunded_cents <> refunded OR status <> CASE
               WHEN amount_cents > 0 AND refunded >= amount_cents THEN 'REFUNDED'
               WHEN refunded > 0 THEN 'PARTIALLY_REFUNDED'
               ELSE 'COMPLETED' END""",
    ),
    Invariant(
        "no purchase whose access says otherwise than its money",
        f"""SELECT id FROM ({_BACK}) b WHERE access <> CASE
               WHEN amount_cents > 0 AND refunded + lost >= amount_cents THEN 'ended'
               WHEN refunded + lost > 0 AND partial_verdict = 'end' THEN 'ended'
               WHEN disputed THEN 'suspended'
               ELSE 'stands' END
            UNION ALL
            SELECT id FROM purchase WHERE status NOT IN {_WAS_PAID} AND access <> 'none'""",
    ),
    Invariant(
        # What staff suspend or end by hand is theirs: money only says what may not hold.
        "no entitlement that holds against the money of its purchase",
        """SELECT p.id FROM purchase p JOIN entitlement e ON e.source = 'purchase:' || p.id
           WHERE (p.access = 'ended' AND (e.ends_at IS NULL OR e.ends_at > :now))
              OR (p.access = 'suspended' AND e.suspended_at IS NULL)
              OR (p.access = 'stands' AND e.suspended_because = 'the payment is disputed')
              OR p.access = 'none'""",
    ),
    Invariant(
        "no entitlement that holds against its subscription",
        """SELECT s.id FROM subscription s LEFT JOIN entitlement e ON e.source = 'subscription:' || s.id
           WHERE (s.state IN ('running', 'grace') AND (e.id IS NULL OR e.suspended_because = 'its payment is disputed'))
              OR (s.state = 'paused' AND e.id IS NOT NULL AND e.suspended_at IS NULL)
              OR (s.state = 'ended' AND e.id IS NOT NULL AND (e.ends_at IS NULL OR e.ends_at > :now))""",
    ),
    Invariant(
        "no more given back than came in",
        f"""SELECT p.id FROM purchase p
           WHERE p.status IN {_WAS_PAID} AND p.amount_cents < (
               SELECT coalesce(sum(r.amount_cents), 0) FROM refund r WHERE r.purchase_id = p.id
               AND r.state IN ('intended', 'pending', 'requires_action', 'succeeded'))""",
    ),
    Invariant(
        "no refund of a purchase that brought no money",
        f"""SELECT r.id FROM refund r JOIN purchase p ON p.id = r.purchase_id
           WHERE p.status NOT IN {_WAS_PAID} OR r.currency <> p.currency""",
    ),
    Invariant(
        "no intended refund without the time at which it is sent",
        "SELECT id FROM refund WHERE (state = 'intended') <> (next_attempt_at IS NOT NULL)",
    ),
    Invariant(
        "no refund that nobody asked for, and none of ours without a reason",
        "SELECT id FROM refund WHERE asked_by = '' OR (ref IS NOT NULL AND coalesce(reason, '') = '')",
    ),
    Invariant(
        "no payment without the time at which it came",
        f"SELECT id FROM purchase WHERE status IN {_WAS_PAID} AND paid_at IS NULL",
    ),
    Invariant(
        # Purchases from before consents were kept have none.
        "no purchase without what its buyer agreed to",
        """SELECT p.id FROM purchase p
           WHERE p.checkout_request IS NOT NULL
             AND p.id > (SELECT min(purchase_id) FROM consent)
             AND NOT EXISTS (SELECT 1 FROM consent c WHERE c.purchase_id = p.id)""",
    ),
    Invariant(
        "no due refund, evidence or subscription older than five minutes",
        """SELECT 'refund', id FROM refund WHERE next_attempt_at < :overdue
           UNION ALL SELECT 'dispute', id FROM dispute WHERE next_attempt_at < :overdue
           UNION ALL SELECT 'subscription', id FROM subscription WHERE next_look_up_at < :overdue""",
        needs_workers=True,
    ),
)
