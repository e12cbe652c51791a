"""Reloads are invisible: policies are saved in every way, well and badly, while the service is asked without a break.

Two files must agree: version n allows the group `even` or `odd`, as n is, in one file for /a and in the other for /b,
and names its routes after itself. An answer tells its route and the revision that decided: a revision that shows two
versions is a mixture, and so is an outcome that is not that of the version. Files end with `# end`, which is asked for
(`require_end`), so that a cut is never a shorter but complete file.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import count, cycle
from pathlib import Path
from typing import Final

from authz.pb import external_auth_pb2 as pb
from tests.bench.messages import new_pool, prefixed
from tests.bench.servers import Service
from tests.support.check_request import check_request
from tests.torture.asking import Answer, Asking, percentile
from tests.torture.figures import Figure, Stand, at_least, at_most, none_of

RATE: Final = 1000
QUIET_SECONDS: Final = 10.0
NOTICED_SECONDS: Final = 2.0  # until a bad save must have been told of; a fraction of it is usual
PATIENCE_SECONDS: Final = 20.0
TOO_SLOW_SECONDS: Final = 0.10  # a saver that pauses as long between its files shows a mixture itself
NAMES: Final = ("a", "b")
WORDS: Final = ("even", "odd")

Text = Callable[[str, int], bytes]


def text(name: str, version: int) -> bytes:
    """One of the two files of a version."""
    rule = f"policy: {{allow: {{or: [{{groups: {WORDS[version % 2]}}}]}}}}"
    return f"- {{id: {name}-{version}, from: https://app.example.com, path: /{name}, {rule}}}\n# end\n".encode()


class Folder:
    """The policies on the disk, saved in the ways of people and tools. `root` is a link to the folder."""

    def __init__(self, home: Path) -> None:
        self.root = home / "policies"
        self.home = home
        self.slow = 0  # saves that took so long that the service may rightly have seen half of them
        self._number = count(1)

    # --- good saves: each makes the folder good, whatever it was

    def swap_folder(self, version: int, make: Text = text) -> None:
        """Another folder under the same name: a link that is renamed over the old one."""
        fresh = self.home / f"set-{next(self._number)}"
        fresh.mkdir()
        for name in NAMES:
            (fresh / f"{name}.yaml").write_bytes(make(name, version))
        old = self.root.resolve() if self.root.is_symlink() else None
        self._link(fresh.name, self.root)
        if old is not None and old.is_dir():
            shutil.rmtree(old)

    def swap_data(self, version: int, make: Text = text) -> None:
        """As Kubernetes mounts a ConfigMap: files are links through `..data`, which is renamed over the old one."""
        fresh = self.root / f"..{next(self._number)}"
        fresh.mkdir()
        for name in NAMES:
            (fresh / f"{name}.yaml").write_bytes(make(name, version))
        data = self.root / "..data"
        old = data.resolve() if data.is_symlink() else None
        self._link(fresh.name, data)
        with self._watched():
            for name in NAMES:
                file = self.root / f"{name}.yaml"
                if not file.is_symlink():
                    self._link(f"..data/{name}.yaml", file)
        if old is not None:
            shutil.rmtree(old)

    def rename(self, version: int, make: Text = text) -> None:
        """As editors save: a new file is renamed over the old one."""
        for name in NAMES:
            (self.root / f".{name}.new").write_bytes(make(name, version))
        with self._watched():
            for name in NAMES:
                (self.root / f".{name}.new").rename(self.root / f"{name}.yaml")

    def write_in_place(self, version: int, make: Text = text) -> None:
        """As `>` saves: emptied, then written."""
        with self._watched():
            for name in NAMES:
                (self.root / f"{name}.yaml").write_bytes(make(name, version))

    # --- bad ones

    def remove(self) -> None:
        """The folder is gone."""
        self.root.rename(self.home / f"gone-{next(self._number)}")

    def leave_dangling(self) -> None:
        """The folder is a link to nothing."""
        self._link("nowhere", self.root)

    def leave_a_file_dangling(self) -> None:
        """A file is a link to nothing: unreadable for root too."""
        self._link("nowhere", self.root / "b.yaml")

    def put_a_pipe(self) -> None:
        """A file is a pipe, which nobody writes to."""
        os.mkfifo(self.root / ".pipe")
        (self.root / ".pipe").rename(self.root / "b.yaml")

    def loop(self) -> None:
        """A file is a link to itself."""
        self._link("b.yaml", self.root / "b.yaml")

    @property
    def is_whole(self) -> bool:
        """Tell whether both files are there, so that they can be saved one by one."""
        return all((self.root / f"{name}.yaml").is_file() for name in NAMES)

    def _link(self, target: str, place: Path) -> None:
        fresh = self.home / f"link-{next(self._number)}"
        fresh.symlink_to(target)
        fresh.rename(place)

    def _watched(self) -> _Watch:
        return _Watch(self)


class _Watch:
    """Counts a save of several files that took too long."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        self._started = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._folder.slow += time.monotonic() - self._started > TOO_SLOW_SECONDS


