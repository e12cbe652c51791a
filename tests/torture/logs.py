"""Logs cannot hurt: a broken output delays no decision, and nothing that a request says in secret is ever written.

An output breaks in three ways: nobody reads it, the disk is full, the reader is gone. Decisions are timed one after the
other by a client, in ten rounds by turns with a service without a fault. The figure is the median of the rounds'
longest: a log that makes decisions wait does so in each of them, other programs of this machine do now and then.

The canary is a word put into every place of a request that may hold a secret, one place a request. It is looked for, as
it is and in base64, in everything that the service and the tools for people write. Not canaries, because they are shown
by design: path and host themselves, method, x-request-id, `sub`, the client and `token_use`.
"""

from __future__ import annotations

import base64
import os
import re
import socket
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

import grpc

from authz.pb import external_auth_pb2 as pb
from tests.bench.servers import Service
from tests.support.check_request import check_request
from tests.support.faulty_service import FaultyService
from tests.support.running_service import CHECK, reply_of, run_authz
from tests.support.user_pool import FakeUserPool
from tests.torture.figures import Figure, Stand, at_least, at_most, none_of

CHECKS: Final = 15_000  # more than a queue of 10,000 lines and what is on its way out can hold
ROUNDS: Final = 10
WARM: Final = 100  # checks
LONGEST_MS: Final = 10.0  # what a broken output may add to the longest decision
PATIENCE: Final = 20.0  # seconds
OUTPUTS: Final = ("blocked", "full", "gone")

POLICIES: Final = """
- {from: 'https://app.example.com', path: /public, allow_public_unauthenticated_access: true}
- {from: 'https://app.example.com', path: /closed, policy: {allow: {or: [{groups: nobody-is-in-it}]}}}
- from: https://app.example.com
  path: /many
  policy:
    allow:
      and:
        - email: {ends_with: '@nowhere.example'}
        - claim/custom:level: '9'
        - scope: orders/write
        - identity_provider: Okta
- {from: 'https://app.example.com', prefix: /, allow_any_authenticated_user: true}
"""


# --- A broken output -------------------------------------------------------------------------------------------------


class Redirected(Service):
    """The service, its stdout on another file."""

    def __init__(self, folder: Path, pool: FakeUserPool, stdout: Path) -> None:
        super().__init__(folder, pool, decisions="all")
        self.policy_file.write_text(POLICIES)
        self._command = ["/bin/sh", "-c", 'out=$1; shift; exec "$@" > "$out"', "sh", str(stdout), *self._command]

    @property
    def dropped(self) -> int:
        """Lines that it says it lost."""
        found = re.search(r"^authz_log_lines_dropped_total (\S+)", self.get("/metrics")[1], re.MULTILINE)
        return 0 if found is None else int(float(found[1]))


class Written(NamedTuple):
    """What became of so many decisions and their lines."""

    wrong: int  # answers that were none or not the right one
    longest_ms: float  # the median of ten rounds
    fine_ms: float  # the same of the service without a fault, by turns with it
    dropped: int
    read: int  # lines of decisions that came out in the end


def decide_with(output: str, folder: Path, checks: int, *, beside: bool = False) -> Written:
    """Ask so many times of a service whose output is `blocked`, `full` or `gone`; `beside` it, of a fine one."""
    pool = FakeUserPool(clock=time.time)
    folder.mkdir()
    fifo = folder / "stdout"
    os.mkfifo(fifo)
    stdout = {"full": Path("/dev/full")}.get(output, fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)  # there before the writer, which would wait for it
    try:
        with ExitStack() as stack:
            service = stack.enter_context(Redirected(folder / "service", pool, stdout))
            services: list[Service] = [service]
            if beside:
                services.append(stack.enter_context(Redirected(folder / "fine", pool, Path(os.devnull))))
            if output == "gone":
                os.close(reader)
                reader = -1
            wrong, longest = _ask(services, pool, checks)
            read = _drain(service, reader, checks) if output == "blocked" else 0
            if output in {"full", "gone"}:
                _wait_until(lambda: service.dropped >= checks)
            return Written(wrong, longest[0] * 1e3, longest[-1] * 1e3, service.dropped, read)
    finally:
        if reader >= 0:
            os.close(reader)


