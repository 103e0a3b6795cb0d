"""Pages that compose rooms: home, pricing, questions and the legal texts."""

from __future__ import annotations

from flask import Flask


def init_app(app: Flask) -> None:
    from sts_app.pages import dashboard, views

    app.register_blueprint(views.bp)
    assert dashboard.bp is views.bp
