"""The servers of a bare machine: they start, keep, forget, end with us, and survive our crashes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from redis import Redis
from redis.exceptions import AuthenticationError

from sts_app.ops import embedded
from sts_app.ops.embedded import EmbeddedPostgres, EmbeddedRedis, LocalFault, free_port, lives


@pytest.fixture
def folder(servers) -> Iterator[Path]:
    """Below the folder of this run, which the servers' user can reach; pytest's own it cannot."""
    path = servers.new_folder()
    path.mkdir()
    return path


def ask(url: str, question: str):
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(question)
        return cursor.fetchone()[0] if cursor.description else None


def wait_until_gone(*pids: int) -> None:
    deadline = time.monotonic() + 10
    while any(psutil.pid_exists(pid) and lives(psutil.Process(pid)) for pid in pids):
        assert time.monotonic() < deadline, "a server outlived the one who started it"
        time.sleep(0.02)


def holder(folder: Path) -> tuple[subprocess.Popen[str], int, int]:
    """Another process that started both servers in `folder`, with their numbers."""
    program = f"""
        import signal
        from pathlib import Path
        from sts_app.ops.embedded import EmbeddedPostgres, EmbeddedRedis
        postgres = EmbeddedPostgres(Path({str(folder / "postgres")!r})).start()
        redis = EmbeddedRedis(Path({str(folder / "redis")!r})).start()
        print(postgres.process.pid, redis.process.pid, flush=True)
        signal.pause()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    assert process.stdout is not None
    postgres, redis = process.stdout.readline().split()
    return process, int(postgres), int(redis)


def test_postgres_keeps_its_data_over_a_restart_and_listens_to_nobody_else(folder):
    with EmbeddedPostgres(folder / "postgres") as server:
        ask(server.url, "CREATE TABLE kept AS SELECT 7 AS number")
        assert ask(server.url, "SHOW listen_addresses") == ""
        assert ask(server.url, "SHOW server_encoding") == "UTF8"
        assert ask(server.url, "SELECT lower('ÄÖÜ')") == "äöü"
        assert ask(server.url, "SHOW timezone") == "UTC"

    with EmbeddedPostgres(folder / "postgres") as server:
        assert ask(server.url, "SELECT number FROM kept") == 7


def test_the_folders_of_the_servers_are_private(folder):
    with EmbeddedPostgres(folder / "postgres") as postgres, EmbeddedRedis(folder / "redis") as redis:
        for private in (postgres.home / "data", postgres.home / "socket", redis.home / "data"):
            assert private.stat().st_mode & 0o077 == 0
        assert (redis.home / "password").stat().st_mode & 0o077 == 0
        for server in (postgres, redis):
            assert psutil.Process(server.process.pid).uids().effective != 0


def test_a_throw_away_server_leaves_nothing(folder):
    with EmbeddedPostgres(folder / "postgres", throwaway=True) as server:
        assert ask(server.url, "SHOW fsync") == "off"
        pid = server.process.pid

    assert not server.home.exists()
    wait_until_gone(pid)


def test_databases_are_cloned_and_dropped(folder):
    with EmbeddedPostgres(folder / "postgres", throwaway=True) as server:
        ask(server.url, "CREATE TABLE kept AS SELECT 7 AS number")
        copy = server.create_database("copy", template="sts")

        somebody = psycopg.connect(copy, autocommit=True)
        assert somebody.execute("SELECT number FROM kept").fetchone() == (7,)
        server.drop_database("copy")
        somebody.close()

        with pytest.raises(psycopg.OperationalError, match="does not exist"):
            psycopg.connect(copy)


def test_two_servers_live_side_by_side(folder):
    with EmbeddedPostgres(folder / "one", throwaway=True) as one, EmbeddedPostgres(folder / "two") as two:
        assert ask(one.url, "SHOW data_directory") != ask(two.url, "SHOW data_directory")


def test_one_folder_serves_one_command_at_a_time(folder):
    with EmbeddedPostgres(folder / "postgres", throwaway=True) as server:
        with pytest.raises(LocalFault, match="already in use"):
            EmbeddedPostgres(folder / "postgres").start()

        assert ask(server.url, "SELECT 1") == 1


def test_a_long_path_gets_its_socket_elsewhere_and_takes_it_away(folder):
    deep = folder / ("deep" * 20) / "er"
    with EmbeddedPostgres(deep, throwaway=True) as server:
        socket = Path(ask(server.url, "SHOW unix_socket_directories"))
        assert socket.stat().st_mode & 0o077 == 0

    assert not socket.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_the_servers_end_when_we_are_killed(folder):
    process, postgres, redis = holder(folder)

    process.kill()
    process.communicate()

    wait_until_gone(postgres, redis)


