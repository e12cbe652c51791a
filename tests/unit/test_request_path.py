"""Traps of Python and grpcio, kept out of what a request passes by reading the sources themselves."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

import pytest
from google.protobuf.internal import api_implementation

PACKAGE: Final = Path(__file__).parents[2] / "authz"
REQUEST_PATH: Final = (
    "authorizer.py", "audit.py", "breath.py", "lines.py", "log_line.py", "metrics.py", "model.py",
    "shared_memory.py", "tally.py", "turns.py",
    "identity/claims.py", "identity/cognito.py", "identity/credentials.py", "identity/enrichment.py",
    "identity/jwks.py", "identity/key_document.py", "identity/keys.py", "identity/refused.py",
    "identity/revocations.py", "identity/shared_keys.py", "identity/strict_json.py", "identity/verified.py",
    "policy/caller_criteria.py", "policy/certificates.py", "policy/criteria.py", "policy/criterion.py",
    "policy/decision.py", "policy/explanation.py", "policy/matchers.py", "policy/near_misses.py", "policy/path.py",
    "policy/refusals.py", "policy/remembered.py", "policy/request_criteria.py", "policy/routes.py", "policy/times.py",
    "policy/token_claims.py",
    "transport/admission.py", "transport/answer_heads.py", "transport/calls.py", "transport/check_request.py",
    "transport/check_response.py", "transport/guard.py", "transport/header_values.py", "transport/health.py",
    "transport/pages.py", "transport/preference.py", "transport/redirects.py", "transport/server.py",
    "transport/wire.py",
)  # fmt: skip

# The modules of the same folders that no request passes, by the reason.
NOT_ON_IT: Final[Mapping[str, tuple[str, ...]]] = {
    "a folder's name and nothing else": ("identity/__init__.py", "policy/__init__.py", "transport/__init__.py"),
    "between the service and an endpoint or a disk, in tasks of their own": (
        "identity/fetch.py", "identity/own_threads.py", "policy/shared_files.py", "policy/store.py",
    ),
    "works while policies load": (
        "policy/files.py", "policy/instead.py", "policy/parser.py", "policy/host_and_path_reader.py",
        "policy/plain_keys.py", "policy/route_reader.py", "policy/rule_reader.py", "policy/quiet.py",
    ),
    "tells the author what loads and is probably not meant": (
        "policy/advice.py", "policy/criterion_advice.py", "policy/pattern_advice.py", "policy/route_key_advice.py",
        "policy/shadows.py", "policy/spellings.py", "policy/truth_advice.py", "policy/value_advice.py",
    ),
    "at the start, and where files change": ("transport/sockets.py", "transport/tls.py"),
    "answers operators, and decides nothing": ("transport/admin.py",),
}  # fmt: skip

# What these read is not the raw request, or decides nothing.
EXCUSED: Final[Mapping[tuple[str, str], str]] = {
    ("identity/claims.py", "urllib.parse.unquote_plus"): "items of a signed claim, as the configuration says",
    ("identity/revocations.py", "split()"): "a list's names as its author wrote them: no blank around them is meant",
    ("policy/near_misses.py", "split()"): "a hint for people, about a condition that did not hold",
    ("policy/refusals.py", "split()"): "texts that the policy's author wrote",
    ("transport/redirects.py", "urllib.parse.quote"): "writes a URL, reads none",
    ("transport/pages.py", "split()"): "texts that the policy's author wrote",
}
TRAPS: Final = frozenset({"urllib", "posixpath", "fnmatch", "os.path", "shlex", "email", "http.cookies"})


@cache
def tree(name: str) -> ast.Module:
    return ast.parse((PACKAGE / name).read_text(), name)


def imported(name: str) -> Iterator[str]:
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def calls(name: str) -> Iterator[tuple[str, ast.Call]]:
    """Give every call with its last name: `split` of `text.split()`."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Call):
            called = node.func
            yield called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", ""), node


def caught(handler: ast.ExceptHandler) -> set[str]:
    """Give the names of what it catches."""
    if handler.type is None:
        return {"everything"}
    return {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)}


def sources() -> list[str]:
    outside = ("pb", "demo", "workbench")
    names = [str(path.relative_to(PACKAGE)) for path in sorted(PACKAGE.rglob("*.py"))]
    return [name for name in names if name.partition("/")[0] not in outside]


def test_every_module_of_the_three_folders_is_on_a_requests_way_or_known_not_to_be() -> None:
    folders = ("identity/", "policy/", "transport/")
    listed = [*REQUEST_PATH, *(name for names in NOT_ON_IT.values() for name in names)]
    assert sorted(name for name in listed if name.startswith(folders)) == [
        name for name in sources() if name.startswith(folders)
    ]


@pytest.mark.parametrize("name", REQUEST_PATH)
def test_no_url_or_path_parser_reads_a_request(name: str) -> None:
    traps = {one for one in imported(name) if any(f"{one}.".startswith(f"{trap}.") for trap in TRAPS)}
    assert {(name, one) for one in traps} <= set(EXCUSED)


@pytest.mark.parametrize("name", REQUEST_PATH)
def test_patterns_cover_the_whole_text_and_blanks_are_named(name: str) -> None:
    """`re.match` forgives what follows, `$` a line feed; `split()` and `strip()` know blanks that HTTP does not."""
    for called, node in calls(name):
        assert called != "match", f"{name}:{node.lineno}: use fullmatch"
        if called in ("split", "strip", "lstrip", "rstrip") and not node.args:
            assert (name, "split()") in EXCUSED, f"{name}:{node.lineno}: name the blanks"