def _ask(services: Sequence[Service], pool: FakeUserPool, checks: int) -> tuple[int, list[float]]:
    """Ask the services by turns, each so often; give the wrong answers, and each one's longest wait of most rounds."""
    asked = [
        (check_request(path="/orders", token=pool.token()).SerializeToString(), (200, "user-ok")),
        (check_request(path="/closed", token=pool.token()).SerializeToString(), (403, "groups-unauthorized")),
    ]
    wrong = 0
    longest: list[list[float]] = [[] for _ in services]
    with ExitStack() as stack:
        calls = [stack.enter_context(closing(connect(one.port))).unary_unary(CHECK) for one in services]
        for call in calls:
            _round(call, asked, WARM)
        for _ in range(ROUNDS):
            for call, waits in zip(calls, longest, strict=True):
                lost, wait = _round(call, asked, (checks - WARM) // ROUNDS)
                wrong += lost
                waits.append(wait)
    return wrong, [median(waits) for waits in longest]


def _round(call: Any, asked: Sequence[tuple[bytes, tuple[int, str]]], checks: int) -> tuple[int, float]:
    wrong, longest = 0, 0.0
    for number in range(checks):
        data, right = asked[number % 2]
        started = time.perf_counter()
        try:
            reply = reply_of(pb.CheckResponse.FromString(call(data, timeout=5)))
        except grpc.RpcError:
            wrong += 1
        else:
            wrong += (reply.status, reply.reason) != right
        longest = max(longest, time.perf_counter() - started)
    return wrong, longest


def _drain(service: Redirected, reader: int, checks: int) -> int:
    """Read what was held back, until every line was read or is counted as dropped."""
    os.set_blocking(reader, False)
    data = bytearray()

    def complete() -> bool:
        with suppress(BlockingIOError):
            while part := os.read(reader, 1 << 20):
                data.extend(part)
        return data.count(b'"msg":"decision"') + service.dropped >= checks

    _wait_until(complete)
    return data.count(b'"msg":"decision"')


def _wait_until(done: Any) -> None:
    until = time.monotonic() + PATIENCE
    while not done() and time.monotonic() < until:
        time.sleep(0.02)


def connect(port: int) -> grpc.Channel:
    return grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.enable_http_proxy", 0)])


# --- The canary ------------------------------------------------------------------------------------------------------


def canary() -> str:
    """Give a word that nobody else says, short enough to survive every shortening."""
    return f"Cnry{uuid.uuid4().hex[:8]}"


def forms(word: str) -> list[str]:
    """Give the word as it may be written: any case, and in base64 at each of the three places it can start."""
    encoded = [base64.b64encode(b"\0" * shift + word.encode()).decode() for shift in range(3)]
    # The first characters hold bits of what stands before the word, the last ones of what comes after.
    inner = [text.rstrip("=")[(0, 2, 3)[shift] : -2] for shift, text in enumerate(encoded)]
    return [word.lower(), *(text.lower() for text in inner)]


def leaks(word: str, output: str) -> list[str]:
    """Give what surrounds the word in an output."""
    lower = output.lower()
    return [output[max(0, at - 120) : at + 60] for form in forms(word) if (at := lower.find(form)) >= 0]


CONFIGURATION: Final[Mapping[str, Any]] = {
    "tokens": [{"header": "authorization"}, {"header": "x-other-token"}, {"cookie": "BearerToken"}],
    "enrich_from": {"header": "x-auth-id-token"},
    "denied_redirect": {401: "https://example.com/sign-in?return={url}"},
    "client_ip_header": "x-envoy-external-address",
}
PATHS: Final = ("/orders", "/closed", "/many", "/public", "/a/../b", "/%zz")
HEADERS: Final = (
    "authorization",
    "x-other-token",
    "x-auth-id-token",
    "cookie",
    "user-agent",
    "referer",
    "origin",
    "accept",
    "x-forwarded-for",
    "x-envoy-external-address",
    "x-auth-subject",
    "x_auth_subject",
    "content-type",
    "dpop",
    "x-api-key",
)
CLAIMS: Final = (
    *("email", "username", "cognito:username", "scope", "jti", "origin_jti", "event_id", "custom:level", "identities"),
    *("cognito:groups", "iss", "version", "exp", "iat", "nbf", "auth_time", "name", "address", "phone_number"),
)


def requests_with(word: str, pool: FakeUserPool) -> Iterator[tuple[str, bytes]]:
    """Give a request for each place that can hold the word, and that place's name."""
    good = pool.token()
    for path in PATHS:
        yield f"query of {path}", _bytes(path=f"{path}?q={word}", token=good)
        yield f"fragment of {path}", _bytes(path=f"{path}#{word}", token=good)
        for name in HEADERS:
            for value in (word, f"Bearer {word}", f"Basic {word}", f"BearerToken={word}; a={word}"):
                yield f"header {name}", _bytes(path=path, headers={name: value})
                yield f"header {name}", _bytes(path=path, headers={name: [value, value]}, token=good)
        yield "a header's name", _bytes(path=path, headers={f"x-{word}": "1"}, token=good)
        for claim in CLAIMS:
            for value in (word, [word, word], {word: word}):
                yield f"claim {claim}", _bytes(path=path, token=pool.token(**{claim: value}))
        yield "a claim's name", _bytes(path=path, token=pool.token(**{word: 1}))
        id_token = pool.id_token(email=f"{word}@example.com", name=word)
        yield "the ID token", _bytes(path=path, token=good, headers={"x-auth-id-token": id_token})
        yield from ((place, _bytes(path=path, token=token)) for place, token in _tokens(word, pool))
        yield "HTML", _bytes(path=f"{path}?{word}", headers={"accept": "text/html", "sec-fetch-mode": "navigate"})
    for host in (f"user:{word}@app.example.com", f"{word}@app.example.com", f"user:{word}@", f"{word}:p@[::1]:x"):
        yield "userinfo of host", _bytes(host=host, token=good)
    yield "certificate", _bytes(certificate=word, token=good)
    yield from _messages(word, good)


def _bytes(**parts: Any) -> bytes:
    return check_request(**parts).SerializeToString()


def _tokens(word: str, pool: FakeUserPool) -> Iterator[tuple[str, str]]:
    head, payload, signature = pool.token().split(".")
    yield "token's header", f"{word}.{payload}.{signature}"
    yield "token's payload", f"{head}.{word}.{signature}"
    yield "token's signature", f"{head}.{payload}.{word}"
    yield "a fourth part", f"{head}.{payload}.{signature}.{word}"
    for name in ("kid", "alg", "typ", "crit", "jku", "b64"):
        yield f"token's `{name}`", pool.token(header={name: word})
    yield "JSON that is none", pool.sign(pool.header(), f'{{"a":{word}'.encode())
    yield "a name that stands twice", pool.sign(pool.header(), f'{{"{word}":1,"{word}":2}}'.encode())


def _messages(word: str, token: str) -> Iterator[tuple[str, bytes]]:
    """Give messages that are no CheckRequest, and one with a body: fields 11 and 12, which we do not read."""
    text = word.encode()
    yield "a message that is none", text
    yield "a message that is none", b"\xff" + text
    good = _bytes(token=token, headers={"x-secret": word})
    yield "a message that ends too early", good[:-3]
    with_body = check_request(token=token)
    body = b"".join(bytes([number << 3 | 2, len(text)]) + text for number in (11, 12))
    with_body.attributes.request.http.MergeFromString(body)
    yield "body", with_body.SerializeToString()


class Searched(NamedTuple):
    """How many requests held the word, and where it was found."""

    requests: int
    found: list[str]


VOICES: Final[tuple[Mapping[str, str], ...]] = (
    {"level": "debug", "format": "json", "decisions": "all"},
    {"level": "debug", "format": "text", "decisions": "all"},
    {"level": "info", "format": "json", "decisions": "denied"},
    {"level": "error", "format": "text", "decisions": "none"},
)
QUOTING: Final = ("failing with the request in its words", "failing with the message in its words")


def search(folder: Path, voice: Mapping[str, Any], fault: str | None = None, every: int = 1) -> Searched:
    """Say the word in every place (or every so many-th) and look for it in log, error output, metrics and health."""
    word = canary()
    pool = FakeUserPool(clock=time.time)
    settings = {**CONFIGURATION, "log": voice}
    service = (
        Service(folder, pool, **settings) if fault is None else FaultyService(folder, pool, fault=fault, **settings)
    )
    service.policy_file.write_text(POLICIES)
    places = list(requests_with(word, pool))[::every]
    with service, closing(connect(service.port)) as channel:
        call = channel.unary_unary(CHECK)
        for _, data in places:
            with suppress(grpc.RpcError):
                call(data, timeout=5)
        with _garbage(service.port, word):
            pages = [service.get(path)[1] for path in ("/metrics", "/readyz", "/livez", f"/{word}?{word}")]
    output = service.log.read_text(errors="replace")  # whole: the service was told to end, and ended
    if voice["decisions"] == "all" and fault is None:
        assert output.count("decision_id") >= len(places), "the decisions are not in the log"
    return Searched(len(places), [*leaks(word, output), *leaks(word, "\n".join(pages))])


@contextmanager
def _garbage(port: int, word: str) -> Iterator[None]:
    """Call what is no method, and send what is no HTTP/2."""

    with closing(connect(port)) as channel, suppress(grpc.RpcError):
        channel.unary_unary(f"/{word}/{word}")(word.encode(), timeout=5, metadata=[("x-secret", word)])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
        raw.sendall(f"GET /{word} HTTP/1.1\r\nauthorization: {word}\r\n\r\n".encode())
    yield


def search_tools(folder: Path, every: int = 1) -> Searched:
    """Say the word to `authz explain`, right and wrong, and look for it in what the tool prints."""
    word = canary()
    pool = FakeUserPool(clock=time.time)
    service = Service(folder, pool, **CONFIGURATION)
    service.policy_file.write_text(POLICIES)
    config = folder / "authz.yaml"
    url = "https://app.example.com/orders"
    calls = [
        ["--url", f"{url}?q={word}", "--token", pool.token()],
        ["--url", f"https://user:{word}@app.example.com/orders"],
        ["--url", url, "--token", f"a.b.{word}"],
        ["--url", url, "--token", pool.token(header={"kid": word})],
        ["--url", url, "--token", f"{pool.token()}{word}"],
        ["--url", url, "-H", f"cookie: BearerToken={word}"],
        ["--url", url, "-H", f"x-secret: {word}"],
        ["--url", url, "-H", f"authorization {word}"],
        ["--", "curl", "-H", f"authorization: Bearer {word}", url],
    ]
    found = []
    for arguments in calls[::every]:
        ended = run_authz("explain", "-c", config, *arguments)
        assert ended.returncode in {0, 2}, ended
        found += leaks(word, ended.stdout + ended.stderr)
    return Searched(len(calls[::every]), found)


# --- The figures -----------------------------------------------------------------------------------------------------


def torture(stand: Stand) -> Iterator[Figure]:
    """Give the figures of promise 10."""
    checks = max(200, stand.count(CHECKS) // 100 * 100)  # the rounds are of one size
    for output in OUTPUTS:
        written = decide_with(output, stand.folder / output, checks, beside=True)
        yield none_of(f"decisions lost with stdout {output}", written.wrong, checks)
        what = f"longest decision with stdout {output} (10 ms more than without a fault)"
        yield at_most(what, written.longest_ms, LONGEST_MS + written.fine_ms, "ms")
        lost = max(0, checks - written.read - written.dropped)
        yield none_of(f"lines neither written nor counted with stdout {output}", lost, checks)
        if output != "blocked" or checks == CHECKS:  # a blocked one holds 10,000 lines before it loses any
            yield at_least(f"lines counted as dropped with stdout {output}", written.dropped, 1)
    searched = [search(stand.folder / f"voice-{number}", voice) for number, voice in enumerate(VOICES)]
    searched += [search(stand.folder / f"quoting-{number}", VOICES[0], fault) for number, fault in enumerate(QUOTING)]
    searched.append(search_tools(stand.folder / "tools"))
    found = [place for one in searched for place in one.found]
    for place in found[:20]:
        stand.tell(f"    {place!r}")
    yield none_of("canaries found in any output", len(found), sum(one.requests for one in searched))
