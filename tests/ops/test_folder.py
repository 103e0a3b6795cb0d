"""The folder of the local store: what it tells commands that are typed beside it, and how it goes."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sts_app.core.web import ROOT
from sts_app.ops import folder as local_folder
from sts_app.ops.embedded import EmbeddedPostgres, EmbeddedRedis
from sts_app.ops.folder import clear, forget, holder_of, home_for_root, remember, settings_of_running

ODD = {"SECRET_KEY": "with = and 'quotes' \"both\" and # and $HOME", "APP_NAME": "two\nlines\u2028three"}


@pytest.fixture
def home(tmp_path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    return path


@pytest.fixture
def held(home) -> Iterator[Path]:
    """The folder while a store runs in it."""
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("http://127.0.0.1:5000 (process 7)\n")
        lock.flush()
        yield home


def test_the_settings_of_a_running_store_come_back_as_they_were(held):
    remember(held, ODD)

    assert settings_of_running(held) == ODD
    assert (held / "running.env").stat().st_mode & 0o777 == 0o600


def test_what_is_left_by_a_crash_is_nobodys(home):
    remember(home, ODD)
    (home / "lock").write_text("http://127.0.0.1:5000 (process 7)\n")

    assert holder_of(home) is None
    assert settings_of_running(home) is None


def test_a_store_that_has_not_said_its_settings_yet_has_none(held):
    remember(held, ODD)
    forget(held)
    forget(held)

    assert settings_of_running(held) is None


def test_no_folder_no_store(tmp_path):
    assert holder_of(tmp_path / "none") is None
    assert settings_of_running(tmp_path / "none") is None


class TestClear:
    @pytest.fixture
    def shared(self, tmp_path, home) -> Path:
        """Root's folder: the data of this store and of another, and programs that both use."""
        shared = tmp_path / "shared"
        for program, name in (("postgres", "postgres"), ("valkey-server", "redis")):
            (home_for_root(home / name, program, shared=shared) / "data").mkdir(parents=True)
        (home_for_root(Path("/elsewhere/postgres"), "postgres", shared=shared) / "data").mkdir(parents=True)
        (shared / "programs-1.0").mkdir()
        return shared

    def test_the_data_of_this_store_go_in_both_places_and_nothing_else_does(self, home, shared, capsys):
        (home / "local.env").write_text("SECRET_KEY=x\n")

        code = clear(home, shared=shared)

        others = home_for_root(Path("/elsewhere/postgres"), "postgres", shared=shared)
        assert code == 0
        assert not home.exists()
        assert set(shared.iterdir()) == {others, shared / "programs-1.0"}
        told = capsys.readouterr().out
        assert [line.startswith("Removed ") for line in told.splitlines()] == [True] * 3
        assert str(home) in told

    def test_a_store_that_runs_is_left_alone_with_a_sentence(self, held, shared, capsys):
        before = sorted(shared.iterdir())

        code = clear(held, shared=shared)

        assert code == 1
        assert sorted(shared.iterdir()) == before
        assert "A store runs here (http://127.0.0.1:5000 (process 7)): stop it first." in capsys.readouterr().err

    def test_a_server_that_runs_without_a_store_counts_too(self, home, shared):
        server = home_for_root(home / "postgres", "postgres", shared=shared)
        with (server / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)

            assert clear(home, shared=shared) == 1
            assert server.exists()

    def test_twice_is_once(self, home, shared, capsys):
        clear(home, shared=shared)
        capsys.readouterr()

        assert clear(home, shared=shared) == 0
        assert capsys.readouterr().out == ""

    def test_what_cannot_be_removed_is_named(self, tmp_path, shared, capsys):
        link = tmp_path / "link"
        (tmp_path / "real").mkdir()
        link.symlink_to(tmp_path / "real")

        assert clear(link, shared=shared) == 1
        assert f"{link} could not be removed" in capsys.readouterr().err


def test_it_knows_the_servers_by_their_programs():
    assert {"postgres": EmbeddedPostgres.program, "redis": EmbeddedRedis.program} == local_folder.SERVERS


def test_it_needs_no_virtual_environment():
    """`make clean` runs it as a file; -I and -S leave out every package that was installed."""
    program = f"import runpy; runpy.run_path({str(ROOT / 'sts_app' / 'ops' / 'folder.py')!r})"

    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")


def test_the_makefile_clears_before_it_removes_what_clears():
    recipe = (ROOT / "Makefile").read_text().partition("\nclean:")[2].partition("\n\n")[0]

    assert recipe.index("sts_app/ops/folder.py") < recipe.index("rm -rf")
    assert " .sts" not in recipe
