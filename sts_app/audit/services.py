"""Write an audit line in the transaction of the deed it tells of."""

from __future__ import annotations

from typing import Any

import structlog

from sts_app.audit.models import AuditLog
from sts_app.core.db import db

SYSTEM = "system"


def record(actor: str, action: str, subject: str, **details: Any) -> None:
    """Note that `actor` (`user:7`, `system`, `cli`) did `action` to `subject` (`purchase:3`).

    Details are plain JSON and hold ids and numbers, never names or addresses, so that a line
    can be kept after a person is erased.
    """
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    db.session.add(AuditLog(actor=actor, action=action, subject=subject, details=details, request_id=request_id))
