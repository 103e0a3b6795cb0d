"""STS Strategies: a store that sells access to TradingView scripts and proves that it was delivered."""

from __future__ import annotations

import os

from flask import Flask

from sts_app import accounts, admin, billing, catalog, emails, ops, pages, privacy, provisioning, support
from sts_app.core import db, logs, queue, security, web
from sts_app.settings import Settings, load


def create_app(settings: Settings | None = None) -> Flask:
    """Build the house: the ground floor first, then the rooms from the bottom up."""
    settings = settings or load(dict(os.environ))
    logs.init_logs(settings.log_level, as_json=not settings.app_env.is_local)

    app = web.House(__name__, template_folder=web.TEMPLATES, static_folder=None)
    app.config["STS"] = settings
    db.init_app(app, settings)
    queue.init_app(app, settings.redis_url)
    security.init_app(app, settings)
    web.init_app(app)

    for room in (emails, catalog, accounts, provisioning, billing, support, privacy, pages, admin, ops):
        room.init_app(app)
    return app
