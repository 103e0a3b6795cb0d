"""People: who they are, how they sign in, what they agreed to."""

from flask import Flask


def init_app(app: Flask) -> None:
    from sts_app.accounts import sessions, views
    from sts_app.accounts.models import TEXTS_VERSION

    app.config["TEXTS_VERSION"] = TEXTS_VERSION
    sessions.init_app(app)
    app.register_blueprint(views.bp)
