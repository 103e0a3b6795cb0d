"""`sts run` and the stack under it: settings, commands, processes, and what is said when something is in the way."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from sts_app.ops.embedded import LocalFault, free_port, lives
from sts_app.ops.local import Stack, named_or_default
from sts_app.settings import load

PROCFILE = """\
web: python -m http.server $PORT --bind 127.0.0.1 --directory $SITE
worker: python -c "import os, time; os.fork() or os.setsid(); print('at work', os.getpid(), flush=True); time.sleep(99)"
scheduler: python -c "import signal; print('on time', flush=True); signal.pause()"
release: python -c "print('released')"
"""


@pytest.fixture
def stack(servers, tmp_path) -> Iterator[Stack]:
    """A stack with the run's servers and small programs in place of the real ones."""
    procfile = tmp_path / "Procfile"
    procfile.write_text(PROCFILE)
    site = tmp_path / "site" / "health"
    site.mkdir(parents=True)
    (site / "ready").write_text("ready")
    env = {
        "DATABASE_URL": servers.postgres.url_of("postgres"),
        "REDIS_URL": servers.redis_url,
        "SITE": str(tmp_path / "site"),
    }
    with Stack(tmp_path / "stack", env=env, procfile=procfile) as stack:
        yield stack.prepare(data=False)


def workers(stack: Stack) -> list[psutil.Process]:
    """The worker and its child, once both have said that they are at work."""
    deadline = time.monotonic() + 10
    while stack.log("worker").count("at work") < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return [psutil.Process(int(line.split()[-1])) for line in stack.log("worker").splitlines()]


class TestSettings:
    def test_nothing_has_to_be_named(self, tmp_path):
        environ = named_or_default(
            {"DATABASE_URL": "postgresql:///x", "REDIS_URL": "redis://x"}, folder=tmp_path, port=5000
        )

        settings = load(environ)

        assert settings.simulated_vendors == ("payments", "mail", "tradingview")
        assert settings.public_url == "http://127.0.0.1:5000"
        assert settings.admin_emails == ("admin@example.com",)

    def test_what_is_named_wins_by_any_of_its_names(self, tmp_path):
        named = {
            "NEXTAUTH_SECRET": "x" * 40,
            "NEXTAUTH_URL": "https://here.test",
            "ADMIN_ALERT_EMAILS": "a@b.test",
            "PORT": "1",
        }

        environ = named_or_default(named, folder=tmp_path, port=5000)

        assert "SECRET_KEY" not in environ
        assert "APP_URL" not in environ
        assert "ADMIN_EMAIL" not in environ
        assert environ["PORT"] == "5000"

    def test_a_blank_is_not_a_value(self, tmp_path):
        environ = named_or_default({"ADMIN_EMAIL": "  ", "SECRET_KEY": ""}, folder=tmp_path, port=5000)

        assert environ["ADMIN_EMAIL"] == "admin@example.com"
        assert len(environ["SECRET_KEY"]) >= 32

    def test_a_named_vendor_is_not_simulated_over(self, tmp_path):
        environ = named_or_default({"PAYMENTS_VENDOR": "live"}, folder=tmp_path, port=5000)

        assert "ADAPTERS_PRESET" not in environ
        assert "STRIPE_WEBHOOK_SECRET" not in environ

    def test_a_live_mailer_is_not_given_a_secret_that_it_does_not_sign_with(self, tmp_path):
        live = named_or_default({"MAIL_VENDOR": "live", "PAYMENTS_VENDOR": "simulated"}, folder=tmp_path, port=5000)

        assert "RESEND_WEBHOOK_SECRET" not in live
        assert "RESEND_WEBHOOK_SECRET" in named_or_default({}, folder=tmp_path, port=5000)

    def test_secrets_are_made_once_and_are_private(self, tmp_path):
        first = named_or_default({}, folder=tmp_path, port=5000)
        second = named_or_default({}, folder=tmp_path, port=5000)

        names = (
            "SECRET_KEY",
            "STRIPE_WEBHOOK_SECRET",
            "RESEND_WEBHOOK_SECRET",
            "CREDENTIAL_ENCRYPTION_KEY",
            "HEALTH_TOKEN",
        )
        assert [first[name] for name in names] == [second[name] for name in names]
        assert (tmp_path / "local.env").stat().st_mode & 0o077 == 0


