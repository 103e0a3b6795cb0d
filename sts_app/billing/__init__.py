"""Money: checkout, purchases, and the inbox of signed events. A payment leads to access, never the reverse."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Flask

if TYPE_CHECKING:
    from sts_app.billing.simulated import OnShelf


def init_app(app: Flask) -> None:
    from sts_app.billing import products_views, purchases, views
    from sts_app.core.security import csrf

    app.extensions["sts_payments"] = _adapter(app)
    app.register_blueprint(purchases.bp)
    app.register_blueprint(products_views.bp)
    app.register_blueprint(views.webhooks)
    # A webhook proves itself by its signature; there is no browser and no cookie to forge.
    csrf.exempt(views.webhooks)
    if app.config["STS"].payments_vendor == "simulated":
        from sts_app.billing import dev

        app.register_blueprint(dev.bp)


def _adapter(app: Flask) -> object:
    settings = app.config["STS"]
    if settings.payments_vendor == "live":
        from sts_app.billing.live import StripePayments

        return StripePayments(
            settings.stripe_secret_key,
            webhook_secrets=settings.stripe_webhook_secrets,
            api_base=settings.stripe_api_base,
        )
    from sts_app.billing.simulated import SimulatedPayments
    from sts_app.core.store import store_for

    with app.app_context():
        return SimulatedPayments(
            store_for("payments"),
            webhook_secrets=settings.stripe_webhook_secrets,
            webhook_url=f"http://127.0.0.1:{settings.port}/api/webhooks/stripe",
            public_url=settings.public_url,
            shelf=_what_plans_name,
        )


def _what_plans_name() -> list[OnShelf]:
    """The prices that the store's plans name, so that they exist at the simulated Stripe as well.

    The seeded plan is sold there without naming one. Every other plan has none before `sts stripe-setup`.
    """
    import sqlalchemy as sa

    from sts_app.billing.simulated import OnShelf
    from sts_app.catalog.models import Plan
    from sts_app.catalog.queries import LIFETIME
    from sts_app.core.db import db
    from sts_app.settings import PLACEHOLDER_PRICE

    price_id = sa.func.coalesce(Plan.stripe_price_id, PLACEHOLDER_PRICE)
    columns = (price_id, Plan.name, Plan.price_cents, Plan.currency, Plan.interval)
    # A connection of its own: a vendor reads nothing in the middle of our transaction.
    with db.engine.begin() as connection:
        named = sa.or_(Plan.stripe_price_id.is_not(None), Plan.slug == LIFETIME)
        rows = connection.execute(sa.select(*columns).where(named).order_by(Plan.position, Plan.id))
        return [OnShelf(*row) for row in rows]
