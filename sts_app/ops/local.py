"""The whole store on one machine: `sts run` for a person, `Stack` for the demo and the tests.

A `Stack` is a folder, a database, a Redis and the processes of the `Procfile`, each in a session of
its own with its own log, so that a test can kill one as a power cut would. `sts run` is a stack in
`.sts/` with its log on the screen: no settings beforehand, everything stopped by Ctrl-C.
"""

from __future__ import annotations

import base64
import fcntl
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Self

import click
import psutil
import requests
from dotenv import dotenv_values
from honcho.colour import get_colours
from honcho.environ import parse_procfile
from honcho.printer import Message, Printer

from sts_app.ops import folder as local_folder
from sts_app.ops.embedded import (
    EmbeddedPostgres,
    EmbeddedRedis,
    LocalFault,
    free_port,
    lives,
    start_process,
)
from sts_app.ops.folder import HOME
from sts_app.settings import PRESET, Settings, names_of

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = ("web", "worker", "scheduler")
READY_SECONDS = 60.0
# What is running may finish. Nothing is lost by a shorter wait: work is rows, and a lease runs out.
GRACE_SECONDS = 10.0
COMMAND_SECONDS = 180.0
VENDOR_CHOICES = (PRESET, "PAYMENTS_VENDOR", "MAIL_VENDOR", "PROVISIONING_MODE")
# Whose events a secret of ours verifies, by the setting that chooses the vendor.
SIGNED_BY = {"STRIPE_WEBHOOK_SECRET": "PAYMENTS_VENDOR", "RESEND_WEBHOOK_SECRET": "MAIL_VENDOR"}
SPEED = {"WORKER_CONCURRENCY": "2", "SCHEDULER_ROUND_SECONDS": "1", "WEB_CONCURRENCY": "1"}


@dataclass
class Running:
    """One line of the `Procfile` as a process."""

    name: str
    process: subprocess.Popen[bytes]
    mark: str
    pump: threading.Thread | None


