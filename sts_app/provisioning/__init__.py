"""Access to TradingView scripts: who should have it, making it so, and proving that it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flask import Flask, current_app

from sts_app.provisioning.gateway import NeedsStaff, TradingView

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from sts_app.provisioning.credentials import Credentials
    from sts_app.settings import Settings


@dataclass(frozen=True)
class Way:
    """An adapter to TradingView, and which stored credentials it was built with."""

    adapter: TradingView
    credential_id: int | None


class Barred:
    """The `TradingView` of stored credentials that do not open: every call is refused with `reason`, and none is made.

    The refusal opens an incident, which calls a person. Any other adapter would ask somebody else than
    the stored credentials name, or ask without them.
    """

    one_call_for_all = True

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def find_name(self, name: str) -> NoReturn:
        raise NeedsStaff(self._reason)

    def grant(self, name: str, script_ids: Sequence[str]) -> NoReturn:
        raise NeedsStaff(self._reason)

    def revoke(self, name: str, script_ids: Sequence[str]) -> NoReturn:
        raise NeedsStaff(self._reason)

    def has_access(self, name: str, script_ids: Sequence[str]) -> NoReturn:
        raise NeedsStaff(self._reason)

    def list_holders(self, script_id: str) -> NoReturn:
        raise NeedsStaff(self._reason)

    def check_session(self) -> NoReturn:
        raise NeedsStaff(self._reason)


def init_app(app: Flask) -> None:
    from sts_app.provisioning import credentials, dev, views

    credentials.warn_of_environment(app.config["STS"])
    app.register_blueprint(views.bp)
    if app.config["STS"].provisioning_mode == "simulated":
        app.register_blueprint(dev.bp)


def way() -> Way | None:
    """The way to TradingView as it is now, or None in manual mode, where people do the work.

    Built afresh each time, because credentials may have been replaced a moment ago. While the stored ones
    cannot be read, every call over it is refused (`Barred`).
    """
    from sts_app.provisioning import credentials

    settings: Settings = current_app.config["STS"]
    if settings.provisioning_mode == "manual":
        return None
    try:
        held = credentials.active()
    except credentials.CannotRead as lost:
        return Way(Barred(lost.reason), lost.credential_id)
    return Way(adapter_for(settings, held), held.id if held is not None else None)


def adapter_for(settings: Settings, held: Credentials | None) -> TradingView:
    """The adapter of this store's mode, with these credentials or with none. Every call of it is counted."""
    from sts_app.catalog.queries import strategies_on_sale
    from sts_app.core.store import store_for
    from sts_app.provisioning import pace
    from sts_app.provisioning.simulated import SimulatedTradingView

    if settings.provisioning_mode == "simulated":
        return SimulatedTradingView(store_for("tradingview"), meter=pace.meter)
    if settings.provisioning_mode == "direct":
        from sts_app.provisioning.live_direct import DirectTradingView

        return DirectTradingView(
            settings.tv_base_url,
            session_id=held.session_id if held else None,
            signature=held.signature if held else None,
            validate_timeout=settings.tv_validate_timeout,
            call_timeout=settings.tv_call_timeout,
            meter=pace.meter,
        )
    from sts_app.provisioning.live_service import AccessService

    return AccessService(
        (held.api_url if held and held.api_url else settings.tv_access_api_url) or "",
        session_id=held.session_id if held else None,
        signature=held.signature if held else None,
        canary=settings.tv_canary_username,
        canary_scripts=[strategy.script_id for strategy in strategies_on_sale()[:1]],
        validate_timeout=settings.tv_validate_timeout,
        call_timeout=settings.tv_call_timeout,
        meter=pace.meter,
    )
