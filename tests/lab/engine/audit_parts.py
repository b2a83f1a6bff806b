"""The parts of the audit trail as processes that a test can stop, freeze, starve and kill."""

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import psycopg

from lab.mesh.database import _programs
from zt.compile.audit import compile_audit
from zt.effective import effective
from zt.model import Cluster, Mesh, Policy
from zt.values import parse_network

REPOSITORY = Path(__file__).parents[3]
MESH = Mesh(
    "lab",
    "hanzo.ai",
    (Cluster("east", parse_network("10.0.0.0/16"), parse_network("10.1.0.0/16")),),
)
STARTS = 60.0

GENERATOR = """
import sys
from pathlib import Path
from tests.lab.engine.generator import main
main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
"""
DRAINER = """
import logging, pathlib, sys
from engine.audit import drain
from engine.settings import Audit, Durability
logging.basicConfig(level=logging.INFO)
root, dsn = pathlib.Path(sys.argv[1]), sys.argv[2]
audit = Audit(dsn, Durability.PROCESS, 1 << 20, 1 << 30, None, None)
sys.exit(drain.run(root / "spool", audit, root))
"""


@dataclass
class Server:
    """A PostgreSQL whose data is in a folder of its own; it listens on a socket there."""

    home: Path
    user: int | None
    programs: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def admin(self) -> str:
        return f"host={self.home} user=postgres dbname=postgres connect_timeout=2"

    @property
    def writer(self) -> str:
        return f"host={self.home} user=zt_engine dbname=postgres"

    def start(self) -> None:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.home),
            "shared_buffers": "16MB",
            "min_wal_size": "32MB",
            "max_wal_size": "64MB",
            "wal_recycle": "off",
        }
        options = [part for item in settings.items() for part in ("-c", "=".join(item))]
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(self.programs / "postgres"), "-D", str(self.home / "data"), *options],
                cwd="/",
                env={"LC_ALL": "C"},
                user=self.user,
                group=self.user,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._answers, STARTS)

    def stop(self, number: int = signal.SIGINT) -> None:
        """SIGINT: fast, SIGQUIT: at once, as if it had crashed."""
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(30)

    def signal_all(self, number: int) -> None:
        """Freeze it or let it go on, with all its processes."""
        assert self.process is not None
        for pid in [self.process.pid, *children(self.process.pid)]:
            with suppress(ProcessLookupError):  # they come and go
                os.kill(pid, number)

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.admin, autocommit=True) as connection:
            connection.execute(statement.encode())

    def value(self, query: str) -> object:
        with psycopg.connect(self.admin) as connection:
            row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]

    def _answers(self) -> bool:
        with suppress(psycopg.OperationalError), psycopg.connect(self.admin):
            return True
        return False


@contextmanager
def server(home: Path | None = None) -> Iterator[Server]:
    """A server with the audit schema, its data below ``home`` if that is given."""
    # Not below pytest's own folder, which is closed to the user that PostgreSQL runs as.
    below = Path(tempfile.mkdtemp(prefix="zt-lab-"))
    user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
    below.chmod(0o755)
    made = Server(home or below / "home", user, _programs(below, user))
    made.home.mkdir(mode=0o700, exist_ok=True)
    if user is not None:
        os.chown(made.home, user, user)
    command = [str(made.programs / "initdb"), f"--pgdata={made.home / 'data'}", "--auth=trust"]
    command += ["--username=postgres", "--encoding=UTF8", "--locale=C", "--wal-segsize=1"]
    subprocess.run(
        command,
        cwd="/",
        env={"LC_ALL": "C"},
        user=user,
        group=user,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    made.start()
    try:
        (schema,) = compile_audit(effective(Policy(MESH), date(2026, 11, 23)), "east")
        made.execute(schema.text())
        made.execute("CREATE ROLE zt_engine LOGIN IN ROLE zt_writer")
        yield made
    finally:
        if made.is_running():
            made.signal_all(signal.SIGCONT)
            made.stop(signal.SIGQUIT)
        shutil.rmtree(below)


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """A file system of a size on a folder; it takes root."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(place)]
    subprocess.run(mount, check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)  # noqa: S607 - the system's


@dataclass
class Generator:
    """A process that appends records and notes those that were acknowledged."""

    root: Path
    process: subprocess.Popen[bytes]

    def acknowledged(self) -> int:
        """The last acknowledged record; they are numbered without a gap."""
        content = (self.root / "acknowledged").read_bytes()
        whole = content[: len(content) // 8 * 8]
        return int.from_bytes(whole[-8:], "little")

    def stop(self) -> dict[str, int]:
        """What it tells at its end: writer, acknowledged, failures."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0
        told: dict[str, int] = json.loads((self.root / "told").read_text())
        return told


@dataclass
class Bench:
    """A spool, a generator, a drainer and a server."""

    root: Path
    server: Server
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def generate(self, rate: int = 2000, **options: int) -> Generator:
        """Start a generator; options are those of ``generator.main``."""
        numbers = [rate, options.get("clock", 0), options.get("failing", 0)]
        made = Generator(self.root, self._start(GENERATOR, str(self.root), *map(str, numbers)))
        wait_until(lambda: (self.root / "acknowledged").exists() and made.acknowledged() > 0)
        return made

    def drain(self) -> subprocess.Popen[bytes]:
        """Start a drainer."""
        return self._start(DRAINER, str(self.root), self.server.writer)

    def status(self) -> dict[str, object]:
        found: dict[str, object] = json.loads((self.root / "audit.json").read_text())
        return found

    def rows(self, writer: int) -> tuple[int, int, int]:
        """How many records of a writer there are, how many IDs, and the last one's number."""
        writer_bits = f"{writer >> 12:012x}8{writer & 0xFFF:03x}"
        high = f"{writer_bits[:8]}-{writer_bits[8:12]}-{writer_bits[12:]}"
        with psycopg.connect(self.server.admin) as connection:
            row = connection.execute(
                "SELECT count(*), count(DISTINCT id), max(('x' || right(id::text, 12))::bit(48)"
                "::bigint) FROM zt_audit.trail WHERE id::text LIKE %s",
                [f"{high}-%"],
            ).fetchone()
        assert row is not None
        return row[0], row[1], row[2] or 0

    def expect_all(self, told: dict[str, int]) -> None:
        """Wait until all is drained: nothing that was acknowledged is lost, nothing is twice."""
        wait_until(lambda: not spooled(self.root), 60)
        appended = told["appended"]
        assert appended >= told["acknowledged"] > 0
        assert self.rows(told["writer"]) == (appended, appended, appended)

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()

    def _start(self, code: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.root / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", code, *arguments], cwd=REPOSITORY, stderr=log
            )
        self.processes.append(process)
        return process


def spooled(root: Path) -> list[Path]:
    """The folders of writers that are not drained, whether they live or not."""
    return [path for path in (root / "spool").iterdir() if len(path.name) == 15]


def memory(pid: int) -> float:
    """The resident memory of a process, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return list(map(int, text.split()))


def wait_until(holds: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
