"""The real `authz serve`, as a child process on 127.0.0.1, and a client that asks it as Envoy does.

    with RunningService(tmp_path, POLICY, pools=[pool]) as service:
        answer = service.check(check_request(token=pool.token()))
        assert (answer.status, answer.reason) == (200, "user-ok")
        assert service.decision(answer)["subject"] == ALICE

The keys of the pools stand in files unless `jwks_uri` names an endpoint. `settings` are merged into the configuration.
Time is the machine's own here: pools want `clock=time.time`. Only the child's own pid is ever signalled.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any, Final, NamedTuple, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from authz.pb import external_auth_pb2 as pb
from tests.support.ports import free_ports
from tests.support.user_pool import FakeUserPool

CHECK: Final = "/envoy.service.auth.v3.Authorization/Check"
SERVICE: Final = "envoy.service.auth.v3.Authorization"
PATIENCE: Final = 15.0  # seconds that any wait may take; a good run needs a fraction of one
REPOSITORY: Final = Path(__file__).parents[2]


class Reply(NamedTuple):
    """A CheckResponse in the words of a test."""

    code: int  # the outer gRPC code: 0 is an allow
    status: int  # HTTP, toward the client; 200 for an allow
    metadata: Mapping[str, str]
    headers: Mapping[str, str]  # of the denial, or set on the request
    removed: Sequence[str]
    body: str
    response: pb.CheckResponse

    @property
    def reason(self) -> str:
        return self.metadata["reason"]

    @property
    def verdict(self) -> tuple[int, int, str]:
        """Status, code and reason: what the table of answers promises."""
        return self.status, self.code, self.reason


def reply_of(response: pb.CheckResponse) -> Reply:
    """Read an answer. Fails for one that is neither allow nor deny: Envoy would take it for an allow."""
    metadata = {name: value.string_value for name, value in response.dynamic_metadata.fields.items()}
    kind = response.WhichOneof("http_response")
    if response.status.code == 0:
        assert kind == "ok_response", kind
        ok = response.ok_response
        headers = {option.header.key: option.header.value for option in ok.headers}
        return Reply(0, 200, metadata, headers, tuple(ok.headers_to_remove), "", response)
    assert kind == "denied_response", kind
    denied = response.denied_response
    headers = {option.header.key: option.header.value for option in denied.headers}
    return Reply(response.status.code, denied.status.code, metadata, headers, (), denied.body, response)


def child_environment(**more: str) -> dict[str, str]:
    """Give an environment without settings of ours and without colour or proxies."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "error", **more}


