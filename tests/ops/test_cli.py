"""The command line before any command: help without settings, the store that runs here, and Ctrl-C at the start."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest
import structlog
from click.testing import CliRunner, Result
from flask import current_app
from flask.cli import with_appcontext

from sts_app import cli
from sts_app.ops import folder
from sts_app.ops.local import Stack
from sts_app.settings import Settings, names_of
from tests.fakes.stripe_api import FakeStripe

COMMANDS = {
    "access",
    "admin",
    "allow",
    "credentials",
    "db",
    "demo",
    "disputes",
    "doctor",
    "events",
    "explain",
    "invariants",
    "letters",
    "plans",
    "privacy",
    "provisioning",
    "purchases",
    "reconcile",
    "refunds",
    "replay-webhooks",
    "rotate-key",
    "run",
    "seed",
    "strategies",
    "stripe-setup",
    "subscriptions",
    "tickets",
    "tasks",
    "withdrawals",
}


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """An environment without one setting, in a clone where nothing runs."""
    for field in Settings.model_fields:
        for name in names_of(field):
            monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("ADAPTERS_PRESET", raising=False)
    monkeypatch.setattr(folder, "HOME", tmp_path / "home")


@pytest.fixture
def running(bare, servers, tmp_path):
    """A store that runs here, as far as other commands can see."""
    env = {"DATABASE_URL": servers.postgres.url_of("postgres"), "REDIS_URL": servers.redis_url}
    with Stack(tmp_path / "home", env=env) as stack:
        yield stack.prepare(data=False)


def sts(*words: str) -> Result:
    return CliRunner().invoke(cli.main, words)


@pytest.fixture
def which(monkeypatch):
    """A command that says which database it would use."""

    @cli.main.command("which")
    @with_appcontext
    def which() -> None:
        print(current_app.config["STS"].database_url)  # noqa: T201  # a command's output

    yield which
    del cli.main.commands["which"]


class TestHelp:
    def test_it_lists_our_commands_and_no_others_and_needs_no_settings(self, bare):
        result = sts("--help")

        listed = {
            line.split()[0] for line in result.output.partition("Commands:\n")[2].splitlines() if line[2:3] != " "
        }
        assert result.exit_code == 0
        assert listed == COMMANDS
        assert "Traceback" not in result.output

    def test_a_command_that_is_not_there_is_said_to_be_so(self, bare):
        result = sts("docter")

        assert result.exit_code == 2
        assert "No such command 'docter'" in result.output

    def test_without_a_store_the_missing_settings_are_listed(self, bare):
        result = sts("doctor")

        assert result.exit_code == 78
        assert "  - DATABASE_URL is required\n" in result.output


class TestRunningStore:
    def test_a_command_beside_it_uses_its_settings_and_says_so(self, running, which):
        result = sts("which")

        assert result.exit_code == 0
        assert result.stdout.strip().partition("://")[2] == running.env["DATABASE_URL"].partition("://")[2]
        assert result.stderr == f"Using the local store that runs on port {running.port}.\n"

    @pytest.mark.parametrize(("options", "is_told"), [((), False), (("-v",), True)])
    def test_the_log_is_no_part_of_an_answer_unless_it_is_asked_for(self, running, monkeypatch, options, is_told):
        @cli.main.command("busy")
        @with_appcontext
        def busy() -> None:
            structlog.get_logger().info("house.busy")

        try:
            result = sts(*options, "busy")
        finally:
            del cli.main.commands["busy"]

        assert result.exit_code == 0
        assert ("house.busy" in result.stderr) is is_told

    def test_only_settings_are_written_down(self, running):
        found = folder.settings_of_running(folder.HOME)

        assert found is not None
        assert found["SECRET_KEY"] == running.env["SECRET_KEY"]
        assert not {"PATH", "HOME", "STS_FOLDER"} & found.keys()

    def test_a_named_database_is_the_one_that_is_meant(self, running, which, monkeypatch):
        monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere/sts")

        result = sts("which")

        assert result.exit_code == 78
        assert "SECRET_KEY is required" in result.output

    @pytest.mark.parametrize("name", names_of("app_env"))
    def test_production_never_uses_it(self, running, which, monkeypatch, name):
        monkeypatch.setenv(name, "production")

        assert sts("which").exit_code == 78

    def test_a_store_that_stopped_is_used_no_more(self, running, which):
        running.close()

        assert sts("which").exit_code == 78
        assert not (folder.HOME / "running.env").exists()


class TestBeforeTheStoreCanRun:
    """What Stripe is told of the store with makes the settings that the store needs to run."""

    @pytest.fixture
    def stripe(self, bare, servers, monkeypatch):
        """Stripe, and everything but what the set-up there makes."""
        with servers.database(servers.seeded) as url, FakeStripe("sk_of_nobody").running() as fake:
            given = {
                "APP_ENV": "production",
                "ADAPTERS_PRESET": "real",
                "APP_URL": "https://store.example",
                "SECRET_KEY": "k" * 40,
                "DATABASE_URL": url,
                "REDIS_URL": servers.redis_url,
                "STRIPE_SECRET_KEY": "sk_of_nobody",
                "STRIPE_API_BASE": fake.url,
                "RESEND_API_KEY": "re_of_nobody",
                "EMAIL_FROM": "STS <hello@store.example>",
                "ADMIN_EMAIL": "sam@staff.example",
                "TRUSTED_PROXIES": "1",
            }
            for name, value in given.items():
                monkeypatch.setenv(name, value)
            yield fake

    def test_the_set_up_at_stripe_needs_its_secret_key_alone(self, stripe):
        program = "import sys, sts; sys.argv[0] = 'sts'; sts.main()"
        seeded, made = (
            subprocess.run([sys.executable, "-c", program, word], capture_output=True, text=True)
            for word in ("seed", "stripe-setup")
        )

        assert (seeded.returncode, made.returncode) == (0, 0), seeded.stderr + made.stderr
        assert re.search(r"made +price", made.stdout)
        assert "whsec_" in made.stdout
        assert re.search(r"Put price_\w+ into STRIPE_PRICE_ID", made.stdout)

    def test_the_store_itself_needs_what_it_makes(self, stripe):
        refused = sts("invariants")

        assert refused.exit_code == 78
        assert refused.output.count("  - ") == 2
        assert "STRIPE_PRICE_ID is needed" in refused.output
        assert "STRIPE_WEBHOOK_SECRET is required" in refused.output

    def test_a_part_of_another_command_is_not_taken_for_one_of_these(self, stripe, monkeypatch):
        monkeypatch.setitem(cli.main.commands["plans"].commands, "seed", cli.main.commands["invariants"])

        assert sts("plans", "seed").exit_code == 78


def test_ctrl_c_while_the_house_is_imported_is_no_trace():
    program = """
import os, signal, sys

class Interrupted:
    def find_spec(self, name, *rest):
        if name == "sts_app":
            os.kill(os.getpid(), signal.SIGINT)

import sts
sys.meta_path.insert(0, Interrupted())
sts.main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ})

    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGINT, "", "")