class Stack:
    """Servers and processes of one store. Start it from the main thread; `close()` ends all of it.

    `env` names the settings that differ; with `DATABASE_URL` or `REDIS_URL` in it, no server of that
    kind is started. Nothing else of the caller's settings is used, so a developer's database is never
    touched by a demo or a test.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        env: Mapping[str, str] | None = None,
        throwaway: bool = False,
        printer: Printer | None = None,
        procfile: Path = ROOT / "Procfile",
    ) -> None:
        self.folder = folder.absolute()
        self.port = port or free_port()
        self.postgres: EmbeddedPostgres | None = None
        self.redis: EmbeddedRedis | None = None
        self.env: dict[str, str] = {}
        self.in_a_hurry = False
        self._given = {name: value for name, value in (env or {}).items() if value.strip()}
        self._throwaway = throwaway
        self._printer = printer
        self._colours = get_colours()
        self._screen = threading.Lock()
        self._commands: dict[str, str] = dict(parse_procfile(procfile.read_text()).processes)
        self._running: dict[str, Running] = {}
        self._lock: IO[str] | None = None
        self._token = secrets.token_hex(8)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def prepare(self, *, data: bool = True) -> Self:
        """Start the servers; with `data`, bring the schema up to date and sow the catalog. Safe to call once.

        Raises `LocalFault` with a sentence when something on this machine is in the way.
        """
        self._take_folder()
        named = dict(self._given)
        if "DATABASE_URL" not in named:
            self.postgres = EmbeddedPostgres(self.folder / "postgres", throwaway=self._throwaway).start()
            named["DATABASE_URL"] = self.postgres.url
        if "REDIS_URL" not in named:
            self.redis = EmbeddedRedis(self.folder / "redis", throwaway=self._throwaway).start()
            named["REDIS_URL"] = self.redis.url
        self.env = {**_surroundings(), **named_or_default(named, folder=self.folder, port=self.port)}
        self.env["STS_FOLDER"] = str(self.folder)
        programs = str(Path(sys.prefix) / "bin")
        self.env["PATH"] = os.pathsep.join([programs, self.env.get("PATH", os.defpath)])
        local_folder.remember(self.folder, {name: self.env[name] for name in _setting_names() if name in self.env})
        if data:
            self.run("release")
            self.run("seed", "sts seed")
        return self

    def run(self, name: str, command: str | None = None, *, seconds: float = COMMAND_SECONDS) -> str:
        """Run a command (or a line of the `Procfile`) to its end and return what it printed.

        Raises `LocalFault` with its last words when it fails or takes too long.
        """
        running = self._start(name, command or self._command(name), echo=False)
        try:
            code = running.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise LocalFault(f"`{command or self._command(name)}` took longer than {seconds:.0f} s.") from None
        finally:
            self.kill(name)
        if code != 0:
            words = self.log(name).strip().splitlines()[-25:]
            raise LocalFault("\n  ".join([f"`{command or self._command(name)}` failed:", *words]))
        return self.log(name)

    def start(self, *names: str) -> Self:
        """Start lines of the `Procfile`, all three of the store by default."""
        for name in names or PROCESSES:
            self._start(name, self._command(name), echo=True)
        return self

    def wait_ready(self, *, seconds: float = READY_SECONDS) -> Self:
        """Return once the site says it is ready to serve."""
        deadline = time.monotonic() + seconds
        with requests.Session() as session:
            session.trust_env = False  # a proxy of the surroundings is not for loopback
            while True:
                self.refuse_ended()
                try:
                    if session.get(f"{self.url}/health/ready", timeout=5).status_code == 200:
                        return self
                except requests.RequestException:
                    pass
                if time.monotonic() > deadline:
                    raise LocalFault(f"The site was not ready within {seconds:.0f} s; see {self._log_path('web')}.")
                time.sleep(0.05)

    def refuse_ended(self) -> None:
        """Raise `LocalFault` naming the process, if one that was started has ended by itself."""
        for running in self._running.values():
            code = running.process.poll()
            if code is not None:
                how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
                raise LocalFault(f"The {running.name} process {how}; see {self._log_path(running.name)}.")

    def pid(self, name: str) -> int:
        return self._running[name].process.pid

    def stop(self, *names: str) -> None:
        """Ask processes to finish (SIGTERM), wait, and kill what does not. Returns when they are gone."""
        chosen = [self._running[name] for name in names if name in self._running]
        for running in chosen:
            running.process.terminate()
        deadline = time.monotonic() + GRACE_SECONDS
        for running in chosen:
            while running.process.poll() is None and time.monotonic() < deadline and not self.in_a_hurry:
                time.sleep(0.02)
            self.kill(running.name)

    def kill(self, name: str) -> None:
        """End a process and all it started at once, as a power cut would: nobody gets to clean up."""
        running = self._running.pop(name, None)
        if running is None:
            return
        _kill(_family(running.process.pid))
        # RQ's work horses leave the process group, and an orphan has no parent to be found by.
        while orphans := _carriers("STS_PROCESS", running.mark):
            _kill(orphans)
        running.process.wait()
        if running.pump is not None:
            running.pump.join(timeout=2)

    def log(self, name: str) -> str:
        """All that a process has printed since this stack started it for the first time."""
        path = self._log_path(name)
        return path.read_text(errors="replace") if path.exists() else ""

    def close(self) -> None:
        """Stop everything: the door first, then those who work, then Redis, then the database."""
        order = {"web": 0, "scheduler": 1, "worker": 2}
        self.stop(*sorted(self._running, key=lambda name: order.get(name, 3)))
        for server in (self.redis, self.postgres):
            if server is not None:
                server.stop()
        if self._lock is not None:
            local_folder.forget(self.folder)
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _command(self, name: str) -> str:
        try:
            return self._commands[name]
        except KeyError:
            raise LocalFault(f"The Procfile has no line named {name}.") from None

    def _log_path(self, name: str) -> Path:
        return self.folder / "log" / f"{name}.log"

    def _start(self, name: str, command: str, *, echo: bool) -> Running:
        if name in self._running:
            raise LocalFault(f"The {name} process runs already.")
        path = self._log_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        mark = f"{self._token}.{name}"
        printer = self._printer if echo else None
        with path.open("ab") as log:
            process = start_process(
                ["/bin/sh", "-c", f"exec {command}"],
                cwd=ROOT,
                env={**self.env, "STS_PROCESS": mark},
                output=subprocess.PIPE if printer else log,
                on_parent_death=signal.SIGTERM,
            )
        pump = None
        if printer is not None:
            pump = threading.Thread(target=self._show, args=(process, name, path, printer), daemon=True)
            pump.start()
        self._running[name] = Running(name, process, mark, pump)
        return self._running[name]

    def _show(self, process: subprocess.Popen[bytes], name: str, path: Path, printer: Printer) -> None:
        colour = next(self._colours)
        assert process.stdout is not None
        with process.stdout as lines, path.open("ab", buffering=0) as log:
            for line in lines:
                log.write(line)
                with self._screen:
                    printer.write(Message("line", line, datetime.now(), name, colour))  # noqa: DTZ005  # wall clock

    def _take_folder(self) -> None:
        """Make sure that this folder is ours alone, also against what an earlier run left behind."""
        # Passable for the user that root's servers run as; what is private in here is so by itself.
        self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        lock = (self.folder / "lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            with lock:
                raise LocalFault(f"STS already runs here: {lock.read().strip() or 'it is just starting'}.") from None
        lock.truncate(0)
        lock.write(f"{self.url} (process {os.getpid()})\n")
        lock.flush()
        self._lock = lock
        local_folder.forget(self.folder)
        while leftovers := _carriers("STS_FOLDER", str(self.folder)):
            _kill(leftovers)
        for path in (self.folder / "log").glob("*.log"):
            path.unlink()


def named_or_default(named: Mapping[str, str], *, folder: Path, port: int) -> dict[str, str]:
    """The environment of a local store: what is named, and a default wherever no name of a setting is."""
    environ = {name: value for name, value in named.items() if value.strip()}
    aliases = {alias: names_of(field) for field in Settings.model_fields for alias in names_of(field)}

    def default(name: str, value: str) -> None:
        if not any(alias in environ for alias in aliases.get(name, (name,))):
            environ[name] = value

    environ.setdefault("APP_ENV", "development")
    environ["PORT"] = str(port)
    if not any(name in environ for name in VENDOR_CHOICES):
        environ[PRESET] = "mock"
    for name, value in _own_secrets(folder).items():
        # A live vendor signs with a secret of its own; any other would look as if it were known.
        if name not in SIGNED_BY or not _is_live(environ, SIGNED_BY[name]):
            default(name, value)
    default("APP_URL", f"http://127.0.0.1:{port}")
    default("ADMIN_EMAIL", "admin@example.com")
    default("EMAIL_FROM", "STS Strategies <hello@sts.example>")
    for name, value in {**SPEED, "WEB_HOST": "127.0.0.1", "TZ": "UTC", "PYTHONUNBUFFERED": "1"}.items():
        default(name, value)
    return environ


def _is_live(environ: Mapping[str, str], choice: str) -> bool:
    chosen = environ.get(choice) or environ.get(PRESET, "live")
    return chosen in {"live", "real"}


def _own_secrets(folder: Path) -> dict[str, str]:
    """The secrets of this folder's store, made at its first start and kept."""
    path = folder / "local.env"
    kept = {name: value for name, value in dotenv_values(path, interpolate=False).items() if value}
    made = {
        "SECRET_KEY": secrets.token_urlsafe(48),
        "STRIPE_WEBHOOK_SECRET": "whsec_" + secrets.token_urlsafe(24),
        "RESEND_WEBHOOK_SECRET": "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode(),
        "CREDENTIAL_ENCRYPTION_KEY": secrets.token_hex(32),
        "HEALTH_TOKEN": secrets.token_urlsafe(24),
    }
    if missing := made.keys() - kept.keys():
        kept |= {name: made[name] for name in missing}
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.writelines(f"{name}={value}\n" for name, value in sorted(kept.items()))
    return kept


