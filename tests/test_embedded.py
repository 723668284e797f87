"""The embedded servers and `up` as real processes in folders of their own: shared, kept, stopped, told."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from django.conf import settings
from redis import Redis

from plyrum.embedded import EmbeddedServerError, Servers, broker_url
from tests import web
from tests.server_process import ReservedPort

START_SECONDS = 180
# A process that uses the servers until its standard input is closed.
USER = """
import sys
from pathlib import Path
from plyrum.embedded import Servers
Servers(Path(sys.argv[1])).ensure()
print("ready", flush=True)
sys.stdin.read()
"""
NOT_OF_A_DEVELOPER = (
    "DATABASE_URL", "REDIS_URL", "PLYRUM_CATALOGUE_PATH", "PLYRUM_BILLING_ENFORCE_BALANCE",
)  # fmt: skip
User = Callable[[Path], subprocess.Popen[str]]

pytestmark = pytest.mark.heavy


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "data"
    for name in ("data", "other", "file"):
        shutil.rmtree(Servers(tmp_path / name).run_dir, ignore_errors=True)


@pytest.fixture
def user() -> Iterator[User]:
    """Starts processes that use the servers of a folder."""
    started: list[subprocess.Popen[str]] = []

    def start(folder: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", USER, str(folder)],
            cwd=settings.BASE_DIR, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        leave(process)


def leave(process: subprocess.Popen[str]) -> None:
    """Let a user end by itself; the last one stops the servers."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None and not pipe.closed:
            pipe.close()
    process.wait(30)


def database(folder: Path) -> psycopg.Connection[tuple[object, ...]]:
    facts = Servers(folder).database
    return psycopg.connect(
        host=facts["HOST"], user=facts["USER"], dbname=facts["NAME"], connect_timeout=5, autocommit=True
    )


def redis(folder: Path) -> Redis:
    return Redis(unix_socket_path=str(Servers(folder).redis_socket))


def server_pid(folder: Path) -> int:
    with closing(database(folder)) as connection:
        row = connection.execute("SELECT pg_backend_pid()").fetchone()
    assert row is not None
    return int((folder / "postgres" / "postmaster.pid").read_text().split()[0])


