"""The parts of the benchmark. Each starts its servers, measures them in turn, round after round, and ends them.

Servers that are compared run at the same time and are asked one after the other, A B C, A B C, …: what slows the
machine down for a while slows down all of a round. The first, short runs of each server are for warming up and for
finding how many requests fill the seconds that a run may take.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

from tests.bench import load, messages, servers, through_envoy
from tests.bench.load import Sample, Target
from tests.bench.replay import ask_once, replay
from tests.bench.report import Results
from tests.bench.servers import NotMeasured, Server, Service
from tests.support.check_request import HOST
from tests.support.jwks_server import Answer, JwksServer
from tests.support.ports import free_ports
from tests.support.user_pool import FakeUserPool

FIXED_RATE: Final = 1_000  # requests a second, of latency measurements
WARM_UP: Final = 1_000  # requests
BEHIND_ENVOY: Final = 8  # in flight, a connection: the sample's retries give up on a check that queues for 25 ms
MEMORY_TOKENS: Final = 50_000  # valid, and as many forged
MANY_ROUTES: Final = 10_000


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int = 3
    seconds: float = 2.5  # a closed-loop run
    steady_seconds: float = 5.0  # an open-loop run
    starts: int = 5
    memory_tokens: int = MEMORY_TOKENS


QUICK: Final = Plan(rounds=1, seconds=0.7, steady_seconds=2.0, starts=2, memory_tokens=5_000)


class Bench:
    """What the parts share: a folder in memory, a user pool, results, and somebody to tell."""

    def __init__(self, folder: Path, plan: Plan, results: Results, tell: Callable[[str], None]) -> None:
        self.folder = folder
        self.plan = plan
        self.results = results
        self.tell = tell
        self.pool: FakeUserPool = messages.new_pool()
        self.token = messages.reader(self.pool)
        self.message = messages.message(self.token)
        self._tokens: list[str] = []

    def body(self, name: str, message: bytes) -> Path:
        """Put a message into a file for h2load."""
        path = self.folder / f"{name}.bin"
        path.write_bytes(message)
        return path

    def service(self, name: str, routes: int = 10, **settings: Any) -> Service:
        """This service with so many routes."""
        return Service(self.folder / name, self.pool, routes, **settings)

    def tokens(self, count: int) -> Sequence[str]:
        """That many different tokens, the same ones each time: signing them takes long."""
        if len(self._tokens) < count:
            self.tell(f"signing {count:,} tokens")
            self._tokens += messages.sign_readers(self.pool, count - len(self._tokens))
        return self._tokens[:count]


@contextmanager
def _or_missing(results: Results, *names: str) -> Iterator[None]:
    """Note what cannot be measured and go on."""
    try:
        yield
    except NotMeasured as error:
        for name in names:
            results.miss(name, str(error))


# --- Throughput: h2load, one message


@dataclass
class _Contender:
    name: str
    targets: Sequence[Target]
    server: Sequence[Server]
    requests: int = 0

    @property
    def cpu_seconds(self) -> float:
        return sum(server.cpu_seconds for server in self.server)


def throughput(bench: Bench) -> None:
    """One token and ten routes: the floor, this service with each kind of log, two of each, and the rivals."""
    with ExitStack() as running:
        contenders = _start_contenders(bench, running)
        _race(bench, contenders)


def _start_contenders(bench: Bench, running: ExitStack) -> list[_Contender]:
    bench.tell("starting servers")
    contenders: list[_Contender] = []
    raw, results = bench.body("raw", bench.message), bench.results
    forged = messages.message(messages.forged(bench.token))

    def compete(name: str, ports: Sequence[int], server: Sequence[Server], body: Path = raw) -> None:
        size = min(len(ask_once(port, body.read_bytes())) for port in ports)
        contenders.append(_Contender(name, [Target.check(port, body, size) for port in ports], server))

    kinds = ("denied", "all", "none")
    services = {kind: running.enter_context(bench.service(f"log-{kind}", decisions=kind)) for kind in kinds}
    for kind, service in services.items():
        _must_tell_apart(service.port, bench.message, forged)
        compete(kind, service.ports, [service])
    answer = ask_once(services["denied"].port, bench.message)
    floors = [running.enter_context(servers.floor(bench.folder / f"floor-{n}", answer, bench.message)) for n in (1, 2)]
    compete("floor", [floors[0][1]], [floors[0][0]])
    compete("floor2", [port for _, port in floors], [server for server, _ in floors])
    transport, port = running.enter_context(
        servers.floor(bench.folder / "transport", answer, bench.message, "tests.bench.transport")
    )
    compete("transport", [port], [transport])
    usual, port = running.enter_context(servers.usual_way(bench.folder / "usual", bench.pool, bench.message))
    _must_tell_apart(port, bench.message, forged)
    compete("usual", [port], [usual])
    with _or_missing(results, "rate/two", "cpu/two"):
        two = running.enter_context(bench.service("two", decisions="denied", workers=2))
        compete("two", two.ports, [two])
    with _or_missing(results, "rate/opa", "cpu/opa", "rate/opa-knows", "cpu/opa-knows"):
        bench.tell("building OPA's plugin")
        program = servers.build_opa()
        plain = messages.message(bench.token, raw=False)  # it reads `headers`, not `header_map`
        for name, known in (("opa", 0), ("opa-knows", 10_000)):
            plugin = servers.opa_plugin(program, bench.folder / name, bench.pool, plain, known_tokens=known)
            opa, port = running.enter_context(plugin)
            _must_tell_apart(port, plain, messages.message(messages.forged(bench.token), raw=False))
            compete(name, [port], [opa], bench.body("plain", plain))
    return contenders


def _must_tell_apart(port: int, good: bytes, forged: bytes) -> None:
    """Make sure that what is measured decides: the token that is asked with passes, a forged one does not."""
    if not servers.allows(port, good):
        raise NotMeasured("the server does not allow the request that is measured")
    if servers.allows(port, forged):
        raise NotMeasured("the server lets a forged token pass")


def _race(bench: Bench, contenders: Sequence[_Contender], part: str = "rate") -> None:
    for one in contenders:
        warm = load.ask(one.targets, WARM_UP)
        again = load.ask(one.targets, WARM_UP)
        one.requests = int(max(warm.rate, again.rate) * bench.plan.seconds)
    for number in range(bench.plan.rounds):
        bench.tell(f"{part}: round {number + 1} of {bench.plan.rounds}")
        for one in contenders:
            before = one.cpu_seconds
            run = load.ask(one.targets, one.requests)
            used = one.cpu_seconds - before
            bench.results.add(f"{part}/{one.name}", run.rate)
            if part == "rate":
                bench.results.add(f"cpu/{one.name}", run.requests / used)
            for server in one.server:
                server.forget_log()


# --- Mixes: our own generator, many messages


def mixes(bench: Bench) -> None:
    """One token, a thousand, a new one each time, and one in five denied, beside the floor by the same generator."""
    plan = bench.plan
    with ExitStack() as running:
        service = running.enter_context(bench.service("mixes"))
        _must_tell_apart(service.port, bench.message, messages.message(messages.forged(bench.token)))
        answer = ask_once(service.port, bench.message)
        floor, floor_port = running.enter_context(servers.floor(bench.folder / "mix-floor", answer, bench.message))
        replay(floor_port, [bench.message] * WARM_UP)
        rate = replay(service.port, [bench.message] * WARM_UP).rate
        count = int(rate * plan.seconds)
        new = bench.tokens(1_000 + count * plan.rounds)
        thousand = list(messages.messages(new[:1_000]))
        denied = messages.message(messages.stranger(bench.pool))
        for number in range(plan.rounds):
            bench.tell(f"mixes: round {number + 1} of {plan.rounds}")
            replay(service.port, thousand)  # the last round's new tokens made the service forget them
            start = 1_000 + count * number
            kinds: Mapping[str, tuple[int, Sequence[bytes], int]] = {
                "floor": (floor_port, [bench.message] * count, 0),
                "one": (service.port, [bench.message] * count, 0),
                "thousand": (service.port, _repeated(thousand, count), 0),
                "fifth": (service.port, _repeated([bench.message] * 4 + [denied], count), count // 5),
                "new": (service.port, list(messages.messages(new[start : start + count])), 0),
            }
            for kind, (port, asked, expected) in kinds.items():
                run = replay(port, asked)
                if run.denied != expected:
                    raise NotMeasured(f"mix `{kind}`: {run.denied} denials, {expected} expected")
                bench.results.add(f"mix/{kind}", run.rate)
                bench.results.add(f"mix-generator/{kind}", 1e6 * run.own_cpu / run.answers)
            service.forget_log()
            floor.forget_log()


def _repeated(asked: Sequence[bytes], count: int) -> list[bytes]:
    return [asked[number % len(asked)] for number in range(count)]


# --- Routes


def routes(bench: Bench) -> None:
    """10, 1,000 and 10,000 routes on one host; the last is asked for."""
    with ExitStack() as running:
        contenders = []
        for count in (10, 1_000, MANY_ROUTES):
            service = running.enter_context(bench.service(f"routes-{count}", count))
            message = messages.message(bench.token, count)
            _must_tell_apart(service.port, message, messages.message(messages.forged(bench.token), count))
            size = len(ask_once(service.port, message))
            target = Target.check(service.port, bench.body(f"routes-{count}", message), size)
            contenders.append(_Contender(str(count), [target], [service]))
        _race(bench, contenders, "routes")


# --- Envoy


def envoy(bench: Bench) -> None:
    """The chains of filters: how many requests a second, and how long one takes at 1,000 a second.

    The floor in this service's place shows what of it Envoy's call and gRPC take.
    """
    plan = bench.plan
    headers = {**messages.BROWSER, "authorization": f"Bearer {bench.token}", "host": HOST}
    with ExitStack() as running:
        asked = {"authz": running.enter_context(bench.service("behind-authz")).port}
        answer = ask_once(asked["authz"], bench.message)
        asked["floor"] = running.enter_context(servers.floor(bench.folder / "behind-floor", answer, bench.message))[1]
        targets: dict[str, Target] = {}
        for kind in through_envoy.KINDS:
            port = free_ports(2)
            service = asked.get(kind, asked["authz"])
            config = through_envoy.configuration(kind, port=port, admin=port + 1, service=service, pool=bench.pool)
            one = running.enter_context(servers.envoy(bench.folder / f"envoy-{kind}", config))
            target = Target(f"http://127.0.0.1:{port}{messages.path(10)}", _for_h2load(headers))
            one.wait_until(lambda target=target: _works(target))  # type: ignore[misc]
            targets[kind] = target
        _must_refuse(targets, headers, bench)

        def busy(target: Target, requests: int) -> float:
            return load.ask([target], requests, BEHIND_ENVOY).rate

        counts = {kind: int(busy(target, WARM_UP) * plan.seconds) for kind, target in targets.items()}
        for number in range(plan.rounds):
            bench.tell(f"envoy: round {number + 1} of {plan.rounds}")
            for kind, target in targets.items():
                bench.results.add(f"envoy/{kind}/rate", busy(target, counts[kind]))
            for kind, target in targets.items():
                samples = load.ask_steadily(target, bench.folder, rate=FIXED_RATE, seconds=plan.steady_seconds)
                for name, value in _percentiles(_after_warm_up(samples)).items():
                    bench.results.add(f"envoy/{kind}/{name}", 1_000 * value)
                failed = sum(sample.status != 200 for sample in samples)
                bench.results.add(f"envoy/{kind}/failed", 100 * failed / len(samples))


def _for_h2load(headers: Mapping[str, str]) -> Mapping[str, str]:
    """h2load spells `host` as HTTP/2 does."""
    return {":authority" if name == "host" else name: value for name, value in headers.items()}


def _works(target: Target) -> bool:
    try:
        load.ask([target], load.CONNECTIONS)
    except load.LoadError:
        return False
    return True


def _must_refuse(targets: Mapping[str, Target], headers: Mapping[str, str], bench: Bench) -> None:
    """Make sure that a chain that should check tokens does: a forged one must not pass."""
    forged = {**headers, "authorization": f"Bearer {messages.forged(bench.token)}"}
    for kind in ("native", "authz"):
        if _works(targets[kind]._replace(headers=_for_h2load(forged))):
            raise NotMeasured(f"the chain `{kind}` lets a forged token pass")


def _after_warm_up(samples: Sequence[Sample]) -> Sequence[float]:
    """Give the latencies without the first fifth: connections are made then."""
    in_order = sorted(samples)
    return [sample.latency for sample in in_order[len(in_order) // 5 :]]


def _percentiles(latencies: Sequence[float]) -> Mapping[str, float]:
    cuts = quantiles(latencies, n=100)
    return {"p50": cuts[49], "p99": cuts[98]}


# --- Reload


def reload(bench: Bench) -> None:
    """Replace ten routes by 10,000 while 1,000 checks a second run, and see how long these take meanwhile."""
    lead, span = 3.0, 10.0  # seconds: before the change, and in all
    with bench.service("reload") as service:
        size = len(ask_once(service.port, bench.message))
        target = Target.check(service.port, bench.body("reload", bench.message), size)
        load.ask([target], WARM_UP)
        for number in range(bench.plan.rounds):
            bench.tell(f"reload: round {number + 1} of {bench.plan.rounds}")
            samples, written, loaded = _reload_under_load(bench, service, target, lead, span)
            if loaded is None:
                raise NotMeasured("10,000 routes were not in force within seven seconds")
            normal = [one.latency for one in samples if written - lead + 0.6 < one.started < written]
            during = [one.latency for one in samples if written <= one.started <= loaded]
            bench.results.add("reload/seconds", loaded - written)
            bench.results.add("reload/normal p99", 1_000 * _percentiles(normal)["p99"])
            bench.results.add("reload/p99", 1_000 * _percentiles(during)["p99"])
            _put_back(service)


def _reload_under_load(
    bench: Bench, service: Service, target: Target, lead: float, span: float
) -> tuple[Sequence[Sample], float, float | None]:
    """Give all samples, when the file was replaced and when its routes were in force (None: not in time)."""
    text = messages.policies(MANY_ROUTES)
    with _in_background(lambda: load.ask_steadily(target, bench.folder, rate=FIXED_RATE, seconds=span)) as samples:
        time.sleep(lead)
        written = _replace(service.policy_file, text)
        time.sleep(span - lead)  # asking how far it is would disturb what is measured
    return samples(), written, service.loaded_at(MANY_ROUTES)


@contextmanager
def _in_background(work: Callable[[], Sequence[Sample]]) -> Iterator[Callable[[], Sequence[Sample]]]:
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(work).result


def _put_back(service: Service) -> None:
    _replace(service.policy_file, messages.policies(10))
    service.wait_until(lambda: service.loaded_at(10) is not None, poll=0.1)


def _replace(file: Path, text: str) -> float:
    """Put a new file in the place of the old one, as editors and deployments do; give the time."""
    new = file.with_suffix(".new")
    new.write_text(text)
    written = time.time()
    new.replace(file)
    return written


# --- Memory and start


def memory(bench: Bench) -> None:
    """What a fresh process takes, and how much more after many good and many forged tokens."""
    tokens = bench.tokens(bench.plan.memory_tokens)
    with bench.service("memory") as service:
        fresh = service.resident_mb
        bench.results.add("memory/fresh", fresh)
        bench.tell(f"asking with {len(tokens):,} valid and as many forged tokens")
        for start in range(0, len(tokens), 5_000):
            part = tokens[start : start + 5_000]
            replay(service.port, messages.messages(part))
            run = replay(service.port, messages.messages([messages.forged(token) for token in part]))
            if run.denied != len(part):
                raise NotMeasured("a forged token was not refused")
            service.forget_log()
        growth = service.resident_mb - fresh
    if len(tokens) == MEMORY_TOKENS:
        bench.results.add("memory/growth", growth)
    else:
        bench.results.add(f"memory/growth after {len(tokens)}", growth)
        bench.results.miss("memory/growth", f"a quick run asks with {len(tokens):,} tokens of each kind")


def start(bench: Bench) -> None:
    """From the start of the process to /readyz, with keys in cache_dir and nobody at the keys' address."""
    with JwksServer(Answer(bench.pool.jwks())) as keys:
        settings: dict[str, Any] = {"jwks": {"cache_dir": "cache"}, "jwks_uri": keys.uri}
        with bench.service("start-0", **settings) as service:
            cache = service.folder / "cache"
            service.wait_until(lambda: any(cache.glob("*")))
    for number in range(1, bench.plan.starts + 1):
        again = bench.service(f"start-{number}", **settings)
        shutil.copytree(cache, again.folder / "cache")
        started = time.perf_counter()
        with again:
            bench.results.add("start/seconds", time.perf_counter() - started)


