"""What tests stand on: servers, an app, a database that forgets, a store of real processes, a browser.

`db` is for one process: each test is one outer transaction that is rolled back, and what the app
commits is a savepoint in it. `world` is for many: see `tests/world.py`. Never both in one test.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import hypothesis
import pytest
import sqlalchemy as sa
from flask import Flask, has_app_context
from flask.testing import FlaskClient
from flask_sqlalchemy import SQLAlchemy
from itsdangerous import URLSafeTimedSerializer
from redis import Redis

from tests.world import ENV, Servers, World

NO_BROWSER = (
    "Chromium was not found, so browser tests did not run. Install it with `apt-get install chromium`, "
    "or name its program in CHROMIUM."
)


def pytest_configure(config: pytest.Config) -> None:
    # How long an example takes depends on what else the machine does; `timeout` bounds the whole test.
    hypothesis.settings.register_profile("sts", deadline=None)
    hypothesis.settings.load_profile("sts")
    config.addinivalue_line("markers", "breaks_invariants: this test breaks an invariant on purpose")
    config.addinivalue_line("markers", "browser: drives Chromium")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if chromium_path() is not None or os.environ.get("CI") == "true":
        return
    wanting = [item for item in items if item.get_closest_marker("browser")]
    for item in wanting:
        item.add_marker(pytest.mark.skip(reason=NO_BROWSER))
    if wanting:
        config.stash[_UNSEEN] = len(wanting)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if {"db", "world"} <= set(getattr(item, "fixturenames", ())):
        pytest.fail("`db` and `world` never together: the one forgets what the other's processes need to see.")
    if item.get_closest_marker("browser") and chromium_path() is None:
        pytest.fail(NO_BROWSER)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    unseen = config.stash.get(_UNSEEN, 0)
    if unseen:
        terminalreporter.section("browser tests did not run", red=True, bold=True)
        terminalreporter.line(f"{unseen} tests were skipped. {NO_BROWSER}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if report.failed:  # type: ignore[attr-defined]  # a wrapper's yield has no type
        item.stash[_FAILED] = True
        world = getattr(item, "funcargs", {}).get("world")
        if isinstance(world, World) and call.when == "call":
            for name, text in world.logs().items():
                end = "\n".join(text.splitlines()[-80:])
                report.sections.append((f"log of {name}", end))  # type: ignore[attr-defined]  # as above
    return report


_FAILED = pytest.StashKey[bool]()
_UNSEEN = pytest.StashKey[int]()


@pytest.fixture(scope="session", autouse=True)
def shut_network() -> Iterator[None]:
    """No test reaches further than this machine."""
    real = {name: getattr(socket.socket, name) for name in ("connect", "connect_ex")}

    def guarded(name: str) -> Callable[[socket.socket, Any], Any]:
        def connect(self: socket.socket, address: Any) -> Any:
            if self.family != socket.AF_UNIX and not _is_loopback(str(address[0])):
                raise AssertionError(f"a test tried to reach {address[0]}: the network is shut")
            return real[name](self, address)

        return connect

    with contextlib.ExitStack() as patches:
        for name in real:
            patches.enter_context(mock.patch.object(socket.socket, name, guarded(name)))
        yield


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """A PostgreSQL and a Redis for this run alone, whatever DATABASE_URL and REDIS_URL name."""
    servers = Servers()
    try:
        yield servers.start()
    finally:
        servers.close()


class Visitor(FlaskClient):
    """A test client as a browser is: each request stands alone, and forms carry their CSRF token.

    `visitor.post(..., csrf=False)` leaves the token out.
    """

    def open(self, *args: Any, csrf: bool = True, **kwargs: Any) -> Any:
        if csrf and kwargs.get("method", "GET") not in ("GET", "HEAD", "OPTIONS"):
            kwargs["headers"] = [*_pairs(kwargs.get("headers")), ("X-CSRFToken", self.csrf_token())]
        return super().open(*args, **kwargs)

    def csrf_token(self) -> str:
        """A token for the session this visitor has, as a form would carry it."""
        with self.session_transaction() as session:
            secret = session.setdefault("csrf_token", "a" * 40)
        return str(URLSafeTimedSerializer(self.application.secret_key, salt="wtf-csrf-token").dumps(secret))

    def run_wsgi_app(self, *args: Any, **kwargs: Any) -> Any:
        """One request, in an app context of its own.

        Inside the test's own context it would share the test's session, and remember in `g` who was
        signed in a request ago.
        """
        if not has_app_context() or self.preserve_context:
            return super().run_wsgi_app(*args, **kwargs)
        from sts_app.core.db import db

        db.session.commit()
        try:
            with self.application.app_context():
                return super().run_wsgi_app(*args, **kwargs)
        finally:
            db.session.expire_all()


def _pairs(headers: Any) -> list[tuple[str, str]]:
    return list(headers.items()) if hasattr(headers, "items") else list(headers or [])


@pytest.fixture(scope="session")
def app(servers: Servers) -> Iterator[Flask]:
    """The whole house with simulated vendors that keep their memory in this process.

    Without `db` it has no database at all: a test that needs one has to say so.
    """
    import jobs
    from sts_app import create_app
    from sts_app.core import store
    from sts_app.core.db import db
    from sts_app.settings import load

    with servers.database(servers.migrated) as url, contextlib.ExitStack() as patches:

        def in_memory(vendor: str) -> store.Store:
            return store.MemoryStore()

        patches.enter_context(mock.patch.object(store, "DatabaseStore", in_memory))
        app = create_app(load({**ENV, "DATABASE_URL": url, "REDIS_URL": servers.redis_url, "LOG_LEVEL": "WARNING"}))
        patches.enter_context(mock.patch.object(jobs, "the_app", return_value=app))
        app.config.update(TESTING=True, PROPAGATE_EXCEPTIONS=True)
        app.test_client_class = Visitor
        with app.app_context():
            db.session.configure(join_transaction_mode="create_savepoint")
            engine = db.engine
        app.extensions["sts_tests_engine"] = sa.create_engine(engine.url)
        sa.event.listen(engine, "do_connect", _refuse_to_connect)
        yield app
        app.extensions["sts_tests_engine"].dispose()


def _refuse_to_connect(*arguments: Any) -> None:
    raise AssertionError("this test touches the database: it has to ask for the `db` fixture")


@pytest.fixture(autouse=True)
def forgetful_vendors(request: pytest.FixtureRequest) -> None:
    """Simulated vendors remember nothing of the test before."""
    if "app" in request.fixturenames:
        app: Flask = request.getfixturevalue("app")
        for memory in app.extensions.get("sts_stores", {}).values():
            for kind, key in list(memory._records):
                memory.delete(kind, key)


@pytest.fixture
def db(
    app: Flask, servers: Servers, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[SQLAlchemy]:
    """The database in one transaction that is rolled back at the end, and an app context.

    What the app commits is visible to later requests and jobs of this test and to nobody else. It asks
    for `monkeypatch` so that a clock put in place by the test still stands when invariants are checked.
    """
    from sts_app.core.db import _limit_transaction, db
    from sts_app.ops.invariants import broken

    with Redis.from_url(servers.redis_url) as redis:
        redis.flushdb()
    with app.extensions["sts_tests_engine"].connect() as connection:
        outer = connection.begin()
        _limit_transaction(connection)
        monkeypatch.setitem(db._app_engines[app], None, _stand_for_engine(connection))
        with app.app_context():
            yield db
            db.session.rollback()
            if outer.is_active and not request.node.stash.get(_FAILED, False):
                refuse_broken(request.node, broken(connection, workers_alive=False))
        outer.rollback()


def _stand_for_engine(connection: sa.Connection) -> sa.Connection:
    """Let code that asks `db.engine` for a connection or a transaction have a savepoint of the one there is."""

    @contextlib.contextmanager
    def begin() -> Iterator[sa.Connection]:
        with connection.begin_nested():
            yield connection

    @contextlib.contextmanager
    def connect() -> Iterator[sa.Connection]:
        yield connection

    connection.begin = begin  # type: ignore[method-assign, assignment]  # on this object alone
    connection.connect = connect  # type: ignore[attr-defined]  # an engine's, not a connection's
    return connection


def refuse_broken(item: pytest.Item, offenders: dict[str, list[tuple[Any, ...]]]) -> None:
    if offenders and not item.get_closest_marker("breaks_invariants"):
        told = "\n".join(f"  {name}: {rows[:5]}" for name, rows in offenders.items())
        pytest.fail(f"invariants are broken after this test:\n{told}")


@pytest.fixture
def client(app: Flask, db: SQLAlchemy) -> Visitor:
    """A visitor with an empty cookie jar. `app.test_client()` makes more of them."""
    visitor = app.test_client()
    assert isinstance(visitor, Visitor)
    return visitor


@pytest.fixture
def world(servers: Servers, request: pytest.FixtureRequest) -> Iterator[World]:
    """A store of real processes, not yet started: `world.start()`. Its catalog is seeded."""
    with servers.database(servers.seeded) as url:
        world = World(servers.new_folder(), url)
        try:
            yield world
            world.halt()
            if not request.node.stash.get(_FAILED, False):
                refuse_broken(request.node, world.broken_invariants())
        finally:
            world.close()


def chromium_path() -> str | None:
    """The Chromium of this machine: CHROMIUM's, or the first by a usual name."""
    named = os.environ.get("CHROMIUM")
    if named:
        return shutil.which(named)
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    return next((path for path in found if path), None)


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """For pytest-playwright: this machine's Chromium, without the sandbox that root may not have."""
    return {
        **browser_type_launch_args,
        "executable_path": chromium_path(),
        "args": ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
    }


@pytest.fixture(scope="session")
def base_url() -> None:
    """In place of a plugin's own, which this pytest deprecates: every world has an address of its own."""
