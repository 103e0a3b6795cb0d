"""Pages that compose rooms: home, pricing, questions and the legal texts."""

from __future__ import annotations

from flask import Flask


def init_app(app: Flask) -> None:
    from sts_app.pages import undelivered
    from sts_app.pages.dashboard import bp

    assert undelivered.bp is bp, "it adds its addresses to the same blueprint"
    app.register_blueprint(bp)
