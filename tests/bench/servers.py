"""What is measured: each server a child process of its own, on 127.0.0.1, that cannot outlive the benchmark.

Processor time and memory are read from /proc, of a server and of everything it started. Output goes to a file, in
memory where the machine has /dev/shm: a decision log must be written, but it is not the disk that is measured.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

from authz.demo import tether
from authz.demo.stand import envoy_binary
from authz.pb import external_auth_pb2 as pb
from tests.bench import messages
from tests.bench.load import LoadError
from tests.bench.replay import ask_once
from tests.support.ports import free_ports
from tests.support.user_pool import FakeUserPool

PATIENCE: Final = 30.0  # seconds until a server must be ready
OPA_SOURCE: Final = Path(__file__).with_name("opa")
_REPOSITORY: Final = Path(__file__).parents[2]
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class NotMeasured(Exception):  # noqa: N818 - not an error: a row says so
    """Something cannot be measured here, and why."""


class Server:
    """One running server. Use it with `with`; its output is in `log`."""

    def __init__(
        self, folder: Path, command: Sequence[str | Path], environment: Mapping[str, str] | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "output.log"
        self._command = [str(part) for part in command]
        self._environment = environment or {}

    def __enter__(self) -> Self:
        tied = [sys.executable, "-I", "-S", tether.__file__, str(os.getpid())]
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [*tied, *self._command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**kept, "PYTHONPATH": str(_REPOSITORY), **self._environment},
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def wait_until(self, done: Callable[[], bool], poll: float = 0.02) -> None:
        """Wait for the server to be ready. Raises NotMeasured with its last words when it ends or takes too long."""
        until = time.monotonic() + PATIENCE
        while not done():
            if self._process.poll() is not None or time.monotonic() > until:
                raise NotMeasured(f"the server did not get ready: {self.last_words()}")
            time.sleep(poll)

    def last_words(self) -> str:
        """The end of what it wrote, on one line."""
        return " ".join(self.log.read_text(errors="replace")[-300:].split())

    def forget_log(self) -> None:
        """Empty the log, which is kept in memory."""
        os.truncate(self.log, 0)

    @property
    def cpu_seconds(self) -> float:
        """Processor time so far, of all its processes."""
        return sum(cpu for cpu, _ in self._processes())

    @property
    def resident_mb(self) -> float:
        """Memory in use now, of all its processes, in MB of 2**20 bytes."""
        return sum(resident for _, resident in self._processes())

    def _processes(self) -> Iterator[tuple[float, float]]:
        """Give processor seconds (those of ended children included) and resident MB of each process."""
        family = {self._process.pid}
        stats = list(_stats())
        for _ in range(3):  # parents may come after their children
            family |= {pid for pid, fields in stats if int(fields[1]) in family}
        for pid, fields in stats:
            if pid in family:
                pages = int(fields[21])
                yield sum(map(int, fields[11:15])) / _TICKS, pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _stats() -> Iterator[tuple[int, list[str]]]:
    """Give every process and the fields of its /proc/<pid>/stat from the third on; see proc_pid_stat(5)."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            yield int(folder.name), (folder / "stat").read_text().rpartition(")")[2].split()


class Service(Server):
    """`authz serve`, this service."""

    def __init__(
        self, folder: Path, pool: FakeUserPool, routes: int = 10, *, program: str = "authz", **settings: Any
    ) -> None:
        workers = settings.get("workers", 1)
        first = free_ports(workers + 1)
        self.ports = [first + number for number in range(workers)]
        self.admin = first + workers
        self.folder = folder
        self.policy_file = folder / "policies" / "routes.yaml"
        self.policy_file.parent.mkdir(parents=True)
        self.policy_file.write_text(messages.policies(routes))
        keys = folder / "jwks.json"
        keys.write_bytes(pool.jwks())
        trust = {"user_pool": pool.pool_id, "clients": [pool.client_id], "token_use": ["access"]}
        configuration = {
            "listen": f"127.0.0.1:{self.ports[0]}",
            "admin": f"127.0.0.1:{self.admin}",
            "policies": "policies",
            "cognito": [{**trust, "jwks_uri": settings.pop("jwks_uri", keys.as_uri())}],
            "log": {"decisions": settings.pop("decisions", "denied")},
            **settings,
        }
        self._configuration = folder / "authz.yaml"
        self._configuration.write_text(json.dumps(configuration))
        super().__init__(folder, [sys.executable, "-m", program, "serve", "--config", self._configuration])

    @property
    def port(self) -> int:
        return self.ports[0]

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self.wait_until(self.is_ready)
        except BaseException:
            self.__exit__()
            raise
        return self

    def is_ready(self) -> bool:
        """Tell whether it has keys and policies and says so."""
        return self.get("/readyz")[0] == 200

    def worker_pids(self) -> list[int]:
        """Give the process of each worker that was started last; where there is but one, that of the service."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if '"worker started"' in line]
        started = {line["worker"]: line["pid"] for line in lines}
        return [started[worker] for worker in sorted(started)] or [self._process.pid]

    def get(self, path: str) -> tuple[int, str]:
        """Ask the admin port: status and text, or 0 while nobody listens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):  # on loopback a socket can meet itself, while nobody listens
            return 0, ""
        finally:
            connection.close()

    def loaded_at(self, routes: int) -> float | None:
        """Give when (seconds since 1970) the policy set of that many routes was in force, by the admin port."""
        text = self.get("/metrics")[1]
        now_loaded = re.search(r"^authz_policy_routes (\S+)", text, re.MULTILINE)
        when = re.search(r"^authz_policy_last_success_timestamp_seconds (\S+)", text, re.MULTILINE)
        if now_loaded is None or when is None or float(now_loaded[1]) != routes:
            return None
        return float(when[1])