class Saves:
    """Good and bad saves in turn, each kind counted."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.kinds: Counter[str] = Counter()
        self.version = 0
        self._good = cycle([folder.swap_folder, folder.swap_data, folder.rename, folder.write_in_place])
        self._bad = cycle(self._bad_kinds())
        self._cuts = count(0)

    def good(self) -> int:
        """Save the next version, and give its number."""
        self.version += 1
        save = next(self._good)
        if not self.folder.is_whole:
            save = self.folder.swap_folder
        self.kinds[save.__name__] += 1
        save(self.version)
        return self.version

    def bad(self) -> None:
        """Save something that must not come into force."""
        save = next(self._bad)
        if not self.folder.is_whole:
            self.good()
        self.kinds[f"bad: {save.__name__}"] += 1
        save()

    def _bad_kinds(self) -> list[Callable[[], None]]:
        folder = self.folder
        others: list[Callable[[], None]] = [
            self.unknown_key,
            folder.remove,
            self.not_yaml,
            folder.leave_a_file_dangling,
            self.not_text,
            folder.leave_dangling,
            self.no_list,
            folder.put_a_pipe,
            self.empty,
            folder.loop,
        ]
        return [kind for other in others for kind in (self.cut, other)]

    def cut(self) -> None:
        """Cut the next version at the next byte, in place or by renaming; the last newline alone is no loss."""
        number = next(self._cuts)

        def make(name: str, version: int) -> bytes:
            whole = text(name, version)
            round_, at = divmod(number, len(whole) - 1)
            return whole[:at] if name == NAMES[round_ % 2] else whole

        (self.folder.write_in_place, self.folder.rename, self.folder.swap_data)[number % 3](self.version + 1, make)

    def unknown_key(self) -> None:
        self.folder.rename(self.version + 1, lambda name, version: text(name, version).replace(b"path:", b"pat:"))

    def not_yaml(self) -> None:
        self.folder.write_in_place(self.version + 1, lambda name, version: b"]" + text(name, version))

    def not_text(self) -> None:
        self.folder.swap_data(self.version + 1, lambda name, version: b"# \xff\n" + text(name, version))

    def no_list(self) -> None:
        self.folder.swap_folder(self.version + 1, lambda _, version: b"version: %d\n# end\n" % version)

    def empty(self) -> None:
        self.folder.write_in_place(self.version + 1, lambda *_: b"")


class Judge:
    """Hears every answer and holds it against the version that its route names."""

    def __init__(self) -> None:
        self.answers = 0
        self.unlike: list[str] = []  # what an answer said that its version does not say
        self.took: list[tuple[float, float]] = []  # when due, seconds
        self.newest = -1
        self._versions: dict[str, set[int]] = defaultdict(set)

    def hear(self, answer: Answer) -> None:
        if answer.message is None:
            return
        self.answers += 1
        self.took.append((answer.due, answer.seconds))
        response = pb.CheckResponse.FromString(answer.message)
        told = response.dynamic_metadata.fields
        name, _, number = told["route"].string_value.partition("-")
        path, group = answer.name.split()
        if name != path or not number.isdigit():
            self.unlike.append(f"{answer.name}: route {told['route'].string_value!r}, {told['reason'].string_value}")
            return
        version = int(number)
        self.newest = max(self.newest, version)
        self._versions[told["policy_revision"].string_value].add(version)
        if (response.status.code == 0) != (WORDS[version % 2] == group):
            self.unlike.append(f"{answer.name}: {told['reason'].string_value} by version {version}")

    @property
    def mixed(self) -> list[set[int]]:
        """The versions that one revision showed, where these are several."""
        return [versions for versions in self._versions.values() if len(versions) > 1]

    @property
    def versions(self) -> set[int]:
        """Every version that decided."""
        return set().union(*self._versions.values())

    def p99(self, start: float, end: float) -> float:
        """Give the 99th percentile of what was due between, in milliseconds."""
        return 1000 * percentile([seconds for due, seconds in self.took if start <= due < end], 0.99)


class Outcome:
    """What a run came to."""

    def __init__(self, saves: Saves, judge: Judge, rate: int) -> None:
        self.saves = saves
        self.judge = judge
        self.rate = rate
        self.failed = 0
        self.not_in_force: list[int] = []
        self.refusals = 0
        self.quiet_p99 = self.busy_p99 = float("nan")


def run(home: Path, reloads: int, *, rate: int = RATE, quiet_seconds: float = QUIET_SECONDS) -> Outcome:
    """Save so often, two of five times badly, under so many checks a second."""
    pool = new_pool()
    service = Service(home, pool, require_end=True, decisions="none")
    shutil.rmtree(service.policy_file.parent)
    folder = Folder(home)
    folder.swap_folder(0)
    questions = {
        f"{name} {group}": prefixed(
            check_request(path=f"/{name}", token=pool.token(groups=[group])).SerializeToString()
        )
        for name in NAMES
        for group in WORDS
    }
    saves, judge = Saves(folder), Judge()
    outcome = Outcome(saves, judge, rate)
    with (
        service,
        Asking(service.port, rate=rate, next_question=cycle(questions.items()).__next__, heard=judge.hear) as asking,
    ):
        time.sleep(min(2.0, quiet_seconds))  # connections and caches
        start = time.perf_counter()
        time.sleep(quiet_seconds)
        middle = time.perf_counter()
        for number in range(reloads):
            if number % 5 in (1, 3):
                told = _refusals(service)
                saves.bad()
                outcome.refusals += _until(lambda told=told: _refusals(service) > told, NOTICED_SECONDS)
            else:
                _until_in_force(saves.good(), outcome)
        saves.good()
        _until_in_force(saves.version, outcome)
        end = time.perf_counter()
    outcome.failed = asking.failed
    outcome.quiet_p99, outcome.busy_p99 = judge.p99(start, middle), judge.p99(middle, end)
    return outcome


def _refusals(service: Service) -> int:
    return service.log.read_text(encoding="utf-8").count("policies refused")


def _until_in_force(version: int, outcome: Outcome) -> None:
    if not _until(lambda: outcome.judge.newest >= version, PATIENCE_SECONDS):
        outcome.not_in_force.append(version)


def _until(done: Callable[[], bool], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while not done():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def torture(stand: Stand) -> Iterator[Figure]:
    """About five minutes: a save is in force after a third of a second."""
    outcome = run(stand.folder, max(50, stand.count(1000)))
    yield from untimed(outcome)
    ratio = outcome.busy_p99 / outcome.quiet_p99
    stand.tell(f"    p99 {outcome.quiet_p99:.2f} ms without, {outcome.busy_p99:.2f} ms with reloads")
    yield at_most("p99 during reloads, beside a p99 without", ratio, 2, "×")


def untimed(outcome: Outcome) -> Iterator[Figure]:
    """What must be so however busy the machine is."""
    saves, judge = outcome.saves, outcome.judge
    kinds = saves.kinds
    bad = sum(times for kind, times in kinds.items() if kind.startswith("bad"))
    asked = judge.answers + outcome.failed
    yield none_of(
        f"checks failed during {kinds.total():,} reloads, {bad:,} of them broken, at {outcome.rate:,}/s",
        outcome.failed,
        asked,
    )
    mixed = len(judge.mixed) if len(judge.mixed) > saves.folder.slow else 0
    yield none_of("policy revisions that mixed two versions", mixed, len(judge.versions))
    yield none_of("checks decided otherwise than their version says", len(judge.unlike), judge.answers)
    yield none_of("good saves that did not come into force", len(outcome.not_in_force), kinds.total() - bad)
    yield none_of("broken saves that nobody was told of", bad - outcome.refusals, bad)
    yield at_least("ways of saving, good and bad", len(kinds), 15)