@pytest.mark.parametrize("name", REQUEST_PATH)
def test_no_pattern_ends_with_a_dollar_sign(name: str) -> None:
    for called, node in calls(name):
        if called == "compile" and node.args and isinstance(node.args[0], ast.Constant):
            assert not str(node.args[0].value).endswith("$"), f"{name}:{node.lineno}"


@pytest.mark.parametrize("name", REQUEST_PATH)
def test_patterns_are_compiled_at_the_start(name: str) -> None:
    functions = [one for one in ast.walk(tree(name)) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
    inside = {node for function in functions for node in ast.walk(function) if isinstance(node, ast.Call)}
    compiled = [node for called, node in calls(name) if called == "compile"]
    assert not inside.intersection(compiled)


@pytest.mark.parametrize("name", REQUEST_PATH)
def test_a_request_waits_for_nothing_but_keys(name: str) -> None:
    blocking = {"open", "read_text", "read_bytes", "write_text", "write_bytes", "sleep", "run_in_executor", "print"}
    found = {called for called, _ in calls(name)} & blocking
    between_requests = {
        "turns.py": {"sleep"},
        "identity/shared_keys.py": {"sleep"},  # until another worker has fetched: keys, that is
        "transport/server.py": {"sleep"},
        "transport/calls.py": {"sleep", "run_in_executor"},
    }
    assert found == between_requests.get(name, set())


@pytest.mark.parametrize("name", REQUEST_PATH)
def test_nothing_on_a_requests_way_speaks_of_the_current_task(name: str) -> None:
    """It would be the one that serves everybody, in which a decision begins (transport/calls.py)."""
    speaking = {"timeout", "timeout_at", "wait_for", "current_task", "TaskGroup"}
    functions = [one for one in ast.walk(tree(name)) if isinstance(one, ast.AsyncFunctionDef)]
    found = {
        function.name
        for function in functions
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in speaking
    }
    assert found <= {"identity/jwks.py": {"_sleep"}, "transport/calls.py": {"stop"}}.get(name, set())


def test_every_answer_starts_with_a_head_that_has_its_code() -> None:
    """`_head` alone makes a message, whose code comes from a table; `allowed` and `denied` alone write behind it."""
    places = [name for name in sources() for called, _ in calls(name) if called == "CheckResponse"]
    assert places == ["transport/answer_heads.py"]
    functions = [node for node in ast.walk(tree("transport/answer_heads.py")) if isinstance(node, ast.FunctionDef)]
    callers = {
        wanted: {
            function.name
            for function in functions
            for node in ast.walk(function)
            if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == wanted
        }
        for wanted in ("CheckResponse", "_head", "_allowed_head")
    }
    assert callers == {"CheckResponse": {"_head"}, "_head": {"_allowed_head", "denied"}, "_allowed_head": {"allowed"}}


def test_no_decision_is_an_exception() -> None:
    found = {name for name in sources() for called, _ in calls(name) if called in ("abort", "set_code", "RefusedCall")}
    assert found == {"transport/health.py"}  # which decides nothing


def test_broad_excepts_stand_at_the_door_alone() -> None:
    """The last one, and the one around the telling of it; the guard before it, which refuses whom it cannot know.

    And gRPC's server, which lets in nobody, whatever fails; and the log's thread, which decides nothing.
    """
    broad = [
        f"{name}:{node.lineno}"
        for name in REQUEST_PATH
        for node in ast.walk(tree(name))
        if isinstance(node, ast.ExceptHandler) and caught(node) & {"everything", "Exception", "BaseException"}
    ]
    assert Counter(one.partition(":")[0] for one in broad) == {
        "lines.py": 1,
        "transport/calls.py": 4,
        "transport/guard.py": 1,
        "transport/server.py": 2,
    }


def test_no_message_is_made_from_json_and_none_is_printed() -> None:
    assert not [name for name in sources() for called, _ in calls(name) if called in ("ParseDict", "MessageToDict")]
    assert not [name for name in REQUEST_PATH for one in imported(name) if "json_format" in one or "text_format" in one]


def test_token_times_come_from_the_wall_clock_and_ages_from_the_other() -> None:
    """Neither module reads a clock: what service.py hands in is told apart by the parameter's name."""
    handed = {
        node.arg: ast.unparse(node.value)
        for node in ast.walk(tree("service.py"))
        if isinstance(node, ast.keyword) and node.arg in ("clock", "wall")
    }
    assert handed == {"clock": "time.monotonic", "wall": "time.time"}
    assert not [name for name in sources() if name.startswith("identity/") for one in imported(name) if one == "time"]


def test_yaml_is_never_loaded_as_objects() -> None:
    unsafe = {"load", "load_all", "unsafe_load", "full_load", "safe_load"}
    users = [name for name in sources() if "yaml" in {one.partition(".")[0] for one in imported(name)}]
    assert users == ["document.py"], "one reader, of events"
    yaml_calls = [
        node.func.attr
        for _, node in calls("document.py")
        if isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") == "yaml"
    ]
    assert not unsafe.intersection(yaml_calls)


def test_protobuf_runs_in_c() -> None:
    """Its implementation in Python knows no limit of nesting (CVE-2025-4565)."""
    assert api_implementation.Type() == "upb"