@contextmanager
def floor(
    folder: Path, answer: bytes, message: bytes, program: str = "tests.bench.floor"
) -> Iterator[tuple[Server, int]]:
    """The constant answer."""
    folder.mkdir(parents=True)
    file = folder / "answer.bin"
    file.write_bytes(answer)
    with _answering(folder, lambda port: _python(program, port, file), message) as running:
        yield running


@contextmanager
def usual_way(folder: Path, pool: FakeUserPool, message: bytes) -> Iterator[tuple[Server, int]]:
    """A synchronous server with PyJWT."""
    folder.mkdir(parents=True)
    keys = folder / "jwks.json"
    keys.write_bytes(pool.jwks())
    last = (keys, pool.issuer, pool.client_id, messages.READERS)
    with _answering(folder, lambda port: _python("tests.bench.usual", port, *last), message) as running:
        yield running


@contextmanager
def opa_plugin(
    program: Path, folder: Path, pool: FakeUserPool, message: bytes, *, known_tokens: int = 0
) -> Iterator[tuple[Server, int]]:
    """OPA's Envoy plugin. `known_tokens`: of how many it remembers that they were verified; it does so when told to."""
    folder.mkdir(parents=True)
    data = {"bench": {"jwks": pool.jwks().decode(), "issuer": pool.issuer, "client_id": pool.client_id}}
    (folder / "data.json").write_text(json.dumps(data))
    plugin = "plugins.envoy_ext_authz_grpc"

    def command(port: int) -> list[str | Path]:
        options = [f"{plugin}.addr=127.0.0.1:{port}", f"{plugin}.path=envoy/authz/allow", "decision_logs.console=false"]
        if known_tokens:
            options.append(f"caching.inter_query_builtin_value_cache.named.io_jwt.max_num_entries={known_tokens}")
        sets = [part for option in options for part in ("--set", option)]
        admin = ["--addr", f"127.0.0.1:{free_ports()}", "--disable-telemetry", "--log-level", "error"]
        return [program, "run", "--server", *admin, *sets, OPA_SOURCE / "policy.rego", folder / "data.json"]

    with _answering(folder, command, message) as running:
        yield running


def build_opa() -> Path:
    """Build opa/main.go in the repository's .cache; later runs find what Go downloaded and compiled.

    Raises NotMeasured where that cannot be done.
    """
    go = shutil.which("go")
    if go is None:
        raise NotMeasured("no Go on this machine")
    source = Path(shutil.copytree(OPA_SOURCE, _REPOSITORY / ".cache" / "bench" / "opa", dirs_exist_ok=True))
    command = [go, "build", "-mod=mod", "-o", "opa", "."]
    try:
        built = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        raise NotMeasured("go build took more than five minutes; run `make bench` again") from None
    if built.returncode:
        said = [line for line in built.stderr.splitlines() if not line.startswith("go: downloading")]
        raise NotMeasured(f"it cannot be built: {' '.join(' '.join(said).split())[:450]}")
    return source / "opa"


@contextmanager
def envoy(folder: Path, configuration: Mapping[str, Any]) -> Iterator[Server]:
    """A real Envoy with one worker."""
    folder.mkdir(parents=True)
    file = folder / "envoy.json"
    file.write_text(json.dumps(configuration))
    options = ("--disable-hot-restart", "--concurrency", "1", "--log-level", "error")
    with Server(folder, [envoy_binary(), "-c", file, *options]) as server:
        yield server


@contextmanager
def _answering(
    folder: Path, command: Callable[[int], Sequence[str | Path]], message: bytes
) -> Iterator[tuple[Server, int]]:
    """Start a server and wait until it allows the message, so that what is measured is known to be right."""
    port = free_ports()
    with Server(folder, command(port)) as server:
        server.wait_until(lambda: allows(port, message))
        yield server, port


def allows(port: int, message: bytes) -> bool:
    """Tell whether the server allows the request."""
    try:
        answer = ask_once(port, message)
    except (OSError, LoadError):
        return False
    return outer_code(answer) == 0


def outer_code(answer: bytes) -> int:
    """Give `status.code` of a CheckResponse."""
    return pb.CheckResponse.FromString(answer).status.code


def _python(module: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", module, *map(str, arguments)]
