"""Typed settings, read once from the environment and checked at start.

Every fault is gathered and reported together, because a deploy that fails four times for four
missing variables costs an evening. `load()` is the only reader; everything else receives the
object. Names and aliases follow the environment table of the README and `.env.example`.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from datetime import timedelta
from email.utils import parseaddr
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic_core import ErrorDetails

RETRY_DELAYS = tuple(timedelta(seconds=s) for s in (30, 120, 600, 1800, 3600))
# No setting of its own: it is read as choices for the three vendors.
PRESET = "ADAPTERS_PRESET"
PLACEHOLDER_PRICE = "price_simulated_lifetime"


class SettingsFault(Exception):
    """The environment cannot be used; `faults` holds one sentence for each reason."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("; ".join(faults))


class AppEnv(StrEnum):
    DEVELOPMENT = "development"
    STAGING = "staging"
    PRODUCTION = "production"
    TESTING = "testing"

    @property
    def is_local(self) -> bool:
        """A person's own machine: readable logs, plain http."""
        return self in (AppEnv.DEVELOPMENT, AppEnv.TESTING)


Vendor = Literal["live", "simulated"]
TradingViewVendor = Literal["unofficial-api", "direct", "simulated", "manual"]


def _strict_bool(value: object) -> object:
    """Accept only true or false: `DEBUG=no` meaning true has cost people production data."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"true", "false", "1", "0"}:
        return value.lower() in {"true", "1"}
    raise ValueError("must be true or false")


def _comma_list(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _blank_is_none(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def encryption_key(text: str) -> bytes:
    """The 32 bytes of a key for AES-256, as people keep them: 64 hex digits or base64, url-safe or not, padded or not.

    Raises ValueError for anything else, also for base64 whose last letter has bits to spare: that is a
    key which lost a letter on the way.
    """
    text = text.strip()
    if re.fullmatch(r"[0-9a-fA-F]{64}", text):
        return bytes.fromhex(text)
    if re.fullmatch(r"([A-Za-z0-9+/]{43}|[A-Za-z0-9_-]{43})=?", text):
        standard = text.rstrip("=").replace("-", "+").replace("_", "/") + "="
        key = base64.b64decode(standard)
        if base64.b64encode(key).decode() == standard:
            return key
    raise ValueError("must be 32 bytes, as 64 hex digits or as base64")


def signing_key(text: str) -> bytes:
    """The bytes of a webhook's signing secret in Svix's spelling: at least 16 as base64, after `whsec_` or bare.

    Raises ValueError for anything else.
    """
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except ValueError:
        key = b""
    if len(key) < 16:
        raise ValueError("must be at least 16 bytes as base64, after whsec_")
    return key


def crosses_in_clear(address: str) -> bool:
    """True for plain http to a host that the Internet may reach: whoever listens there reads what is sent.

    Addresses of private networks and of this machine are inside, and so are names that only those know.
    Raises ValueError for what cannot be read as an address.
    """
    parts = urlsplit(address)
    return parts.scheme == "http" and not _is_inside(parts.hostname or "")


def _is_inside(host: str) -> bool:
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        # Resolvers take a bare number for an address: 134744072 and 0x8080808 are 8.8.8.8.
        if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", host):
            return False
        return bool(re.fullmatch(r"[a-z0-9_-]+|[a-z0-9_.-]+\.(internal|local|localhost)", host))
    return ip.is_private or ip.is_loopback


StrictBool = Annotated[bool, BeforeValidator(_strict_bool)]
CommaList = Annotated[tuple[str, ...], BeforeValidator(_comma_list)]


def _named(*names: str, default: Any = ..., **kwargs: Any) -> Any:
    return Field(default=default, validation_alias=AliasChoices(*names), **kwargs)


class Settings(BaseModel):
    """What the house needs to know from outside. Durations are seconds unless the name says otherwise."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    # App
    app_env: AppEnv = _named("APP_ENV", "FLASK_ENV", "NODE_ENV", default=AppEnv.DEVELOPMENT)
    app_name: str = _named("APP_NAME", "NEXT_PUBLIC_APP_NAME", default="STS Strategies")
    app_url: str = _named("APP_URL", "NEXTAUTH_URL", "NEXT_PUBLIC_APP_URL", "RENDER_EXTERNAL_URL", default="")
    port: int = _named("PORT", "API_PORT", default=5000, ge=1, le=65535)
    secret_key: SecretStr = _named("SECRET_KEY", "NEXTAUTH_SECRET", "JWT_SECRET")
    secret_key_fallbacks: CommaList = _named("SECRET_KEY_FALLBACKS", default=(), repr=False)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = _named("LOG_LEVEL", default="INFO")
    trusted_proxies: int = _named("TRUSTED_PROXIES", default=0, ge=0, le=5)

    # Data
    database_url: str = _named("DATABASE_URL", repr=False)
    database_url_unpooled: str | None = _named("DATABASE_URL_UNPOOLED", default=None, repr=False)
    database_pool_size: int = _named("DATABASE_POOL_SIZE", default=5, ge=1, le=100)
    redis_url: str = _named("REDIS_URL", repr=False)

    # Vendors
    payments_vendor: Vendor = _named("PAYMENTS_VENDOR", default="live")
    mail_vendor: Vendor = _named("MAIL_VENDOR", default="live")
    provisioning_mode: TradingViewVendor = _named("PROVISIONING_MODE", default="manual")

    # Stripe
    stripe_secret_key: SecretStr | None = _named("STRIPE_SECRET_KEY", default=None)
    stripe_webhook_secrets: CommaList = _named("STRIPE_WEBHOOK_SECRET", default=(), repr=False)
    stripe_price_id: str | None = _named("STRIPE_PRICE_ID", default=None)
    stripe_api_base: str | None = _named("STRIPE_API_BASE", default=None)
    subscription_grace_days: int = _named("SUBSCRIPTION_GRACE_DAYS", default=7, ge=0, le=60)

    # E-mail
    resend_api_key: SecretStr | None = _named("RESEND_API_KEY", default=None)
    resend_api_base: str | None = _named("RESEND_API_BASE", "RESEND_API_URL", default=None)
    resend_webhook_secrets: CommaList = _named("RESEND_WEBHOOK_SECRET", default=(), repr=False)
    email_from: str = _named("EMAIL_FROM", default="STS Strategies <noreply@example.com>")
    support_email: str | None = _named("SUPPORT_EMAIL", default=None)
    postal_address: str | None = _named("POSTAL_ADDRESS", default=None)
    admin_emails: CommaList = _named("ADMIN_EMAIL", "ADMIN_ALERT_EMAILS", default=())

    # TradingView
    tv_access_api_url: str | None = _named("TV_ACCESS_API_URL", default=None)
    tv_session_id: SecretStr | None = _named("TV_SESSION_ID", default=None)
    tv_signature: SecretStr | None = _named("TV_SIGNATURE", default=None)
    tv_canary_username: str | None = _named("TV_CANARY_USERNAME", default=None)
    tv_base_url: str = _named("TV_BASE_URL", default="https://www.tradingview.com")
    credential_encryption_key: SecretStr | None = _named(
        "CREDENTIAL_ENCRYPTION_KEY", "TENANT_SECRETS_ENCRYPTION_KEY", "DATA_ENCRYPTION_KEY", default=None
    )
    credential_encryption_key_fallbacks: CommaList = _named(
        "CREDENTIAL_ENCRYPTION_KEY_FALLBACKS", default=(), repr=False
    )
    provisioning_fallback_mode: Literal["manual", "none"] = _named("PROVISIONING_FALLBACK_MODE", default="manual")
    block_checkout_when_degraded: StrictBool = _named("BLOCK_CHECKOUT_WHEN_DEGRADED", default=False)
    tv_writes_per_minute: float = _named("TV_WRITES_PER_MINUTE", default=10.0, gt=0)
    tv_write_burst: float = _named("TV_WRITE_BURST", default=12.0, ge=1)
    tv_reads_per_minute: float = _named("TV_READS_PER_MINUTE", default=60.0, gt=0)
    tv_read_burst: float = _named("TV_READ_BURST", default=60.0, ge=1)
    tv_validate_timeout: float = _named("TV_VALIDATE_TIMEOUT", default=10.0, gt=0)
    tv_call_timeout: float = _named("TV_CALL_TIMEOUT", default=30.0, gt=0)

    # Worker
    worker_concurrency: int = _named("WORKER_CONCURRENCY", default=5, ge=1, le=64)
    worker_max_retries: int = _named("WORKER_MAX_RETRIES", default=5, ge=0, le=50)
    retry_time_scale: float = _named("RETRY_TIME_SCALE", default=1.0, gt=0, le=1)
    work_seconds: float = _named("WORK_SECONDS", default=15.0, gt=0)
    job_timeout: int = _named("JOB_TIMEOUT", default=130, ge=1)
    lease_seconds: int = _named("LEASE_SECONDS", default=180, ge=1)
    clock_skew_seconds: int = _named("CLOCK_SKEW_SECONDS", default=30, ge=0)
    scheduler_round: float = _named("SCHEDULER_ROUND_SECONDS", default=2.0, ge=0.2, le=5)

    # Sign-in
    magic_link_max_age: int = _named("MAGIC_LINK_MAX_AGE", default=1800, ge=60)
    session_days: int = _named("SESSION_DAYS", default=30, ge=1)
    google_client_id: str | None = _named("GOOGLE_CLIENT_ID", default=None)
    google_client_secret: SecretStr | None = _named("GOOGLE_CLIENT_SECRET", default=None)
    google_discovery_url: str = _named(
        "GOOGLE_DISCOVERY_URL", default="https://accounts.google.com/.well-known/openid-configuration"
    )

    # Operations
    health_token: SecretStr | None = _named("HEALTH_TOKEN", "METRICS_BEARER_TOKEN", default=None)

    @field_validator(
        "stripe_secret_key", "resend_api_key", "tv_session_id", "tv_signature", "tv_access_api_url",
        "tv_canary_username", "credential_encryption_key", "stripe_price_id", "stripe_api_base", "resend_api_base",
        "database_url_unpooled", "health_token", "support_email", "postal_address", "google_client_id",
        "google_client_secret", mode="before",
    )  # fmt: skip
    @classmethod
    def _empty_means_unset(cls, value: object) -> object:
        return _blank_is_none(value)

    @field_validator("database_url", "database_url_unpooled")
    @classmethod
    def _name_the_driver(cls, url: str | None) -> str | None:
        """Render hands out `postgres://`, which SQLAlchemy no longer knows."""
        if url is None:
            return None
        scheme, separator, rest = url.partition("://")
        if not separator or scheme not in {"postgres", "postgresql", "postgresql+psycopg"}:
            raise ValueError("must be a postgresql:// address")
        return "postgresql+psycopg://" + rest

    @field_validator("redis_url")
    @classmethod
    def _known_redis_scheme(cls, url: str) -> str:
        if not url.startswith(("redis://", "rediss://")):
            raise ValueError("must be a redis:// or rediss:// address")
        return url

    @field_validator("secret_key")
    @classmethod
    def _long_enough(cls, value: SecretStr) -> SecretStr:
        if len(value.get_secret_value()) < 32:
            raise ValueError("must be at least 32 characters of randomness")
        return value

    @field_validator("resend_webhook_secrets")
    @classmethod
    def _fit_to_verify(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        """An empty key would verify whatever anybody signs with an empty key."""
        for number, value in enumerate(values, 1):
            try:
                signing_key(value)
            except ValueError as error:
                raise ValueError(f"{error}: number {number} of them is not") from None
        return values

    @field_validator("support_email")
    @classmethod
    def _one_plain_address(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[^\s,;<>\"@]+@[^\s,;<>\"@]+", value):
            raise ValueError("must be one address, like help@example.com")
        return value

    @field_validator("credential_encryption_key")
    @classmethod
    def _fit_to_encrypt(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            encryption_key(value.get_secret_value())
        return value

    @field_validator("credential_encryption_key_fallbacks")
    @classmethod
    def _fit_to_decrypt(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for number, value in enumerate(values, 1):
            try:
                encryption_key(value)
            except ValueError as error:
                raise ValueError(f"{error}: number {number} of them is not") from None
        return values

    @property
    def is_production(self) -> bool:
        return self.app_env is AppEnv.PRODUCTION

    @property
    def asks_tradingview(self) -> bool:
        """Whether TradingView is asked by the store itself; without a way there people do the work, and check it."""
        return self.provisioning_mode != "manual"

    @property
    def reaches_tradingview(self) -> bool:
        """Whether what is given here is given at TradingView: then a placeholder for a script is no script."""
        return self.is_production or self.provisioning_mode in ("unofficial-api", "direct")

    @property
    def secure_cookies(self) -> bool:
        """Cookies carry `Secure` wherever the address is https; a local store speaks plain http."""
        return self.public_url.startswith("https://")

    @cached_property
    def public_url(self) -> str:
        """The address customers see, without a trailing slash."""
        return (self.app_url or f"http://127.0.0.1:{self.port}").rstrip("/")

    @property
    def offers_google(self) -> bool:
        """Whether people may sign in with Google."""
        return self.google_client_id is not None and self.google_client_secret is not None

    @property
    def google_origin(self) -> str:
        """Where Google's sign-in page is, for the browsers that are sent there from a form."""
        parts = urlsplit(self.google_discovery_url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def support_address(self) -> str:
        """Whom customers write to: `SUPPORT_EMAIL`, or else the plain address that letters come from."""
        return self.support_email or parseaddr(self.email_from)[1]

    @property
    def simulated_vendors(self) -> tuple[str, ...]:
        """Which of `payments`, `mail`, `tradingview` are simulated in this process."""
        chosen = {
            "payments": self.payments_vendor,
            "mail": self.mail_vendor,
            "tradingview": self.provisioning_mode,
        }
        return tuple(name for name, vendor in chosen.items() if vendor == "simulated")

    def scaled(self, delay: timedelta) -> timedelta:
        """A waiting time of ours as this process lives it (`RETRY_TIME_SCALE` is 1 in production)."""
        return delay * self.retry_time_scale

    @property
    def retry_delays(self) -> tuple[timedelta, ...]:
        """After the first, second, ... failed try; the last one repeats (PRODUCT 5)."""
        return tuple(self.scaled(delay) for delay in RETRY_DELAYS)


def _preset(environ: dict[str, str]) -> dict[str, str]:
    """`ADAPTERS_PRESET=mock|real` chooses all three vendors at once unless one is named.

    Raises ValueError for any other word.
    """
    preset = environ.get(PRESET, "").strip()
    if preset == "mock":
        chosen = {"PAYMENTS_VENDOR": "simulated", "MAIL_VENDOR": "simulated", "PROVISIONING_MODE": "simulated"}
    elif preset == "real":
        chosen = {"PAYMENTS_VENDOR": "live", "MAIL_VENDOR": "live"}
    elif preset:
        raise ValueError("must be mock or real")
    else:
        return environ
    if preset == "real" and environ.get("TV_ACCESS_API_URL"):
        chosen["PROVISIONING_MODE"] = "unofficial-api"
    return {**chosen, **environ}


def _faults_of(settings: Settings, *, preparing: bool = False) -> list[str]:
    """Rules that span settings; each is one sentence that says what to do."""
    faults = []
    s = settings
    if s.is_production and s.simulated_vendors:
        faults.append(f"Simulated vendors are refused in production: {', '.join(s.simulated_vendors)}")
    if s.payments_vendor == "live" and not s.stripe_secret_key:
        faults.append("STRIPE_SECRET_KEY is needed when PAYMENTS_VENDOR is live")
    if s.payments_vendor == "live" and not s.stripe_price_id and not preparing:
        faults.append("STRIPE_PRICE_ID is needed when PAYMENTS_VENDOR is live")
    if s.payments_vendor == "simulated" and not s.stripe_webhook_secrets:
        faults.append("STRIPE_WEBHOOK_SECRET is needed: the simulator signs its events like Stripe does")
    if s.mail_vendor == "live" and not s.resend_api_key:
        faults.append("RESEND_API_KEY is needed when MAIL_VENDOR is live")
    if s.provisioning_mode == "unofficial-api" and not s.tv_access_api_url:
        faults.append("TV_ACCESS_API_URL is needed when PROVISIONING_MODE is unofficial-api")
    if s.provisioning_mode == "unofficial-api" and s.tv_access_api_url:
        faults += _faults_of_address("TV_ACCESS_API_URL", s.tv_access_api_url)
    if s.provisioning_mode == "direct":
        faults += _faults_of_address("TV_BASE_URL", s.tv_base_url)
    if s.google_client_id and not s.google_client_secret:
        faults.append("GOOGLE_CLIENT_SECRET is needed with GOOGLE_CLIENT_ID")
    if s.offers_google:
        faults += _faults_of_address("GOOGLE_DISCOVERY_URL", s.google_discovery_url)
    if s.work_seconds + 3 * s.tv_call_timeout + 2 * s.tv_validate_timeout > s.job_timeout:
        faults.append("JOB_TIMEOUT must cover WORK_SECONDS, three TV_CALL_TIMEOUT and two TV_VALIDATE_TIMEOUT")
    if s.job_timeout + s.clock_skew_seconds >= s.lease_seconds:
        faults.append("LEASE_SECONDS must exceed JOB_TIMEOUT plus CLOCK_SKEW_SECONDS")
    if s.is_production:
        if not s.stripe_webhook_secrets and not preparing:
            faults.append("STRIPE_WEBHOOK_SECRET is required in production")
        if not s.app_url.startswith("https://"):
            faults.append("APP_URL is required in production and must start with https://")
        if not s.admin_emails:
            faults.append("ADMIN_EMAIL is required in production")
        if "trusted_proxies" not in s.model_fields_set:
            faults.append(
                "TRUSTED_PROXIES is required in production, 0 where no proxy stands in front: uncounted, "
                "all visitors would share the proxy's address and its rate limits"
            )
        if "example.com" in s.email_from:
            faults.append("EMAIL_FROM is required in production, at a domain verified with Resend")
        if s.retry_time_scale != 1:
            faults.append("RETRY_TIME_SCALE must be 1 in production")
        if s.stripe_secret_key and "_test_" in s.stripe_secret_key.get_secret_value():
            faults.append("STRIPE_SECRET_KEY is a test key; production needs the live one")
    elif s.stripe_secret_key and "_live_" in s.stripe_secret_key.get_secret_value():
        faults.append("STRIPE_SECRET_KEY is a live key; only production may hold one")
    return faults


def _faults_of_address(name: str, address: str) -> list[str]:
    """What keeps credentials from being sent to the address in a setting."""
    try:
        in_clear = crosses_in_clear(address)
    except ValueError:
        return [f"{name} is no address that can be read"]
    return [f"{name} starts with http://, and credentials would go there in clear: use https://"] if in_clear else []


def load(environ: dict[str, str], *, preparing: bool = False) -> Settings:
    """Read the settings from `environ`, raising `SettingsFault` with every reason at once.

    `preparing` is for the commands that come before a store can run: what the set-up at Stripe makes may be missing.
    """
    faults: list[str] = []
    given = {name: value for name, value in environ.items() if value.strip()}
    try:
        given = _preset(given)
    except ValueError as error:
        faults.append(f"{PRESET} {error}")
    try:
        settings = Settings.model_validate(given)
    except ValidationError as error:
        faults += [_sentence(fault) for fault in error.errors(include_input=False, include_url=False)]
        faulty = {environment_name(str(fault["loc"][0])) for fault in error.errors() if fault["loc"]}
        raise SettingsFault(faults + _faults_beside(given, faulty, preparing=preparing)) from None
    # Without the preset nobody knows which vendors were meant, so what they need is not held against them.
    faults = faults or _faults_of(settings, preparing=preparing)
    if faults:
        raise SettingsFault(faults)
    return settings


def _sentence(fault: ErrorDetails) -> str:
    """One of pydantic's faults in our words."""
    name = environment_name(str(fault["loc"][0])) if fault["loc"] else "the settings"
    if fault["type"] == "missing":
        return f"{name} is required"
    if fault["type"] in ("enum", "literal_error"):
        return f"{name} must be one of {fault['ctx']['expected']}"
    message = fault["msg"].removeprefix("Value error, ").replace("Input should be", "must be", 1)
    return f"{name} {message}"


# Any valid value serves for a setting whose own is missing or faulty, while the rules between settings are asked.
_STAND_INS = {
    "SECRET_KEY": "x" * 32,
    "DATABASE_URL": "postgresql://nobody/nothing",
    "REDIS_URL": "redis://nobody",
}


def _faults_beside(given: dict[str, str], faulty: set[str], *, preparing: bool) -> list[str]:
    """What else is wrong, so that mending the first faults does not bring up the next."""
    spared = {alias for field in Settings.model_fields for alias in names_of(field) if names_of(field)[0] in faulty}
    rest = {name: value for name, value in given.items() if name not in spared}
    try:
        settings = Settings.model_validate(_STAND_INS | rest)
    except ValidationError:
        return []
    return [each for each in _faults_of(settings, preparing=preparing) if each.split()[0] not in faulty]


def environment_name(field_or_alias: str) -> str:
    """The first environment name of a setting, as the documentation spells it."""
    for name in Settings.model_fields:
        aliases = names_of(name)
        if field_or_alias in (name, *aliases):
            return str(aliases[0])
    return field_or_alias


def names_of(field: str) -> tuple[str, ...]:
    """Every environment name a setting answers to, the preferred one first."""
    alias = Settings.model_fields[field].validation_alias
    assert isinstance(alias, AliasChoices)
    return tuple(str(choice) for choice in alias.choices)
