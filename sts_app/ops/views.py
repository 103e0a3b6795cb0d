"""Health, for the host's probe, for a deploy's gate and for people."""

from __future__ import annotations

from flask import Blueprint, request
from flask.typing import ResponseReturnValue

from sts_app.core import clock
from sts_app.core.errors import FixInput
from sts_app.core.security import is_insider, limiter
from sts_app.ops import queries

bp = Blueprint("ops", __name__)
limiter.exempt(bp)


@bp.get("/health")
@bp.get("/healthz", endpoint="healthz")
def health() -> ResponseReturnValue:
    """The process answers. No I/O: a database that is away must not get the web restarted."""
    if request.path == "/healthz":
        return "OK", {"Content-Type": "text/plain; charset=utf-8"}
    return {"status": "ok", "timestamp": clock.now().isoformat()}


@bp.get("/health/ready")
def ready() -> ResponseReturnValue:
    """200 when this code can serve on this database, else 503. A dead Redis is 200, degraded."""
    services = {"database": queries.database()}
    if services["database"]["status"] == "healthy":
        services["schema"] = queries.schema()
    services["redis"] = queries.redis()
    status = queries.worst(services)
    shown = {name: {"status": check["status"]} for name, check in services.items()}
    return {"status": status, "services": shown}, 503 if status == "unhealthy" else 200


@bp.get("/api/health")
def api_health() -> ResponseReturnValue:
    kind = request.args.get("type", "full")
    if kind == "live":
        return health()
    if kind == "ready":
        return ready()
    if kind != "full":
        raise FixInput("The type of a health check is live, ready or full.")
    detail = is_insider()
    checks = queries.all_checks(detail=detail)
    status = queries.worst(checks)
    shown = checks if detail else {name: {"status": check["status"]} for name, check in checks.items()}
    body = {"status": status, "timestamp": clock.now().isoformat(), "checks": shown}
    return body, 503 if status == "unhealthy" else 200
