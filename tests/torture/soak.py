"""`make soak`: half an hour of random everything, and whether memory grows.

    python -m tests.torture.soak [--minutes 2]

Known, new, forged, expired and foreign tokens, tokens of unknown keys, garbage, oversized messages, connections that
come, say half a sentence and go; policies saved well and badly; keys rotated; metrics scraped. One service has one
worker and another has two. First each process is given as many tokens as it remembers, and then so many random
questions that all of those are forgotten several times: filling that memory, and leaving the gaps in it that a memory
in use has, is no growth. The slope is a straight line (least squares) through the least memory of each fiftieth of the
time, after the first third as warm-up; memory is what is a process's alone. The figures go into torture.json, row 12.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from statistics import linear_regression
from typing import Final

from tests.bench import messages
from tests.bench.load import LoadError
from tests.bench.replay import replay
from tests.bench.servers import Service, outer_code
from tests.support.jwks_server import Answer as Document
from tests.support.jwks_server import JwksServer
from tests.support.user_pool import DROP, FakeUserPool
from tests.torture.__main__ import PROMISES, RESULT, SOAK, render, tell
from tests.torture.asking import Answer, Asking, resident_mb
from tests.torture.deaths import Family
from tests.torture.figures import Figure, at_most, none_of
from tests.torture.memory import server_pid, tokens

MINUTES: Final = 30.0
REMEMBERED: Final = 20_000  # tokens, by a process
WARM_UP: Final = 10  # times as many questions to each process, a quarter of them with a token that is remembered
SHARE: Final = 5_000  # of them at a time
WINDOWS: Final = 50
RATE: Final = 250  # a port: a third of these questions brings a token that is signed for it
LIMIT_MB_PER_HOUR: Final = 1.0
SAMPLE_SECONDS: Final = 1.0
ROUTES: Final = 100
OVERSIZED_BYTES: Final = 2 * 1024 * 1024
GOOD: Final = frozenset({"known", "new"})


class Questions:
    """Random questions. The name of one says whether it may be allowed."""

    def __init__(self, pool: FakeUserPool, seed: int) -> None:
        self._random = random.Random(seed)
        self._pool = pool
        self._other = FakeUserPool(pool_id="eu-west-1_ZyXwVuTsR", clock=time.time)
        self._kinds: dict[str, Callable[[], bytes]] = {
            "known": lambda: self._random.choice(self._known),
            "new": lambda: self._message(messages.reader(pool)),
            "stranger": lambda: self._message(messages.stranger(pool)),
            "forged": lambda: self._message(messages.forged(messages.reader(pool))),
            "expired": lambda: self._message(pool.token(now=time.time() - 7200)),
            "foreign": lambda: self._message(self._other.token()),
            "unknown kid": lambda: self._message(pool.token(header={"kid": str(self._random.random())})),
            "no kid": lambda: self._message(pool.token(header={"kid": DROP})),
            "none": lambda: self._message(""),
            "garbage token": lambda: self._message(self._bytes(400).hex()),
            "garbage": lambda: messages.prefixed(self._bytes(self._random.randrange(3000))),
        }
        self._weights = [40, 25, 5, 8, 3, 3, 3, 2, 4, 4, 3]
        self.know_anew()

    def know_anew(self) -> None:
        """Sign the tokens that come again and again; the keys may be others."""
        self._known = [self._message(messages.reader(self._pool)) for _ in range(50)]

    def next(self) -> tuple[str, bytes]:
        (name,) = self._random.choices(list(self._kinds), self._weights)
        return name, self._kinds[name]()

    def _message(self, token: str) -> bytes:
        return messages.message(token, ROUTES)

    def _bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)


class Heard:
    """Counts what was answered. A decided allow of a question that may not be allowed is wrong."""

    def __init__(self) -> None:
        self.answers = self.allowed = self.failed = 0
        self.wrong: list[str] = []

    def hear(self, answer: Answer) -> None:
        self.answers += 1
        if answer.message is None:
            self.failed += 1
        elif outer_code(answer.message) == 0:
            self.allowed += 1
            if answer.name not in GOOD:
                self.wrong.append(answer.name)


class Disturbing:
    """Does something random to a service, again and again, in a thread of its own."""

    def __init__(self, service: Service, pool: FakeUserPool, keys: JwksServer, asked: Sequence[Questions]) -> None:
        self._service = service
        self._pool = pool
        self._keys = keys
        self._questions = asked
        self._random = random.Random(7)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="disturbing")
        self.done = 0
        self.broke: list[str] = []

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        kinds = [self._save, self._save_badly, self._connect_and_go, self._send_too_much, self._scrape]
        while not self._stop.wait(0.1):
            kind = self._rotate if self.done % 600 == 300 else self._random.choice(kinds)
            with suppress(OSError):  # refused is as good as answered
                kind()
            self.done += 1

    def _save(self) -> None:
        text = messages.policies(ROUTES) + f"# {self._random.random()}\n"
        self._service.policy_file.write_text(text, encoding="utf-8")

    def _save_badly(self) -> None:
        text = messages.policies(ROUTES) + f"- broken: {self._random.random()}\n"
        self._service.policy_file.write_text(text, encoding="utf-8")

    def _connect_and_go(self) -> None:
        sayings = [b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", bytes(1000)]
        with socket.create_connection(("127.0.0.1", self._random.choice(self._service.ports)), timeout=2) as one:
            one.sendall(self._random.choice(sayings))

    def _send_too_much(self) -> None:
        port = self._random.choice(self._service.ports)
        begun = b"\0" + OVERSIZED_BYTES.to_bytes(4, "big") + bytes(10_000)  # refused before the rest could come
        with Asking(port, rate=20, next_question=lambda: ("", begun)):
            self._stop.wait(0.1)

    def _scrape(self) -> None:
        self._service.get("/metrics")

    def _rotate(self) -> None:
        self._pool.rotate()
        self._keys.answer = Document(self._pool.jwks())
        for questions in self._questions:
            questions.know_anew()


def soak(
    folder: Path, seconds: float, *, remembered: int = REMEMBERED, rate: float = RATE, say: Callable[[str], None] = tell
) -> Iterator[Figure]:
    """Soak both kinds of service for so long."""
    heard, memory = Heard(), dict[str, list[tuple[float, float]]]()
    with ExitStack() as stack:
        services = [_start(stack, folder, workers, remembered, memory) for workers in (1, 2)]
        disturbing = [_disturb(stack, *one, rate, heard) for one in services]
        begun = time.monotonic()
        while (now := time.monotonic() - begun) < seconds:
            time.sleep(SAMPLE_SECONDS)
            for name, samples in memory.items():
                samples.append((now, resident_mb(int(name.rpartition(" ")[2]))))
            if int(now) % 60 == 0:
                say(f"    {now / 60:.0f} min: {heard.answers:,} checks; " + _sizes(memory))
    yield none_of("wrong allows in the soak", len(heard.wrong), heard.answers)
    yield none_of("checks of the soak without an answer", heard.failed, heard.answers)
    yield Figure(
        "good tokens allowed, disturbances",
        f"{heard.allowed:,}, {sum(one.done for one in disturbing):,}",
        "told",
        held=True,
    )
    for name, samples in memory.items():
        what = f"growth of {name.rpartition(' ')[0]} in {seconds / 60:.3g} minutes"
        yield at_most(what, slope(samples), LIMIT_MB_PER_HOUR, "MB/h")


Started = tuple[Service, FakeUserPool, JwksServer]


def _start(
    stack: ExitStack, folder: Path, workers: int, remembered: int, memory: dict[str, list[tuple[float, float]]]
) -> Started:
    """Start a service, and fill what it remembers."""
    pool = messages.new_pool()
    keys = stack.enter_context(JwksServer(Document(pool.jwks())))
    settings = {"jwks_uri": keys.uri, "jwks": {"refresh": "30s", "cooldown": "1s"}, "decisions": "none"}
    service = stack.enter_context(Service(folder / f"workers-{workers}", pool, ROUTES, workers=workers, **settings))
    pid = server_pid(service)
    memory[f"{'the service' if workers == 1 else 'the supervisor'} {pid}"] = []
    if workers > 1:
        memory.update({f"worker {index} {one}": [] for index, one in Family(service).pids().items()})
    for share in tokens(pool, remembered):
        for port in service.ports:
            replay(port, (messages.message(token, ROUTES) for token in share))
    for port in service.ports:
        questions = Questions(pool, seed=-port)
        for _ in range(0, WARM_UP * remembered, SHARE):
            replay(port, [questions.next()[1] for _ in range(SHARE)])
    return service, pool, keys


def _disturb(
    stack: ExitStack, service: Service, pool: FakeUserPool, keys: JwksServer, rate: float, heard: Heard
) -> Disturbing:
    asked = [Questions(pool, seed=port) for port in service.ports]
    share = rate / len(asked)
    for port, questions in zip(service.ports, asked, strict=True):
        stack.enter_context(Asking(port, rate=share, next_question=questions.next, heard=heard.hear))
    disturbing = Disturbing(service, pool, keys, asked)
    stack.enter_context(disturbing)
    return disturbing


def slope(samples: Sequence[tuple[float, float]]) -> float:
    """Give the growth in MB an hour, after the first third; nothing that shrinks grows."""
    warm = samples[len(samples) // 3 :]
    width = max(1, len(samples) // WINDOWS)
    least = [min(warm[at : at + width], key=lambda sample: sample[1]) for at in range(0, len(warm), width)]
    if len(least) < 2:
        raise LoadError("too short to tell")
    seconds, sizes = zip(*least, strict=True)
    return max(0.0, 3600 * linear_regression(seconds, sizes).slope)


def _sizes(memory: dict[str, list[tuple[float, float]]]) -> str:
    return ", ".join(
        f"{name.rpartition(' ')[0]} {samples[-1][1]:.1f} MB" for name, samples in memory.items() if samples
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=MINUTES)
    minutes: float = parser.parse_args(arguments).minutes
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="authz-soak-", dir=memory if memory.is_dir() else None) as folder:
        figures = list(soak(Path(folder), 60 * minutes))
    rows = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    write(rows, figures)
    print(render({"12": rows["12"]}))
    return 0 if all(figure.held for figure in figures) else 1


def write(rows: dict[str, dict[str, object]], figures: Sequence[Figure]) -> None:
    """Put the figures beside the others of row 12: those of former soaks go, those of `make torture` stay."""
    date = time.strftime("%Y-%m-%d", time.gmtime())
    empty = {"promise": PROMISES[12].text, "date": date, "share": 1, "seconds": 0, "figures": []}
    row = rows.setdefault("12", empty)
    kept = [one for one in row["figures"] if not one["what"].startswith(SOAK)]
    row["figures"] = kept + [figure._replace(what=f"{SOAK}{date}: {figure.what}")._asdict() for figure in figures]
    RESULT.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
