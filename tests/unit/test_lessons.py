"""What went wrong elsewhere (tests/lessons/): each lesson has something that shows we are not open to it.

The tests that are named there must exist; they are looked up in the sources, not run. The list of lessons is closed:
a row that goes missing, or an id that is misspelt, is found here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

TESTS: Final = Path(__file__).parents[1]
REPOSITORY: Final = TESTS.parent
KEYS: Final = {"ids", "lesson", "shown_by", "left_to", "open"}

EXPECTED: Final[Mapping[str, tuple[int, str]]] = {
    "10-envoy": (
        34,
        """
        CVE-2019-9901 GHSA-xcx5-93pw-jw2w CVE-2021-29492 CVE-2021-32779 CVE-2026-73551 CVE-2026-73511 CVE-2026-73553
        CVE-2025-46821 CVE-2021-32777 CVE-2020-25017 CVE-2026-26308 CVE-2023-27488 CVE-2024-23324 CVE-2023-27487
        CVE-2024-7207 CVE-2024-45806 CVE-2023-27493 CVE-2021-21378 CVE-2025-64527 CVE-2024-45809 CVE-2021-43824
        CVE-2026-47205 CVE-2026-73547 CVE-2026-50572 CVE-2022-29226 CVE-2026-47775 CVE-2023-35941 CVE-2025-55162
        CVE-2024-45808 CVE-2026-73550 CVE-2026-47774 CVE-2023-44487 CVE-2024-30255 CVE-2024-23323
        """,
    ),
    "20-proxies": (
        59,
        """
        CVE-2025-54576 CVE-2026-41059 CVE-2026-40575 CVE-2026-76835 CVE-2026-34457 CVE-2026-40574 CVE-2025-64484
        CVE-2021-21411 CVE-2026-33433 CVE-2026-39858 CVE-2026-54763 CVE-2026-88011 CVE-2026-35051 CVE-2026-54764
        CVE-2024-45410 CVE-2026-29054 CVE-2026-71326 CVE-2026-26998 CVE-2026-54762 CVE-2022-23632 CVE-2023-47106
        CVE-2025-32431 CVE-2025-47952 CVE-2025-66490 CVE-2026-40912 CVE-2026-48020 CVE-2026-65600 CVE-2021-31920
        CVE-2021-39155 CVE-2021-39156 CVE-2026-39350 CVE-2026-41413 CVE-2021-32637 GHSA-x883-2vmg-xwf7 CVE-2021-41230
        CVE-2026-47203 CVE-2023-33189 CVE-2021-39206 CVE-2021-29652 CVE-2024-39315 CVE-2021-32701 CVE-2026-33496
        GHSA-w9mr-28mw-j8hg CVE-2026-33494 CVE-2026-33495 kong-jwt-3.2.1 CVE-2026-26205 CVE-2025-25207 CVE-2025-25208
        CVE-2026-33729 CVE-2026-48096 CVE-2026-34972 CVE-2026-46668 CVE-2026-55689 CVE-2023-29193 CVE-2026-40091
        cerbos-0.53 CVE-2026-33186 albeast
        """,
    ),
    "30-libraries": (
        44,
        """
        CVE-2022-29217 CVE-2017-11424 GHSA-xgmm-8j9v-c9wx CVE-2026-102268 CVE-2026-102273 CVE-2026-48523 CVE-2026-32597
        CVE-2025-59420 CVE-2024-53861 CVE-2026-75509 CVE-2026-102267 CVE-2026-102269 CVE-2026-102265 CVE-2026-102274
        CVE-2026-48525 CVE-2026-102266 CVE-2026-120459 CVE-2026-49852 CVE-2026-102946 CVE-2022-39227 CVE-2024-37568
        CVE-2024-33663 CVE-2024-33664 CVE-2020-26160 CVE-2025-30204 CVE-2025-27144 CVE-2026-26007 CVE-2023-49083
        CVE-2023-4785 CVE-2023-1428 CVE-2023-32731 CVE-2023-32732 CVE-2023-33953 CVE-2024-7246 CVE-2025-8671
        CVE-2022-1941 CVE-2025-4565 CVE-2026-0994 CVE-2017-18342 CVE-2020-1747 CVE-2020-14343 pyyaml-604 pyyaml-895
        pyyaml-357
        """,
    ),
    "40-cognito": (
        8,
        """
        cognito-writable-attributes cognito-email cognito-access-and-id cognito-names-are-per-pool cognito-issuer
        cognito-revoked-tokens cognito-machines cognito-fetching-keys
        """,
    ),
    "50-checklist": (
        54,
        """
        rfc8725-one-algorithm rfc8725-every-operation rfc8725-inputs rfc8725-no-compression rfc8725-utf8
        rfc8725-issuer-and-keys rfc8725-audience rfc8725-kid-jku-x5u rfc8725-explicit-typing rfc8725-exclusive-rules
        rfc9068-claims rfc9068-scopes-after-signature
        rfc6750-header-only rfc6750-more-than-one rfc6750-challenges rfc9700-identity-headers rfc9700-tls
        rfc9700-lifetimes rfc9700-audience
        owasp-deny-by-default owasp-fail-closed owasp-routing-headers owasp-limits owasp-logs owasp-one-decision
        envoy-failure-mode envoy-filter-enabled envoy-validate-mutations envoy-mutation-rules envoy-normalize-path
        envoy-merge-slashes envoy-escaped-slashes envoy-host-dot envoy-underscores envoy-remote-address
        envoy-max-streams envoy-timeout-and-retries envoy-nothing-after envoy-allowed-headers envoy-admin-port
        envoy-upstreams envoy-amplification
        ours-one-ok ours-deny-on-exceptions ours-keys-per-issuer ours-fetcher ours-strict-yaml ours-parse-aside
        ours-atomic-swap ours-bounded-caches ours-bounded-queue ours-loopback ours-pdeathsig ours-logs
        """,
    ),
    "60-rules": (14, " ".join(f"rule-{number}" for number in range(1, 15))),
}


def entries(stem: str) -> list[Mapping[str, Any]]:
    return yaml.safe_load((TESTS / "lessons" / f"{stem}.yaml").read_text())


def all_entries() -> Iterator[object]:
    for stem in EXPECTED:
        for entry in entries(stem):
            yield pytest.param(entry, id=entry["ids"][0])


@cache
def found_in(path: str) -> frozenset[str]:
    """Give the tests of a file as `function` and `Class::function`."""
    tree = ast.parse((TESTS / path).read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    found = {node.name for node in tree.body if isinstance(node, functions)}
    found |= {f"{one.name}::{node.name}" for one in classes for node in one.body if isinstance(node, functions)}
    return frozenset(name for name in found if name.rpartition("::")[2].startswith("test_"))


@cache
def said_in(path: str) -> frozenset[str]:
    """Give the first cells of the tables of a decisions file, or the titles of a file of mistakes."""
    text = (TESTS / path).read_text()
    if path.endswith(".txt"):
        return frozenset(line.removeprefix("=== ") for line in text.splitlines() if line.startswith("=== "))
    lines = [line for group in yaml.safe_load(text)["groups"] for line in group["situations"].splitlines()]
    return frozenset(line.split(" | ")[0].strip() for line in lines)


def problem(shown: str) -> str | None:
    path, _, name = shown.partition("::")
    if not (TESTS / path).is_file():
        return f"there is no tests/{path}"
    known = found_in(path) if path.endswith(".py") else said_in(path)
    return None if name in known else f"tests/{path} holds no `{name}`"


@pytest.mark.parametrize("stem", EXPECTED)
def test_no_lesson_is_missing_and_none_is_told_twice(stem: str) -> None:
    count, text = EXPECTED[stem]
    told = [one for entry in entries(stem) for one in entry["ids"]]
    assert len(told) == len(set(told)) == count
    assert set(told) == set(text.split())


def test_no_file_and_no_id_stands_beside_the_list() -> None:
    assert {path.stem for path in (TESTS / "lessons").iterdir()} == set(EXPECTED)
    told = [one for stem in EXPECTED for entry in entries(stem) for one in entry["ids"]]
    assert len(told) == len(set(told)) == 213
    assert sum(one.startswith(("CVE-", "GHSA-")) for one in told) == 131


@pytest.mark.parametrize("entry", list(all_entries()))
def test_a_lesson_is_shown_or_left_to_somebody_who_is_named(entry: Mapping[str, Any]) -> None:
    assert set(entry) <= KEYS
    assert entry["lesson"].endswith(".")
    assert entry.get("shown_by") or entry.get("left_to") or entry.get("open")
    problems = [problem(shown) for shown in entry.get("shown_by", ())]
    if left := entry.get("left_to"):
        assert set(left) == {"who", "files", "pinned_by"}
        assert left["who"] in ("Envoy", "operator")
        assert all((REPOSITORY / file).is_file() for file in left["files"])
        assert left["pinned_by"]
        problems += [problem(shown) for shown in left["pinned_by"]]
    assert [one for one in problems if one] == []
