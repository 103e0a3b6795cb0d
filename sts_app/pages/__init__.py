"""Pages that compose rooms: home, pricing, questions and the legal texts."""

from __future__ import annotations

from flask import Flask


def init_app(app: Flask) -> None:
    from sts_app.pages import files, how_to, patterns, undelivered
    from sts_app.pages.dashboard import bp

    parts = (files, how_to, patterns, undelivered)
    assert all(each.bp is bp for each in parts), "they add their addresses to the same blueprint"
    app.register_blueprint(bp)
