"""What a policy test file may say, and what an author reads who says it wrongly."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from authz.model import Reason
from authz.node import Problems
from authz.workbench.expectations import (
    ALWAYS_THERE,
    DEFAULT_NOW,
    DEFAULT_SOURCE_IP,
    FILE_KEYS,
    Expectations,
    Row,
    read_expectations,
)

SAMPLES = Path(__file__).parents[3] / "policies"

GOOD = """\
principals:
  alice: {}
tests:
  - [alice, GET https://a.example/, allow]
"""


A_TIME = "expected a time with its offset such as 2026-01-31T12:00:00Z"
ALWAYS = "always has it, so `null` cannot take it away: delete it"
NO_URL = "no http(s) URL: write https://HOST/PATH"


def read(text: str) -> Expectations:
    problems = Problems()
    expectations = read_expectations(text.encode(), "a_test.yaml", problems)
    assert not problems
    assert expectations is not None
    return expectations


def row(line: str, *, principals: str = "{alice: {}}", head: str = "") -> Row:
    return read(f"{head}principals: {principals}\ntests:\n  - {line}\n").rows[0]


def problems_of(text: str) -> list[str]:
    problems = Problems()
    read_expectations(text.encode(), "a_test.yaml", problems)
    return [str(problem) for problem in problems]


def problem_of_row(line: str) -> str:
    (problem,) = problems_of(f"principals: {{alice: {{}}}}\ntests:\n  - {line}\n")
    return problem


def test_a_short_row_is_who_request_and_expectation() -> None:
    found = row("[alice, 'POST https://a.example:8443/x?y=1', 403 claim-unauthorized]")
    assert (found.who, found.claims, found.now) == ("alice", {}, DEFAULT_NOW)
    assert found.request.method == "POST"
    assert found.request.host == "a.example:8443"
    assert found.request.path == "/x?y=1"
    assert found.request.source_ip == DEFAULT_SOURCE_IP
    assert (found.expected.allowed, found.expected.status) == (False, 403)
    assert found.expected.reasons == (Reason.CLAIM_UNAUTHORIZED,)
    assert found.name == "alice POST https://a.example:8443/x?y=1 → 403 claim-unauthorized"


def test_a_long_row_says_everything() -> None:
    found = row(
        "{as: alice, request: GET https://a.example, headers: {Origin: o, X-N: 5, X-Two: [a, b]}, source_ip: 10.0.0.1,"
        " now: 2026-02-01T03:00:00+01:00, route_id: x, certificate: c.pem, expect: 'allow claim-ok, user-ok', route: x,"
        " set: {X-Auth-Groups: admins}, removed: [X-Auth-Email], name: a sentence}"
    )
    assert found.name == "a sentence"
    assert found.now == datetime(2026, 2, 1, 2, tzinfo=UTC).timestamp()
    assert found.request.headers == {"origin": ("o",), "x-n": ("5",), "x-two": ("a", "b")}
    assert (found.request.source_ip, found.request.route_id) == ("10.0.0.1", "x")
    assert found.request.path == "/"
    assert found.certificate is not None
    assert found.certificate.text == "c.pem"
    assert found.expected.reasons == (Reason.CLAIM_OK, Reason.USER_OK)
    assert found.expected.route is not None
    assert found.expected.headers_set == (("x-auth-groups", "admins"),)
    assert found.expected.headers_removed == ("x-auth-email",)


def test_nobody_is_asking_unless_somebody_is_named() -> None:
    assert row("{request: GET https://a.example/, expect: deny}").claims is None
    assert row("[anonymous, GET https://a.example/, 401]").claims is None


def test_a_bad_token_is_named_by_its_reason() -> None:
    found = row("{as: alice, request: GET https://a.example/, token_error: token-expired, expect: 401}")
    assert found.token_error is Reason.TOKEN_EXPIRED
    assert found.who == "alice (token-expired)"


def test_the_path_is_judged_as_it_is_written() -> None:
    assert row("[anonymous, GET https://a.example//x/../%2e, 400]").request.path == "//x/../%2e"


def test_time_claims_may_be_written_as_times_and_others_keep_their_type() -> None:
    claims = row(
        "[alice, GET https://a.example/, allow]",
        principals="{alice: {exp: 2026-01-01T00:00:00Z, iat: 5, a: [1, x, true, null], b: {c: 1.5}}}",
    ).claims
    assert claims == {"exp": 1767225600, "iat": 5, "a": [1, "x", True, None], "b": {"c": 1.5}}


def test_the_whole_file_can_have_its_time_policies_and_mail_rule() -> None:
    found = read("now: 2026-01-01T00:00:00Z\npolicies: [a.yaml, b.yaml]\ntrust_unverified_email: true\n" + GOOD)
    assert [policy.text for policy in found.policies] == ["a.yaml", "b.yaml"]
    assert found.trust_unverified_email is True
    assert found.rows[0].now == 1767225600


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "a_test.yaml:1:1: the file holds nothing: write `tests: [[WHO, METHOD URL, EXPECTED]]`"),
        ("- a", "a_test.yaml:1:1: found a list, expected a map with `tests:`"),
        ("a: [", "a_test.yaml:2:1: not YAML: did not find expected node content"),
        ("principals: {}", "a_test.yaml:1:1: `tests`: is missing, expected a list of rows [WHO, METHOD URL, EXPECTED]"),
        (
            "tests: []",
            "a_test.yaml:1:8: `tests`: found an empty list, expected a list of rows [WHO, METHOD URL, EXPECTED]",
        ),
        ("test: []\n" + GOOD, "a_test.yaml:1:1: the test file: unknown key `test`; did you mean `tests`?"),
        (
            "zzz: 1\n" + GOOD,
            f"a_test.yaml:1:1: the test file: unknown key `zzz`, expected one of {', '.join(FILE_KEYS)}",
        ),
        (
            "now: 2026-01-31T12:00:00\n" + GOOD,
            f"a_test.yaml:1:6: `now`: found text `2026-01-31T12:00:00`, {A_TIME}",
        ),
        (
            "now: soon\n" + GOOD,
            f"a_test.yaml:1:6: `now`: found text `soon`, {A_TIME}",
        ),
        (
            "policies: []\n" + GOOD,
            "a_test.yaml:1:11: `policies`: an empty list: name files, or delete it for the file's own folder",
        ),
        (
            "trust_unverified_email: yes\n" + GOOD,
            "a_test.yaml:1:25: `trust_unverified_email`: found text `yes`, expected `true` or `false`",
        ),
        (
            GOOD.replace("alice: {}", "alice: [a]"),
            "a_test.yaml:2:10: principal `alice`: found a list, expected a map of claims (`{}` for none)",
        ),
        (
            GOOD.replace("alice: {}", "alice: {}\n  anonymous: {}"),
            "a_test.yaml:3:3: principal `anonymous`: it is built in and means nobody: choose another name",
        ),
        (
            "principals: [a]\ntests: [[anonymous, GET http://a/, allow]]",
            "a_test.yaml:1:13: `principals`: found a list, expected a map of names and their claims",
        ),
        (
            GOOD.replace("alice: {}", "alice: {token_use: acess}"),
            "a_test.yaml:2:10: principal `alice`: `token_use`: found `acess`, expected `access` or `id`",
        ),
        (
            GOOD.replace("alice: {}", "alice: {token_use: id, client_id: x}"),
            "a_test.yaml:2:10: principal `alice`: an ID token has no `client_id`: it names its app client in `aud`",
        ),
        (
            GOOD.replace("alice: {}", "alice: {sub: 5}"),
            "a_test.yaml:2:16: principal `alice`: `sub`: found `5` (a number), expected text: write '5' in quotes",
        ),
        *(
            (
                GOOD.replace("alice: {}", f"alice: {{{claim}: null}}"),
                f"a_test.yaml:2:{len(claim) + 13}: principal `alice`: `{claim}`: {token} {ALWAYS}",
            )
            for claim, token in ALWAYS_THERE.items()
        ),
        (
            GOOD.replace("alice: {}", "alice: {exp: soon}"),
            f"a_test.yaml:2:16: principal `alice`: `exp`: found text `soon`, {A_TIME}",
        ),
        (
            GOOD.replace("alice: {}", "alice: {a: .inf}"),
            "a_test.yaml:2:14: principal `alice`: `a`: found `.inf` (a number), which no token can hold",
        ),
    ],
)
def test_a_wrong_file_says_where_and_what(text: str, problem: str) -> None:
    assert problems_of(text) == [problem]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("5", "3:5: a test: found `5` (a number), expected [WHO, METHOD URL, EXPECTED] or a map"),
        ("[alice, GET http://a/]", "3:5: a test: found a list of 2, expected [WHO, METHOD URL, EXPECTED] or a map"),
        ("[alcie, GET http://a/, allow]", "3:6: unknown principal `alcie`; did you mean `alice`?"),
        ("[zoe, GET http://a/, allow]", "3:6: unknown principal `zoe`: name it under `principals:`"),
        ("{expect: allow}", "3:5: `request`: is missing: write request: GET https://HOST/PATH"),
        ("{request: GET http://a/}", "3:5: `expect`: is missing: write expect: allow, or 403 claim-unauthorized"),
        ("[alice, GET, allow]", f"3:13: `request`: found text `GET`, expected METHOD URL: `` is {NO_URL}"),
        (
            "[alice, GET ftp://a, allow]",
            f"3:13: `request`: found text `GET ftp://a`, expected METHOD URL: `ftp://a` is {NO_URL}",
        ),
        (
            "[alice, GET http://a/, [allow]]",
            "3:28: `expect`: found a list: write expect: allow, or 403 claim-unauthorized",
        ),
        ("[alice, GET http://a/, alow]", "3:28: `expect`: unknown word `alow`; did you mean `allow`?"),
        ("[alice, GET http://a/, 403 claim-ko]", "3:28: `expect`: unknown word `claim-ko`; did you mean `claim-ok`?"),
        (
            "[alice, GET http://a/, 402]",
            "3:28: `expect`: unknown word `402`, expected `allow` or one of 400, 401, 403, 404, 503",
        ),
        (
            "[alice, GET http://a/, perhaps]",
            "3:28: `expect`: unknown word `perhaps`: write allow, deny or a status, then reasons",
        ),
        (
            "[alice, GET http://a/, claim-ok]",
            "3:28: `expect`: `claim-ok`: the outcome is missing: write allow, deny or a status before the reason",
        ),
        ("[alice, GET http://a/, allow 403]", "3:28: `expect`: `allow 403`: contradicts itself: 403 is a denial"),
        (
            "[alice, GET http://a/, allow no-rule]",
            "3:28: `expect`: `allow no-rule`: contradicts itself: `no-rule` never allows",
        ),
        (
            "[alice, GET http://a/, 403 token-expired]",
            "3:28: `expect`: `403 token-expired`: contradicts itself: `token-expired` is answered with 401",
        ),
        (
            "[alice, GET http://a/, allow deny]",
            "3:28: `expect`: `allow deny`: write one outcome, one status, and each reason once",
        ),
        (
            "[alice, GET http://a/, 403 no-rule no-rule]",
            "3:28: `expect`: `403 no-rule no-rule`: write one outcome, one status, and each reason once",
        ),
        (
            "{request: GET http://a/, expect: allow, headrs: {}}",
            "3:45: a test: unknown key `headrs`; did you mean `headers`?",
        ),
        (
            "{request: GET http://a/, expect: allow, headers: [a]}",
            "3:54: `headers`: found a list, expected a map of header names and values",
        ),
        ("{request: GET http://a/, expect: allow, headers: {a b: c}}", "3:55: `headers`: `a b` is no header name"),
        (
            "{request: GET http://a/, expect: allow, headers: {a: null}}",
            "3:58: `headers`: `a`: found nothing, expected text",
        ),
        (
            "{request: GET http://a/, expect: 401, token_error: token-expire}",
            "3:56: `token_error`: found text `token-expire`; did you mean `token-expired`?",
        ),
        (
            "{request: GET http://a/, expect: 401, token_error: overloaded}",
            "3:56: `token_error`: found text `overloaded`, expected a token's reason such as `token-expired`",
        ),
        ("{request: GET http://a/, expect: allow, set: {a: {}}}", "3:54: `set`: `a`: found a map, expected text"),
        ("{request: GET http://a/, expect: allow, removed: [a b]}", "3:55: `removed`: `a b` is no header name"),
        (
            "{request: GET http://a/, expect: 403, removed: [a]}",
            "3:38: `set` and `removed` need `expect: allow`: a denied request goes nowhere",
        ),
        (
            "{request: GET http://a/, expect: allow, set: {A: b}, removed: a}",
            "3:5: `set` and `removed` both name `a`: a header is either set or removed",
        ),
        ("{request: GET http://a/, expect: allow, now: 5}", f"3:50: `now`: found `5` (a number), {A_TIME}"),
        (
            "{request: GET http://a/, expect: allow, source_ip: 10.0.0.300}",
            "3:56: `source_ip`: found text `10.0.0.300`, expected an IP address",
        ),
        (
            "{request: GET http://a/, expect: allow, now: '9999-12-31T23:59:59-14:00'}",
            f"3:50: `now`: found text `9999-12-31T23:59:59-14:00`, {A_TIME}",
        ),
        ("{request: GET http://a/, expect: allow, name: ''}", "3:51: `name`: found empty text, expected text"),
        (
            "{request: GET http://a/, expect: allow, source_ip: 10}",
            "3:56: `source_ip`: found `10` (a number), expected text: write '10' in quotes",
        ),
    ],
)
def test_a_wrong_row_says_where_and_what(line: str, problem: str) -> None:
    assert problem_of_row(line) == f"a_test.yaml:{problem}"


def test_all_mistakes_of_a_file_are_told_at_once() -> None:
    assert len(problems_of("nwo: 1\nprincipals: {a: {sub: 5}}\ntests:\n  - [b, GET, alow]\n")) == 5


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*_test.yaml")), ids=lambda path: path.stem)
def test_a_file_that_is_cut_off_is_expectations_or_problems_and_never_another_error(path: Path) -> None:
    data = path.read_bytes()
    for end in range(0, len(data), 5):
        problems = Problems()
        assert read_expectations(data[:end], path.name, problems) is not None or problems