def _surroundings() -> dict[str, str]:
    """The caller's environment without any setting of the store."""
    settings = _setting_names() | {
        "WEB_HOST",
        "WEB_CONCURRENCY",
        "WEB_THREADS",
        "GUNICORN_CMD_ARGS",
        "STS_PROCESS",
        "STS_FOLDER",
    }
    return {name: value for name, value in os.environ.items() if name not in settings}


def _setting_names() -> set[str]:
    """Every name that a setting of the store is read by."""
    return {alias for field in Settings.model_fields for alias in names_of(field)} | {PRESET}


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    deadline = time.monotonic() + GRACE_SECONDS
    while any(lives(process) for process in processes):
        if time.monotonic() > deadline:
            raise LocalFault(f"Process {processes[0].pid} does not end.")
        time.sleep(0.01)


def _family(pid: int) -> list[psutil.Process]:
    try:
        leader = psutil.Process(pid)
        return [leader, *leader.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _carriers(name: str, value: str) -> list[psutil.Process]:
    """Processes of this user whose environment says `name=value`, but for this one and those above it."""
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid not in spared and process.environ().get(name) == value and lives(process):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def _refuse_taken(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise LocalFault(
                f"Port {port} cannot be used ({os.strerror(error.errno or 0)}): free it, or choose another as in "
                f"`PORT={port + 1} make run`."
            ) from None


def _chosen_port(named: Mapping[str, str]) -> int:
    text = next((named[name] for name in names_of("port") if named.get(name, "").strip()), "5000")
    if not text.strip().isdigit() or not 1 <= int(text) <= 65535:
        raise LocalFault(f"PORT must be a number from 1 to 65535, not {text!r}.")
    return int(text)


class _Asked(Exception):
    """Somebody wants us to stop: Ctrl-C, SIGTERM, or the terminal was closed."""


class _Signals:
    """What being asked to stop means at each time: break off, take note, or hurry."""

    def __init__(self, stack: Stack) -> None:
        self.asked = False
        self.breaks_off = True
        self._stack = stack
        for sent in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(sent, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            self._stack.in_a_hurry = True  # asked once more: wait for nobody
        self.asked = True
        # While the store starts, whatever is waited for is broken off. Later a note is enough, and an
        # exception out of the middle of some library would only be a way to stop badly.
        if self.breaks_off:
            self.breaks_off = False
            raise _Asked


def _banner(stack: Stack, seconds: float | None) -> str:
    environ = stack.env
    mock = environ.get(PRESET) == "mock"
    lines = [
        f"STS is running: {stack.url}",
        "",
        "  Customer    sign in with any address, for example alice@example.com",
        f"  Staff       sign in as {environ.get('ADMIN_EMAIL', 'admin@example.com')}, then {stack.url}/admin/",
    ]
    if mock:
        lines += [
            f"  Letters     {stack.url}/dev/outbox        (sign-in links arrive here)",
            f"  Stripe      {stack.url}/dev/stripe/       (simulated)",
            f"  TradingView {stack.url}/dev/tradingview/  (simulated)",
        ]
    where = str(stack.postgres.home) if stack.postgres else "the database of DATABASE_URL"
    lines += [f"  Data        {where}", f"  Logs        {stack.folder / 'log'}", "  Stop        Ctrl-C"]
    if seconds is not None:
        lines += ["", f"  {seconds:.1f} s from command to first page"]
    width = max(map(len, lines))
    return "\n".join(["", "-" * width, *lines, "-" * width, ""])


def _seconds_since_command() -> float | None:
    try:
        return time.time() - float(os.environ["STS_STARTED_AT"])
    except (KeyError, ValueError):
        return None


def _run() -> None:
    file = {name: value for name, value in dotenv_values(ROOT / ".env", interpolate=False).items() if value}
    named = {**file, **{name: value for name, value in os.environ.items() if value.strip()}}
    port = _chosen_port(named)
    printer = Printer(sys.stdout, width=max(map(len, PROCESSES)))
    stack = Stack(HOME, port=port, env=named, printer=printer)
    signals = _Signals(stack)
    try:
        stack.prepare(data=False)
        _refuse_taken(stack.env["WEB_HOST"], port)
        click.echo("Bringing the schema up to date and sowing the catalog ...")
        stack.run("release")
        stack.run("seed", "sts seed")
        stack.start().wait_ready()
        signals.breaks_off = False
        click.echo(_banner(stack, _seconds_since_command()))
        while not signals.asked:
            stack.refuse_ended()
            time.sleep(0.2)
        click.echo("\nStopping ...")
    except _Asked:
        click.echo("\nStopping ...")
    finally:
        signals.breaks_off = False
        stack.close()


def run() -> int:
    """What `sts run` does; the exit code, 0 after Ctrl-C or SIGTERM."""
    try:
        _run()
    except LocalFault as fault:
        click.echo(f"\n{fault}", err=True)
        return 1
    click.echo("Stopped.")
    return 0
