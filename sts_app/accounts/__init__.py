"""People: who they are, how they sign in, what they agreed to."""

from flask import Flask


def init_app(app: Flask) -> None:
    from sts_app.accounts import going_on, identities, new_address, profile, sessions, views, with_google
    from sts_app.accounts.live import LiveGoogle
    from sts_app.accounts.models import TEXTS_VERSION

    app.config["TEXTS_VERSION"] = TEXTS_VERSION
    sessions.init_app(app)
    settings = app.config["STS"]
    if settings.offers_google:
        app.extensions[identities.EXTENSION] = LiveGoogle(
            settings.google_client_id,
            settings.google_client_secret.get_secret_value(),
            discovery_url=settings.google_discovery_url,
        )
    for pages in (going_on, new_address, profile, with_google):
        assert pages.bp is views.bp, "they add their addresses to the same blueprint"
    app.register_blueprint(views.bp)