def run_authz(
    *arguments: str | Path, environ: Mapping[str, str] | None = None, cwd: Path | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run one verb to its end."""
    return subprocess.run(
        [sys.executable, "-m", "authz", *map(str, arguments)],
        env=child_environment(**(environ or {})),
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def configuration(
    folder: Path,
    pools: Sequence[FakeUserPool],
    *,
    jwks_uri: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the keys of the pools into the folder and give the configuration that trusts them."""
    entries = []
    for pool in pools:
        keys = folder / f"{pool.pool_id}.json"
        keys.write_bytes(pool.jwks())
        entries.append(
            {
                "user_pool": pool.pool_id,
                "clients": [pool.client_id],
                "token_use": ["access", "id"],
                "jwks_uri": jwks_uri or keys.as_uri(),
            }
        )
    return {
        "listen": "127.0.0.1:0",
        "admin": f"127.0.0.1:{free_ports()}",
        "policies": "policies",
        "cognito": entries,
        **(settings or {}),
    }


class RunningService:
    """One `authz serve`. Ended by SIGKILL at the end of the block, unless `stop` ended it before."""

    def __init__(
        self,
        folder: Path,
        policies: str,
        *,
        pools: Sequence[FakeUserPool],
        jwks_uri: str | None = None,
        settings: Mapping[str, Any] | None = None,
        arguments: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        wait: bool = True,
        max_files: int | None = None,
    ) -> None:
        self.folder = folder
        self.policy_file = folder / "policies" / "app.yaml"
        self.policy_file.parent.mkdir(parents=True)
        self.policy_file.write_text(dedent(policies), encoding="utf-8")
        self.settings = configuration(folder, pools, jwks_uri=jwks_uri, settings=settings)
        self.config = folder / "authz.yaml"
        self.config.write_text(json.dumps(self.settings, indent=1), encoding="utf-8")  # JSON is YAML
        self._arguments = arguments
        self._environ = environ or {}
        self._credentials = credentials
        self._wait = wait
        self._max_files = max_files
        self._lines: list[str] = []
        self._changed = threading.Condition()

    # --- its life

    def __enter__(self) -> Self:
        limited = [] if self._max_files is None else ["sh", "-c", f'ulimit -n {self._max_files} && exec "$0" "$@"']
        self.process = subprocess.Popen(
            [*limited, sys.executable, "-m", "authz", "serve", "--config", str(self.config), *self._arguments],
            env=child_environment(**self._environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        try:
            self.listening = self.wait_for_line("listening")
            if self._wait:
                self.wait_for_line("ready")
        except BaseException:
            self.__exit__()
            raise
        self.target = self._target()
        self.channel = self.connect(self._credentials)
        return self

    def __exit__(self, *_: object) -> None:
        if channel := getattr(self, "channel", None):
            channel.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        """Ask it to end, and give its exit code."""
        self.signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def write_policies(self, text: str) -> None:
        self.policy_file.write_text(dedent(text), encoding="utf-8")

    # --- asking

    def connect(self, credentials: grpc.ChannelCredentials | None = None) -> grpc.Channel:
        options = [("grpc.enable_http_proxy", 0), ("grpc.max_send_message_length", -1)]
        if credentials is None:
            return grpc.insecure_channel(self.target, options)
        return grpc.secure_channel(self.target, credentials, options)

    def check(self, request: pb.CheckRequest | bytes, timeout: float = 5.0) -> Reply:
        """Ask as Envoy does. Raises grpc.RpcError."""
        data = request if isinstance(request, bytes) else request.SerializeToString()
        return reply_of(pb.CheckResponse.FromString(self.channel.unary_unary(CHECK)(data, timeout=timeout)))

    def health(self, service: str = SERVICE) -> str:
        answer = health_pb2_grpc.HealthStub(self.channel).Check(
            health_pb2.HealthCheckRequest(service=service), timeout=5
        )
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

    def get(self, path: str) -> tuple[int, str]:
        """Ask the admin port: status and text."""
        connection = http.client.HTTPConnection("127.0.0.1", int(self.settings["admin"].rpartition(":")[2]), timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def metrics(self) -> dict[str, float]:
        """Give the exposition as `name{labels}` → value."""
        lines = (line for line in self.get("/metrics")[1].splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    # --- what it writes

    @property
    def output(self) -> str:
        with self._changed:
            return "".join(self._lines)

    def log_lines(self) -> list[dict[str, Any]]:
        """Give every line so far, each of which must be a JSON object."""
        return [json.loads(line) for line in self.output.splitlines()]

    def decision(self, reply: Reply) -> dict[str, Any]:
        """Give the decision log's line of an answer."""
        found = reply.metadata["decision_id"]
        return self.wait_for(
            lambda: next((line for line in self.log_lines() if line.get("decision_id") == found), None),
            f"the decision line {found}",
        )

    def wait_for_line(self, message: str, count: int = 1) -> dict[str, Any]:
        """Wait for the `count`-th line whose `msg` matches the pattern, and give it."""
        pattern = re.compile(message)

        def found() -> dict[str, Any] | None:
            lines = [json.loads(line) for line in self.output.splitlines() if line.startswith("{")]
            matching = [line for line in lines if pattern.search(line.get("msg", ""))]
            return matching[count - 1] if len(matching) >= count else None

        return self.wait_for(found, f"a log line `{message}`")

    def wait_for(self, found: Callable[[], Any], what: str) -> Any:
        """Wait until something is found, and give it."""
        deadline = time.monotonic() + PATIENCE
        while True:
            ended = self.process.poll() is not None and not self._reader.is_alive()
            value = found()
            if value:
                return value
            assert not ended, f"authz ended with {self.process.returncode} before {what}:\n{self.output}"
            assert time.monotonic() < deadline, f"no sign of {what}:\n{self.output}"
            time.sleep(0.02)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self._lines.append(line)

    def _target(self) -> str:
        listen = self.listening["listen"]
        return str(listen) if listen.startswith("unix:") else f"127.0.0.1:{self.listening['port']}"
