"""`make torture`: every promise about faults, overload and hostile input, put to the test; prints the table.

    python -m tests.torture [--share 0.02] [--only NUMBER …]

It takes about an hour on two cores; `--share` does less of everything that is counted. Before each promise it tells for
how long the machine, which may have neighbours, stood still: one that does for a hundredth keeps no p99. The figures,
with their date, are written to torture.json; a run of some parts keeps the others' figures of former runs. Exit codes:
0 every promise was kept, 1 one was not.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.mutants import report as mutants
from tests.torture import cores
from tests.torture.figures import Figure, Stand

RESULT: Final = Path("torture.json")


class Promise(NamedTuple):
    """A row of the table, and the modules beside this one that put it to the test."""

    text: str
    modules: Sequence[str]


PROMISES: Final[Mapping[int, Promise]] = {
    1: Promise("no wrong allow", ["decisions", "tokens", "fuzz"]),
    2: Promise("nothing is allowed by omission", ["omission"]),
    3: Promise("reloads are invisible", ["reloads"]),
    4: Promise("Cognito may be away", ["absence"]),
    5: Promise("strangers cannot starve friends", ["strangers"]),
    6: Promise("revocation works", ["revocation"]),
    7: Promise("overload is survived", ["overload"]),
    8: Promise("processes may die", ["deaths"]),
    9: Promise("the transport is guarded", ["transport"]),
    10: Promise("logs cannot hurt", ["logs"]),
    11: Promise("the clock may jump", ["clocks"]),
    12: Promise("memory is bounded", ["memory"]),
    13: Promise("TLS", ["tls"]),
}


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    rows = _former()
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="authz-torture-", dir=memory if memory.is_dir() else None) as folder:
        for number in options.only:
            still = cores.standstill()
            started = time.monotonic()
            figures = list(_put_to_the_test(number, Path(folder), options.share))
            seconds = round(time.monotonic() - started)
            rows[str(number)] = {
                "promise": PROMISES[number].text,
                "date": time.strftime("%Y-%m-%d", time.gmtime()),
                "share": options.share,
                "seconds": seconds,
                "standstill": round(still, 4),
                "figures": [figure._asdict() for figure in figures] + _soaked(rows.get(str(number))),
            }
            stood = f"before it the machine stood still for {still:.1%} of a second"
            tell(f"{number} {PROMISES[number].text}: {seconds} s; {stood}")
            RESULT.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    shown = {number: row for number, row in rows.items() if int(number) in options.only}
    print(render(shown if options.only != list(PROMISES) else {**shown, **_mutants()}))
    mine = [figure for number in options.only for figure in rows[str(number)]["figures"]]
    return 0 if mine and all(figure["held"] for figure in mine) else 1


def _put_to_the_test(number: int, folder: Path, share: float) -> Iterator[Figure]:
    """Run the parts of a promise. A part that breaks is a promise that was not kept, and the others go on."""
    for name in PROMISES[number].modules:
        own = folder / name
        own.mkdir()
        part: Callable[[Stand], Iterator[Figure]] = import_module(f"tests.torture.{name}").torture
        try:
            for figure in part(Stand(own, share, tell)):
                tell(f"  {'kept  ' if figure.held else 'BROKEN'} {figure.what}: {figure.measured} ({figure.limit})")
                yield figure
        except Exception as error:  # noqa: BLE001 - the table must tell of it, and the other promises still count
            traceback.print_exc()
            yield Figure(f"the part `{name}`", f"broke: {type(error).__name__}", "ends", held=False)


def render(rows: Mapping[str, Any]) -> str:
    """Give the table in Markdown, as it stands in the README."""
    lines = ["| # | promise | figure | measured | limit | kept | date |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for number in sorted(rows, key=int):
        row = rows[number]
        share = "" if row["share"] == 1 else f" ({row['share']:.0%} of it)"
        for figure in row["figures"]:
            kept = "yes" if figure["held"] else "NO"
            cells = (number, row["promise"], figure["what"], figure["measured"], figure["limit"], kept)
            lines.append(f"| {' | '.join(cells)} | {row['date']}{share} |")
    return "\n".join(lines)


SOAK: Final = "soak of "  # how the figures of `make soak` begin, which stand in row 12


def _soaked(row: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Give what the last soak left in the row."""
    return [] if row is None else [figure for figure in row["figures"] if figure["what"].startswith(SOAK)]


def _mutants() -> dict[str, Any]:
    """Give row 14, of the last `make mutants`."""
    rows = mutants.former()
    return {"14": mutants.as_promise(rows)} if rows else {}


def _former() -> dict[str, Any]:
    rows: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    return rows


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make torture", description=__doc__.partition("\n")[0])
    parser.add_argument("--share", type=float, default=1.0, help="how much of what is counted, such as 0.02")
    parser.add_argument("--only", type=int, nargs="+", choices=list(PROMISES), default=list(PROMISES), metavar="NUMBER")
    return parser.parse_args(arguments)


def tell(text: str) -> None:
    """Say how far it is, beside the table."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