# --- Micro-benchmarks

_LINE: Final = re.compile(r"^(\S.*?) {2,}([\d.]+) µs", re.MULTILINE)


def micro(bench: Bench) -> None:
    """Run every micro_*.py; lines such as `what    12.3 µs …` become values."""
    for script in sorted(Path(__file__).parent.glob("micro_*.py")):
        bench.tell(script.name)
        command = [sys.executable, "-m", f"tests.bench.{script.stem}"]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=90, check=False, env={**os.environ, "PYTHONPATH": "."}
            )
        except subprocess.TimeoutExpired:
            bench.results.miss(script.name, "not done after 90 s")
            continue
        if done.returncode:
            bench.results.miss(script.name, " ".join(done.stderr[-300:].split()))
            continue
        bench.results.scripts[script.name] = done.stdout
        for what, micros in _LINE.findall(done.stdout):
            bench.results.add(f"micro/{what}", float(micros))


ROOMS: Final[Mapping[str, Callable[[Bench], None]]] = {
    "throughput": throughput,
    "mixes": mixes,
    "routes": routes,
    "envoy": envoy,
    "reload": reload,
    "memory": memory,
    "start": start,
    "micro": micro,
}
PREFIXES: Final = {
    "throughput": ("rate", "cpu"),
    "mixes": ("mix",),
    "routes": ("routes",),
    "envoy": ("envoy",),
    "reload": ("reload",),
    "memory": ("memory",),
    "start": ("start",),
    "micro": ("micro",),
}
"""What the names of a part's results begin with."""
