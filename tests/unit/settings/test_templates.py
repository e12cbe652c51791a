"""Templates of refusal pages: what loads, and what their author reads when one does not."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.node import Problems
from authz.settings.templates import PLACEHOLDERS, SAFE_BODY_BYTES, Template, parse_template

VALUES = {name: f"<{name}>" for name in PLACEHOLDERS}
KNOWN = ", ".join(f"`{name}`" for name in PLACEHOLDERS)


def read(text: str | bytes, file: str = "pages/403.html") -> tuple[Template | None, list[str]]:
    problems = Problems()
    template = parse_template(text.encode() if isinstance(text, str) else text, file, problems)
    assert (template is None) is bool(problems.errors)
    return template, [str(problem) for problem in problems]


def filled(text: str, file: str = "pages/403.html") -> str:
    template, problems = read(text, file)
    assert problems == []
    assert template is not None
    return template.fill(VALUES)


@pytest.mark.parametrize(
    ("text", "page"),
    [
        ("no placeholder at all", "no placeholder at all"),
        ("{{host}}", "&lt;host&gt;"),
        ("{{ host }}\n{{\thost}}", "&lt;host&gt;\n&lt;host&gt;"),
        ("a{{title}}{{status}}b", "a&lt;title&gt;&lt;status&gt;b"),
        ("@media print{p{color:red}}", "@media print{p{color:red}}"),
        ("{host} }} {%s} \\1", "{host} }} {%s} \\1"),
        ("\ufeffwith a byte order mark", "with a byte order mark"),
    ],
)
def test_placeholders_are_filled_in_and_the_rest_stays(text: str, page: str) -> None:
    assert filled(text) == page


def test_values_are_escaped_as_the_file_needs_it() -> None:
    values = dict.fromkeys(PLACEHOLDERS, "<a href='x'>\"\n\\")
    kinds = {"html": "&lt;a href=&#x27;x&#x27;&gt;&quot;\n\\", "json": "<a href='x'>\\\"\\n\\\\", "txt": values["host"]}
    for kind, expected in kinds.items():
        assert Template(kind, ("[", "]"), ("host",)).fill(values) == f"[{expected}]"


def test_other_scripts_stay_readable_in_json() -> None:
    assert Template("json", ("[", "]"), ("host",)).fill({"host": "münchen.example 東京"}) == "[münchen.example 東京]"


def test_a_template_has_at_most_64_kib() -> None:
    template, _ = read("x" * 65_536)
    assert template is not None
    assert read("x" * 65_537) == (None, ["pages/403.html:1:1: larger than 64 KiB: make it smaller"])


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("", ["pages/403.html:1:1: holds nothing: write a page, or delete the file"]),
        (" \n", ["pages/403.html:1:1: holds nothing: write a page, or delete the file"]),
        (
            "<p>\n  {{reson}} {{claims}}",
            [
                f"pages/403.html:2:3: unknown placeholder `reson`, expected one of {KNOWN}; did you mean `reason`?",
                f"pages/403.html:2:13: unknown placeholder `claims`, expected one of {KNOWN}",
            ],
        ),
        ("{{}}", [f"pages/403.html:1:1: unknown placeholder ``, expected one of {KNOWN}"]),
        (
            "ü {{host\n}}",
            ["pages/403.html:1:3: `{{` that no `}}` closes on its line: write a placeholder such as {{request_id}}"],
        ),
        (
            "{{{host}}}",
            ["pages/403.html:1:1: `{{` that no `}}` closes on its line: write a placeholder such as {{request_id}}"],
        ),
        (b"good\nno\xff", ["pages/403.html:2:3: not UTF-8 text: save the file as UTF-8"]),
        ("\n{{host\n", [
            "pages/403.html:2:1: `{{` that no `}}` closes on its line: write a placeholder such as {{request_id}}"
        ]),
        (b"\n\xff", ["pages/403.html:2:1: not UTF-8 text: save the file as UTF-8"]),
        (b"\xff", ["pages/403.html:1:1: not UTF-8 text: save the file as UTF-8"]),
    ],
    ids=["empty", "blank", "unknown ones", "an empty one", "an open one", "three braces", "Latin 1",
         "an open one after an empty line", "Latin 1 after an empty line", "no text"],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(text: str | bytes, problems: list[str]) -> None:
    assert read(text) == (None, problems)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"error": "{{title}}", "status": {{status}}}', None),
        ('{"status": "{{status}}", "all": ["{{ request_id }} {{reason}}"]}', None),
        ('{"error":\n {{title}}}', "2:2: not JSON (Expecting value)"),
        ('{"error": "\\{{title}}"}', "1:12: not JSON (Invalid \\escape)"),
        ("{{title}}", "1:1: not JSON (Expecting value)"),
        ('{"a": "b",}', "1:11: not JSON (Expecting property name enclosed in double quotes)"),
        ('{"error": "{{title}}" x}', "1:23: not JSON (Expecting ',' delimiter)"),
        ('{"status": {{status}} x}', "1:23: not JSON (Expecting ',' delimiter)"),
        ('{"a": "\n"}', "1:8: not JSON (Invalid control character at)"),
    ],
    ids=["a good one", "within text", "outside quotes", "after a backslash", "alone", "a comma", "after a text",
         "after a number", "a line break"],
)  # fmt: skip
def test_a_json_template_gives_json_whatever_is_filled_in(text: str, problem: str | None) -> None:
    template, problems = read(text, "pages/error.json")
    if template is not None:
        json.loads(template.fill({**dict.fromkeys(PLACEHOLDERS, '"\\\n<'), "status": "403"}))
    ending = ": mind that placeholders other than {{status}} stand within quotes"
    assert [line.rsplit(ending, 1)[0] for line in problems] == ([f"pages/error.json:{problem}"] if problem else [])


def test_json_that_is_nested_too_deeply_is_refused() -> None:
    _, problems = read("[" * 60_000, "pages/error.json")
    assert problems == ["pages/error.json:1:1: not JSON: nested too deeply"]


def test_a_page_that_envoy_would_cut_is_mentioned() -> None:
    assert read("x" * SAFE_BODY_BYTES)[1] == []
    cut = "4097 bytes: Envoy cuts bodies at `max_denied_response_body_bytes`, 4096 in our sample"
    assert read("x" * (SAFE_BODY_BYTES + 1))[1] == [
        f"pages/403.html:1:1: warning: {cut}: raise it there, or shorten the page"
    ]


@pytest.mark.parametrize("tag", ["script", "link", "iframe"])
def test_what_the_policy_of_the_page_keeps_from_loading_is_mentioned(tag: str) -> None:
    message = f"`<{tag}>` has no effect: the page's content-security-policy lets nothing load or run"
    assert read(f"<p>\n<{tag.upper()} src='x'>")[1] == [
        f"pages/403.html:2:1: warning: {message}; write styles into `<style>`"
    ]
    assert read(f"<{tag}>", "pages/403.txt")[1] == []


@given(st.text(alphabet="{}abstus \n\"'<é", max_size=60) | st.text(max_size=60))
def test_any_text_is_a_template_or_a_problem(text: str) -> None:
    for file in ("error.html", "error.json", "error.txt"):
        read(text, file)