def test_data_survive_when_everybody_is_killed_at_once(folder):
    process, postgres, redis = holder(folder)
    for pid in (postgres, redis, process.pid):
        os.kill(pid, signal.SIGKILL)
    process.communicate()

    with EmbeddedPostgres(folder / "postgres") as again, EmbeddedRedis(folder / "redis") as redis_again:
        assert ask(again.url, "SELECT 1") == 1
        assert Redis.from_url(redis_again.url).ping()


def test_a_server_that_outlived_us_is_ended_at_the_next_start(folder, monkeypatch):
    monkeypatch.setattr(embedded, "_libc", None)  # as where no system ends it with its parent
    left = EmbeddedPostgres(folder / "postgres").start()
    assert left.process is not None
    assert left._lock is not None
    os.close(left._lock)  # what the end of our process would do

    with EmbeddedPostgres(folder / "postgres") as server:
        assert server.process.pid != left.process.pid
        assert ask(server.url, "SELECT 1") == 1

    assert left.process.wait(10) == 0


def test_the_number_of_a_dead_server_may_belong_to_another_program(folder):
    with EmbeddedPostgres(folder / "postgres") as server:
        lock = server.home / "data" / "postmaster.pid"
        told = lock.read_text().split("\n", 1)[1]
    lock.write_text(f"{os.getpid()}\n{told}")

    with EmbeddedPostgres(folder / "postgres") as server:
        assert ask(server.url, "SELECT 1") == 1


def test_stopping_ends_a_server_that_somebody_is_connected_to(folder):
    server = EmbeddedPostgres(folder / "postgres", throwaway=True).start()
    with psycopg.connect(server.url) as somebody:
        somebody.execute("SELECT pg_backend_pid()")
        began = time.monotonic()
        server.stop()
        server.stop()

        assert time.monotonic() - began < 5
        with pytest.raises(psycopg.OperationalError):
            somebody.execute("SELECT 1")


def test_redis_wants_its_password_and_never_forgets_a_wake_up_for_want_of_memory(folder):
    with EmbeddedRedis(folder / "redis") as server:
        with Redis.from_url(server.url) as known, Redis(port=server.port) as stranger:
            assert known.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert known.config_get("appendonly", "save") == {"appendonly": "no", "save": ""}
            with pytest.raises(AuthenticationError):
                stranger.ping()
        arguments = " ".join(psutil.Process(server.process.pid).cmdline())

    assert server.password not in arguments


def test_redis_says_that_its_port_is_taken(folder):
    port = free_port()
    with EmbeddedRedis(folder / "one", port=port), pytest.raises(LocalFault, match="Failed listening on port"):
        EmbeddedRedis(folder / "two", port=port).start()


def test_redis_takes_another_port_when_somebody_was_quicker(folder, monkeypatch):
    with EmbeddedRedis(folder / "one") as one:
        answers = iter([one.port, free_port()])
        monkeypatch.setattr(embedded, "free_port", lambda: next(answers))
        with EmbeddedRedis(folder / "two") as two:
            assert two.port != one.port


def test_a_missing_wheel_is_said_in_one_sentence(folder, monkeypatch):
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None)

    for server, setting in ((EmbeddedPostgres, "DATABASE_URL"), (EmbeddedRedis, "REDIS_URL")):
        with pytest.raises(LocalFault, match=f"not installed.*{setting}"):
            server(folder / server.program).start()


def test_a_machine_without_a_binary_is_said_in_one_sentence(folder, monkeypatch):
    monkeypatch.setattr(embedded.platform, "machine", lambda: "sparc")

    with pytest.raises(LocalFault, match=r"holds no Valkey for Linux on sparc: .* REDIS_URL"):
        EmbeddedRedis(folder / "redis").start()


def test_data_of_another_version_are_left_alone(folder):
    with EmbeddedPostgres(folder / "postgres") as server:
        version = server.home / "data" / "PG_VERSION"
    version.write_text("14\n")

    with pytest.raises(LocalFault, match="belong to PostgreSQL 14"):
        EmbeddedPostgres(folder / "postgres").start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs its servers as somebody else")
def test_a_folder_that_the_servers_user_cannot_reach_is_not_opened_for_it(folder):
    private = folder / "private"
    private.mkdir(mode=0o700)

    with EmbeddedPostgres(private / "store" / "postgres", throwaway=True) as server:
        assert server.home.is_relative_to(embedded.SHARED)
        assert ask(server.url, "SELECT 1") == 1

    assert private.stat().st_mode & 0o777 == 0o700
    assert not server.home.exists()