class TestStack:
    def test_the_callers_settings_are_not_its_own(self, tmp_path, servers, monkeypatch):
        monkeypatch.setenv("STRIPE_SECRET_KEY", "sk_test_of_the_caller")
        monkeypatch.setenv("WORKER_CONCURRENCY", "64")
        monkeypatch.setenv("ADAPTERS_PRESET", "real")
        env = {"DATABASE_URL": servers.postgres.url_of("postgres"), "REDIS_URL": servers.redis_url}

        with Stack(tmp_path / "stack", env=env) as stack:
            stack.prepare(data=False)

            assert "STRIPE_SECRET_KEY" not in stack.env
            assert stack.env["WORKER_CONCURRENCY"] == "2"
            assert stack.env["ADAPTERS_PRESET"] == "mock"

    def test_it_is_ready_when_the_site_says_so(self, stack):
        stack.start("web").wait_ready()

        assert requests.get(f"{stack.url}/health/ready", timeout=5).text == "ready"

    def test_a_process_that_ended_by_itself_is_named(self, stack):
        stack.start("worker")
        os.kill(stack.pid("worker"), signal.SIGTERM)

        with pytest.raises(LocalFault, match="The worker process was ended by SIGTERM"):
            stack.wait_ready()

    def test_killing_ends_children_that_left_the_group(self, stack):
        stack.start("worker")
        found = workers(stack)

        stack.kill("worker")

        assert len(found) == 2
        assert not [process for process in found if lives(process)]

    def test_stopping_ends_them_too_and_it_can_start_again(self, stack):
        stack.start("worker", "scheduler")
        found = workers(stack)

        stack.stop("worker", "scheduler")
        stack.start("worker")

        assert not [process for process in found if lives(process)]

    def test_a_command_returns_what_it_printed(self, stack):
        assert stack.run("release") == "released\n"

    def test_a_command_that_fails_says_its_last_words(self, stack):
        with pytest.raises(LocalFault, match=r"(?s)`python .*failed:.*no such luck"):
            stack.run("luck", "python -c \"import sys; sys.exit('no such luck')\"")

    def test_a_command_that_hangs_is_given_up(self, stack):
        with pytest.raises(LocalFault, match="took longer than 0 s"):
            stack.run("nap", "sleep 60", seconds=0.2)

    def test_a_second_stack_of_the_folder_hears_where_the_first_is(self, stack):
        with pytest.raises(LocalFault, match=f"already runs here: {stack.url}"):
            Stack(stack.folder).prepare()

    def test_what_an_earlier_run_left_is_ended_first(self, stack):
        left = subprocess.Popen(["sleep", "600"], env={**stack.env})
        stack.close()

        stack.prepare(data=False)

        assert left.wait(10) == -signal.SIGKILL

    def test_a_line_that_is_not_in_the_procfile_is_a_sentence(self, stack):
        with pytest.raises(LocalFault, match="no line named cook"):
            stack.start("cook")


class TestRun:
    """`sts run` as a person types it, in a folder of its own, with the real Procfile."""

    @pytest.fixture
    def run(self, servers, tmp_path) -> Iterator[object]:
        home = servers.new_folder()
        started: list[subprocess.Popen[str]] = []

        def run(**env: str) -> subprocess.Popen[str]:
            program = (
                "import sys; from pathlib import Path; from sts_app.ops import local; "
                f"local.HOME = Path({str(home)!r}); sys.exit(local.run())"
            )
            process = subprocess.Popen(
                [sys.executable, "-c", program],
                env={**_plain_environ(), **env},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            started.append(process)
            return process

        yield run
        for process in started:
            process.kill()
            process.communicate()

    def test_it_starts_says_where_and_stops_without_a_trace(self, run):
        port = free_port()
        process = run(PORT=str(port), STS_STARTED_AT=str(time.time()))
        said = _read_until(process, "from command to first page")

        second = run(PORT=str(free_port()))
        told, _ = second.communicate(timeout=60)
        page = requests.get(f"http://127.0.0.1:{port}/", timeout=10)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)

        assert f"STS is running: http://127.0.0.1:{port}" in said
        assert page.status_code == 200
        assert second.returncode == 1
        assert f"STS already runs here: http://127.0.0.1:{port}" in told
        assert process.returncode == 0, said + rest
        assert rest.rstrip().endswith("Stopped.")
        assert "Traceback" not in said + rest
        assert len(children) >= 6
        assert not [child for child in children if lives(child)]

    def test_a_taken_port_is_a_sentence(self, run):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            process = run(PORT=str(taken.getsockname()[1]))
            said, _ = process.communicate(timeout=60)

        assert process.returncode == 1
        assert "cannot be used (Address already in use)" in said
        assert "Traceback" not in said

    def test_a_port_that_is_no_number_is_a_sentence(self, run):
        process = run(PORT="http")
        said, _ = process.communicate(timeout=60)

        assert (process.returncode, said.strip()) == (1, "PORT must be a number from 1 to 65535, not 'http'.")


def _plain_environ() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}


def _read_until(process: subprocess.Popen[str], words: str) -> str:
    said = ""
    assert process.stdout is not None
    for line in process.stdout:
        said += line
        if words in line:
            return said
    raise AssertionError(said)


def test_the_procfile_is_the_projects():
    lines = (Path(__file__).parents[2] / "Procfile").read_text().splitlines()

    assert {line.partition(":")[0] for line in lines} >= {"web", "worker", "scheduler", "release"}
