"""What a person sees: progress, addresses, curl lines, live decisions, and the table of `--once`.

On a terminal with a spinner and colour; elsewhere, or with NO_COLOR, the same text plain. Nothing is wrapped: lines are
to be copied.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from authz.demo.cognito import FEDERATED, PASSWORD, PROVIDER, USERS, Population
from authz.demo.decisions import Record
from authz.demo.files import APP_HOST
from authz.demo.scenario import NOBODY, Row
from authz.model import Reason, http_status

_SHOWN: Final = (  # who, host and path, status, why
    ("alice", "admin.localhost", "/", 200, "alice is in the group admins"),
    ("bob", "admin.localhost", "/", 403, "bob is not"),
    (NOBODY, "admin.localhost", "/", 401, "no token"),
    ("alice, expired", "admin.localhost", "/", 401, "a token that has expired an hour ago"),
    ("bob", "dev.localhost", "/", 200, "bob is in the group developers"),
    (NOBODY, "www.localhost", "/", 200, "a public page"),
    (NOBODY, "nowhere.localhost", "/", 404, "a host that no policy names"),
    ("machine", "api.localhost", "/orders", 200, "a machine with the scope orders/read"),
)


class Screen:
    """Writes to the terminal, or to whatever stands in its place."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._names: Mapping[str, str] = {}  # `sub` → name

    def line(self, text: str = "", style: str = "") -> None:
        """Write one line as it is: brackets are no markup."""
        self._console.print(Text(text, style))

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Show that something is being done, and at its end how long it took."""
        started = time.monotonic()
        with self._console.status(text):
            yield
        self._console.print(
            Text.assemble(("✓ ", "green"), f"{text:<52}", (f"{time.monotonic() - started:5.1f} s", "dim"))
        )

    def failure(self, text: str) -> None:
        """Say why the stand cannot go on."""
        self.line(f"✗ {text}", "red")

    # The stand

    def welcome(self, ports: Mapping[str, int], population: Population, policies: str) -> None:
        """Show who and what is there, and lines to paste."""
        self._names = population.subjects
        self.line()
        self._console.print(_people())
        self.line()
        self._console.print(_addresses(ports, policies))
        self.line()
        self.line("Open this in a browser, and go on past the warning about its self-signed certificate:", "bold")
        self.line(browser_url(ports))
        self.line()
        self.line("Or paste these:", "bold")
        for line in curl_lines(ports["envoy_port"], population.tokens):
            self.line(line, "dim" if line.startswith("#") else "")
        self.line()
        self.line(f"Edit a file in {policies} and paste again. Ctrl-C ends everything.", "bold")
        self.line()

    def happened(self, record: Record) -> None:
        """Show one record of the service's log."""
        if record.get("msg") == "decision":
            self._console.print(self._decision(record))
        elif record.get("level") in {"warning", "error"}:
            self.line(f"{_clock(record)} ! {record.get('msg')}", "red" if record["level"] == "error" else "yellow")
        elif record.get("msg") == "policies loaded":
            routes = record.get("routes")
            counted = "1 route" if routes == 1 else f"{routes} routes"
            self.line(
                f"{_clock(record)} ↻ policies loaded: {counted}, revision {record.get('policy_revision')}", "cyan"
            )

    def _decision(self, record: Record) -> Text:
        allowed = record["decision"] == "allow"
        subject = record.get("subject")
        who = NOBODY if subject is None else self._names.get(subject, subject)
        reason = Reason(record["reasons"][0])
        return Text.assemble(
            (f"{_clock(record)} ", "dim"),
            ("✓ allow    " if allowed else f"✗ deny {http_status(reason)} ", "green" if allowed else "red"),
            (f"{reason:<24} ", "" if allowed else "yellow"),
            f"{who:<8} {record.get('method')} {record.get('host')}{record.get('path')}",
            (f"  {record.get('policy') or 'no route'}  {record.get('duration_us', 0) / 1000:.1f} ms", "dim"),
            (f"  {record['detail']}" if record.get("detail") else "", "dim"),
        )

    # --once

    def heading(self) -> None:
        """Write the table's first line."""
        self.line()
        self.line(f"  {'request':<70} {'expected':<30} got", "bold")

    def row(self, row: Row) -> None:
        """Write one line of the table; what is wrong stands below it."""
        mark = ("✗", "red") if row.problems else ("✓", "green")
        self._console.print(Text.assemble(mark, f" {row.request:<70} {row.expected:<30} {row.got}"))
        for problem in row.problems:
            self.line(f"    {problem}", "red")

    def summary(self, rows: Sequence[Row], seconds: float) -> None:
        """Count the rows."""
        bad = sum(bool(row.problems) for row in rows)
        self.line()
        if bad:
            self.line(f"✗ {bad} of {len(rows)} requests were not answered as expected", "red")
        else:
            self.line(f"✓ all {len(rows)} requests were answered as expected, in {seconds:.1f} s", "green")


def curl_lines(envoy_port: int, tokens: Mapping[str, str]) -> Sequence[str]:
    """Give lines for a shell: a comment, then the command. curl takes every *.localhost for this machine."""
    proxied = any(name in os.environ for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"))
    command = "curl --noproxy '*' -i" if proxied else "curl -i"
    lines = []
    for who, host, path, status, why in _SHOWN:
        lines.append(f"# {status}: {why}")
        header = "" if who == NOBODY else f" -H 'authorization: Bearer {tokens[who]}'"
        lines.append(f"{command} http://{host}:{envoy_port}{path}{header}")
    return lines


def browser_url(ports: Mapping[str, int]) -> str:
    """Give the address where people sign in."""
    return f"https://{APP_HOST}:{ports['browser_port']}/"


def _people() -> Table:
    table = Table("user", "password", "groups", "e-mail", box=None, pad_edge=False, header_style="bold")
    for user in USERS:
        table.add_row(user.name, PASSWORD, ", ".join(user.groups) or "none", user.email)
    signs_in = f"none: {PROVIDER}, button {FEDERATED.name}"
    table.add_row(FEDERATED.name, signs_in, "none", FEDERATED.email)
    return table


def _addresses(ports: Mapping[str, int], policies: str) -> Table:
    table = Table("what", "where", box=None, pad_edge=False, header_style="bold")
    table.add_row("Envoy for APIs, the way in", f"http://127.0.0.1:{ports['envoy_port']}")
    table.add_row("its admin pages", f"http://127.0.0.1:{ports['envoy_admin_port']}")
    table.add_row("Envoy for browsers", browser_url(ports))
    table.add_row("its admin pages", f"http://127.0.0.1:{ports['browser_admin_port']}")
    table.add_row("the upstream behind it", f"http://127.0.0.1:{ports['upstream_port']}")
    table.add_row("authz, for Envoy (gRPC)", f"127.0.0.1:{ports['authz_port']}")
    table.add_row("authz, for operators", f"http://127.0.0.1:{ports['admin_port']}/metrics")
    table.add_row("the local Cognito", f"http://127.0.0.1:{ports['cognito_port']}")
    table.add_row(f"the local {PROVIDER}", f"http://127.0.0.1:{ports['auth0_port']}")
    table.add_row("policies", policies)
    return table


def _clock(record: Record) -> str:
    """Give the time of day of a record, in UTC as it was written."""
    return str(record.get("time", ""))[11:19]