def is_alive(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"


def left_behind(folder: Path) -> list[str]:
    """What is still there when everybody has had the time to go."""
    deadline = time.monotonic() + 10
    while (found := _still_there(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def _still_there(folder: Path) -> list[str]:
    """Processes that name the folder, and sockets that still answer."""
    servers = Servers(folder)
    marks = (str(folder).encode(), str(servers.run_dir).encode())
    processes = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if any(mark in line for mark in marks):
                processes.append(line.replace(b"\0", b" ").decode(errors="replace"))
    sockets = [
        str(path) for path in (servers.redis_socket, servers.run_dir / ".s.PGSQL.5432") if answers(path)
    ]
    return processes + sockets


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def test_users_share_one_server_and_the_last_one_out_stops_it(folder: Path, user: User) -> None:
    first = user(folder)
    pid = server_pid(folder)
    second = user(folder)

    assert server_pid(folder) == pid
    leave(first)
    assert server_pid(folder) == pid
    assert redis(folder).ping()
    leave(second)
    assert left_behind(folder) == []


def test_killed_user_neither_stops_nor_blocks_the_others(folder: Path, user: User) -> None:
    killed, other = user(folder), user(folder)
    pid = server_pid(folder)

    killed.kill()
    killed.wait()

    assert server_pid(folder) == pid
    leave(other)
    assert left_behind(folder) == []


def test_servers_left_by_killed_users_are_taken_over_with_their_data(folder: Path, user: User) -> None:
    killed = user(folder)
    with closing(database(folder)) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    redis(folder).set("kept", "yes")
    pid = server_pid(folder)
    killed.kill()
    killed.wait()

    again = user(folder)

    assert server_pid(folder) == pid
    leave(again)
    assert left_behind(folder) == []
    once_more = user(folder)
    with closing(database(folder)) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
    assert redis(folder).get("kept") == b"yes"
    leave(once_more)


def test_servers_whose_folder_was_deleted_give_way_to_new_ones(folder: Path, user: User) -> None:
    killed = user(folder)
    with closing(database(folder)) as connection:
        connection.execute("CREATE TABLE gone AS SELECT 42 AS answer")
    redis(folder).set("gone", "yes")
    killed.kill()
    killed.wait()
    shutil.rmtree(folder)

    again = user(folder)

    with closing(database(folder)) as connection:
        assert connection.execute("SELECT to_regclass('gone')").fetchone() == (None,)
    assert redis(folder).get("gone") is None
    leave(again)
    assert left_behind(folder) == []


def test_two_folders_at_once_do_not_meet(folder: Path, tmp_path: Path, user: User) -> None:
    other_folder = tmp_path / "other"
    here, there = user(folder), user(other_folder)

    redis(folder).set("who", "here")

    assert redis(other_folder).get("who") is None
    assert server_pid(folder) != server_pid(other_folder)
    leave(here)
    assert redis(other_folder).ping()
    leave(there)
    assert left_behind(folder) + left_behind(other_folder) == []


def test_no_tcp_port_is_opened(folder: Path, user: User) -> None:
    user(folder)

    with closing(database(folder)) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
    assert redis(folder).config_get("port") == {"port": "0"}


def test_folder_that_is_a_file_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("not a folder")

    with pytest.raises(EmbeddedServerError, match=r"cannot be used.*PLYRUM_DATA_DIR"):
        Servers(path).ensure()


def test_broken_database_files_are_explained(folder: Path) -> None:
    (folder / "postgres").mkdir(parents=True)
    (folder / "postgres" / "PG_VERSION").write_text("18\n")
    servers = Servers(folder)

    with pytest.raises(
        EmbeddedServerError, match=r"(?s)PostgreSQL did not come up.*PLYRUM_DATA_DIR.*DATABASE_URL"
    ):
        servers.ensure()

    servers.release()
    assert left_behind(folder) == []


def test_very_deep_folder_still_has_a_socket_path_that_fits(tmp_path: Path) -> None:
    servers = Servers(tmp_path / ("deep/" * 40))

    assert len(str(servers.redis_socket)) < 100
    assert broker_url(servers.redis_url).startswith("redis+socket:///")


class Up:
    """`manage.py up` on a port, in a folder, with what it has printed so far."""

    def __init__(self, folder: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder.with_suffix(".log")
        environment = {
            name: value for name, value in os.environ.items()
            if name not in NOT_OF_A_DEVELOPER
        } | {
            "DJANGO_SETTINGS_MODULE": "plyrum.settings", "PLYRUM_DATA_DIR": str(folder), "PORT": str(port),
        }  # fmt: skip
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "up"],
                cwd=settings.BASE_DIR, env=environment, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, words: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while words not in self.output():
            assert self.process.poll() is None, self.output()[-3000:]
            assert time.monotonic() < deadline, self.output()[-3000:]
            time.sleep(0.1)


@pytest.fixture
def port() -> Iterator[int]:
    """A port of ours; so are its neighbours for the sandbox and its mail."""
    while not (reserved := _with_neighbours()):
        pass
    yield reserved[0].number
    for one in reserved:
        one.release()


def _with_neighbours() -> list[ReservedPort]:
    """None when somebody's connection has one of them, be it one that is over."""
    reserved = [ReservedPort()]
    try:
        for distance in (100, 101):
            reserved.append(ReservedPort(min(reserved[0].number + distance, 65_535)))
    except OSError:
        while reserved:
            reserved.pop().release()
    return reserved


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def children_of(pid: int) -> list[int]:
    """All processes below `pid`, however deep."""
    direct = [
        int(entry.name) for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _parent(entry) == pid
    ]  # fmt: skip
    return direct + [below for child in direct for below in children_of(child)]


def _parent(entry: Path) -> int:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return -1


def test_up_starts_everything_says_where_and_leaves_nothing_behind(folder: Path, port: int) -> None:
    up = Up(folder, port)
    try:
        up.wait_for("Ctrl-C stops everything.")

        ready = web.get(f"{up.url}/api/ready")
        assert (ready.status_code, set(ready.json()["parts"].values())) == (200, {"ok"})
        printed = up.output()
        for words in (
            up.url,
            f"{up.url}/admin/",
            "customer@plyrum.local",
            f"http://127.0.0.1:{port + 100}/mailbox",
        ):
            assert words in printed
        assert web.get(f"http://127.0.0.1:{port + 100}/yookassa/payments").status_code == 200
        assert web.get(f"{up.url}/static/plyrum/css/back_office.css").status_code == 200
        assert "StreamingHttpResponse" not in up.output()  # a warning of what is well known
        below = children_of(up.process.pid)
        assert len(below) >= 4  # sandbox, web, worker, beat

        up.process.send_signal(signal.SIGINT)
        up.process.wait(40)

        assert up.process.returncode == 0, up.output()[-3000:]
        assert "Traceback" not in up.output()
        assert [pid for pid in below if is_alive(pid)] == []
        assert left_behind(folder) == []
        assert all(is_free(number) for number in (port, port + 100, port + 101))
    finally:
        if up.process.poll() is None:
            up.process.terminate()
            up.process.wait(60)


def test_up_names_the_port_that_is_taken(folder: Path, port: int) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        up = Up(folder, port)
        up.process.wait(60)

    assert up.process.returncode != 0
    assert re.search(rf"Port {port} \(the site\) is in use.*PORT=\d+ make run", up.output())
    assert "Traceback" not in up.output()
    assert left_behind(folder) == []
