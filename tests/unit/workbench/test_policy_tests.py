"""`authz test`: what is run, against what, and what counts as passed; the sample policies among it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import pytest

from authz.errors import LoadError, Severity
from authz.model import Deny, Reason
from authz.policy.files import read_files
from authz.policy.parser import PolicyOptions, parse_policies
from authz.settings import load_settings
from authz.workbench import collection, policy_tests
from authz.workbench.checks import Difference
from authz.workbench.policy_tests import Report
from authz.workbench.reports import explanation_lines

SAMPLES = Path(__file__).parents[3] / "policies"

ADMIN = """\
- from: https://a.example
  id: admin
  allowed_idp_claims:
    cognito:groups: [admins]
"""
PRINCIPALS = "principals: {alice: {cognito:groups: [admins]}, bob: {}}\n"


def run(folder: Path, rows: str, *, policies: str = ADMIN, head: str = PRINCIPALS, config: str | None = None) -> Report:
    (folder / "a.yaml").write_text(policies)
    (folder / "a_test.yaml").write_text(f"{head}tests:\n" + "".join(f"  - {line}\n" for line in rows.splitlines()))
    settings = None
    if config is not None:
        (folder.parent / "authz.yaml").write_text(config)
        settings = load_settings(folder.parent / "authz.yaml", environ={}, overrides={})
    return policy_tests.test_policies([folder], settings)


def differences(report: Report) -> list[Difference]:
    return [difference for check in report.files[0].checks for difference in check.differences]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give an empty folder for policies; a configuration would stand beside it."""
    path = tmp_path / "policies"
    path.mkdir()
    return path


# --- the samples --------------------------------------------------------------------------------------------------


def test_the_sample_policies_pass_their_tests_and_are_covered_completely() -> None:
    report = policy_tests.test_policies([SAMPLES], coverage_threshold=100)
    assert [check.row.name for file in report.files for check in file.checks if not check.passed] == []
    assert report.coverage.missing == ()
    assert report.ok


def test_the_sample_policies_load_without_a_warning() -> None:
    policies = parse_policies(read_files(SAMPLES).files, PolicyOptions())
    assert [str(problem) for problem in policies.warnings if problem.severity is Severity.WARNING] == []


def test_each_sample_policy_has_its_test_file_and_says_its_idea_in_the_first_line() -> None:
    policies = sorted(path for path in SAMPLES.glob("*.yaml") if not path.stem.endswith("_test"))
    assert len(policies) >= 10
    for path in policies:
        assert path.with_name(f"{path.stem}_test.yaml").exists()
        assert path.read_text().startswith("# ")


# --- what is expected and what is got -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "got"),
    [
        ("[alice, GET https://a.example/, allow claim-ok]", None),
        ("[alice, GET https://a.example/, deny]", "allow claim-ok"),
        ("[alice, GET https://a.example/, allow user-ok]", "allow claim-ok"),
        ("[bob, GET https://a.example/, 403]", None),
        ("[bob, GET https://a.example/, deny]", None),
        ("[bob, GET https://a.example/, allow]", "403 claim-unauthorized"),
        ("[bob, GET https://a.example/, 401]", "403 claim-unauthorized"),
        ("[bob, GET https://a.example/, 403 email-unauthorized]", "403 claim-unauthorized"),
        ("[bob, GET https://a.example/, 403 claim-unauthorized no-rule]", "403 claim-unauthorized"),
        ("[anonymous, GET https://a.example/, 401 user-unauthenticated]", None),
        ("[alice, GET https://b.example/, 404 route-not-found]", None),
        ("[alice, GET https://a.example//x, 400 request-malformed]", None),
        ("[alice, get https://a.example/, 400 request-malformed]", None),
        ("{as: alice, request: GET https://b.example/, route_id: admin, expect: allow}", None),
        ("{as: alice, request: GET https://a.example/, route_id: other, expect: 404}", None),
        ("{as: alice, request: GET https://a.example/, token_error: keys-unavailable, expect: 503}", None),
        ("{as: alice, request: GET https://a.example/, token_error: token-expired, expect: 401 token-expired}", None),
    ],
)
def test_a_row_passes_only_when_all_is_as_expected(folder: Path, row: str, got: str | None) -> None:
    report = run(folder, row)
    assert [difference.got for difference in differences(report)] == ([] if got is None else [got])
    assert report.ok is (got is None)
    assert (report.passed, report.failed) == ((1, 0) if got is None else (0, 1))


def test_the_first_reason_is_the_decisions_and_further_ones_are_among_its_reasons(folder: Path) -> None:
    policies = "- from: https://a.example\n  allowed_domains: [x.example]\n  allowed_idp_claims: {g: a}\n"
    rows = (
        "[bob, GET https://a.example/, 403 domain-unauthorized claim-unauthorized]\n"
        "[bob, GET https://a.example/, 403 claim-unauthorized]"
    )
    report = run(folder, rows, policies=policies)
    assert [check.passed for check in report.files[0].checks] == [True, False]


def test_the_route_and_the_headers_are_compared(folder: Path) -> None:
    policies = ADMIN + "- {from: 'https://b.example', id: other, allow_any_authenticated_user: true}\n"
    asked = "as: alice, request: GET https://a.example/, expect: allow"
    report = run(
        folder,
        f"{{{asked}, route: admin, set: {{x-auth-groups: admins, x-auth-subject: alice}}, removed: [x-auth-email]}}\n"
        f"{{{asked}, route: other, set: {{x-auth-groups: users, x-auth-email: e, x-more: y}},"
        " removed: [x-auth-subject]}\n"
        "{as: alice, request: GET https://c.example/, expect: 404, route: other}",
        policies=policies,
    )
    assert differences(report) == [
        Difference("route other", "route admin"),
        Difference("set x-auth-groups: users", "set x-auth-groups: admins"),
        Difference("set x-auth-email: e", "removed x-auth-email"),
        Difference("set x-more: y", "x-more is left as it came"),
        Difference("removed x-auth-subject", "set x-auth-subject: alice"),
        Difference("route other", "no route"),
    ]


def test_a_route_that_does_not_exist_is_a_mistake_in_the_test(folder: Path) -> None:
    with pytest.raises(LoadError) as caught:
        run(folder, "{as: alice, request: GET https://a.example/, expect: allow, route: admn}")
    (problem,) = caught.value.problems
    assert str(problem) == f"{folder}/a_test.yaml:3:72: `route`: no route is called `admn`; did you mean `admin`?"


# --- who is calling -----------------------------------------------------------------------------------------------

ANYONE = "- {from: 'https://a.example', policy: {allow: {or: [%s]}}}\n"


@pytest.mark.parametrize(
    ("principal", "criterion", "expected"),
    [
        ("{}", "{user: alice}", "allow"),
        ("{}", "{client_id: test-client}", "allow"),
        ("{}", "{token_use: access}", "allow"),
        ("{}", "{claim/username: alice}", "allow"),
        ("{}", "{issuer: {ends_with: _TestPool1}}", "allow"),
        ("{}", "{auth_age: {max: 60s}}", "allow"),
        ("{}", "{auth_age: {max: 59s}}", "403 auth-age-unauthorized"),
        ("{sub: x}", "{user: x}", "allow"),
        ("{token_use: id}", "{claim/cognito:username: alice}", "allow"),
        ("{token_use: id}", "{claim/username: alice}", "403 claim-unauthorized"),
        ("{token_use: id}", "{client_id: test-client}", "allow"),
        ("{token_use: id, aud: web}", "{client_id: web}", "allow"),
        ("{client_id: m2m, sub: m2m}", "{claim/username: alice}", "403 claim-unauthorized"),
        ("{username: null}", "{claim/username: alice}", "403 claim-unauthorized"),
        ("{email: a@x.example, email_verified: true}", "{email: a@x.example}", "allow email-ok"),
        ("{email: a@x.example}", "{email: a@x.example}", "403 email-unverified"),
        ("{exp: 2026-01-01T12:00:01Z}", "{user: alice}", "allow"),
        ("{exp: 2026-01-01T12:00:00Z}", "{user: alice}", "401 token-expired"),
    ],
)
def test_a_principal_is_a_good_token_with_its_claims_on_top(
    folder: Path, principal: str, criterion: str, expected: str
) -> None:
    report = run(
        folder,
        f"[alice, GET https://a.example/, {expected}]",
        policies=ANYONE % criterion,
        head=f"principals: {{alice: {principal}}}\n",
    )
    assert differences(report) == []


def test_a_test_file_can_trust_unverified_addresses(folder: Path) -> None:
    head = "trust_unverified_email: true\nprincipals: {alice: {email: a@x.example}}\n"
    assert run(
        folder, "[alice, GET https://a.example/, allow email-ok]", policies=ANYONE % "{email: a@x.example}", head=head
    ).ok


def test_every_row_can_have_its_own_time_and_address(folder: Path) -> None:
    policies = ANYONE % "{source_ip: 10.0.0.1}, {date: {before: 2026-01-01}}"
    rows = (
        "[bob, GET https://a.example/, 403 source-ip-unauthorized date-unauthorized]\n"
        "{as: bob, request: GET https://a.example/, source_ip: 10.0.0.1, expect: allow source-ip-ok}\n"
        "{as: bob, request: GET https://a.example/, now: 2025-12-31T23:59:59Z, expect: allow date-ok}"
    )
    assert run(folder, rows, policies=policies).ok


def test_a_certificate_is_read_from_the_file_that_the_row_names(folder: Path) -> None:
    (folder / "client.pem").write_text("-----BEGIN CERTIFICATE-----\n+/=\n")
    policies = ANYONE % "{client_certificate: {fingerprint: '%s'}}" % ("ab" * 32)
    row = "{request: GET https://a.example/, certificate: client.pem, expect: 403 client-certificate-unauthorized}"
    report = run(folder, row, policies=policies)
    assert report.ok
    sent = report.files[0].checks[0].row.request.certificate
    assert "\n" not in sent
    assert unquote(sent) == "-----BEGIN CERTIFICATE-----\n+/=\n"
    with pytest.raises(LoadError, match=r"a_test.yaml:3:52: none.pem cannot be read"):
        run(folder, row.replace("client.pem", "none.pem"), policies=policies)


# --- against which policies ---------------------------------------------------------------------------------------


def test_a_test_file_is_judged_against_its_folder_and_what_is_below(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "b.yaml").write_text(ADMIN.replace("a.example", "b.example").replace("admin\n", "b\n"))
    (folder / "sub" / "b_test.yaml").write_text("tests: [[anonymous, GET https://a.example/, 404]]")
    report = run(folder, "[alice, GET https://b.example/, allow]")
    assert report.ok
    assert [file.file for file in report.files] == [f"{folder}/a_test.yaml", f"{folder}/sub/b_test.yaml"]
    places = [item.source.file for item in report.coverage.items]
    assert places == [f"{folder}/a.yaml"] * 2 + [f"{folder}/sub/b.yaml"] * 2


def test_a_test_file_can_name_its_policies(folder: Path) -> None:
    (folder / "b.yaml").write_text("nonsense")
    (folder / "c.yaml").write_text(ADMIN.replace("a.example", "c.example").replace("id: admin", "id: c"))
    head = PRINCIPALS + "policies: [a.yaml, c.yaml]\n"
    assert run(folder, "[alice, GET https://a.example/, allow]\n[bob, GET https://c.example/, 403]", head=head).ok


def test_named_policies_are_one_set_in_path_order_each_once(folder: Path) -> None:
    (folder / "b.yaml").write_text("- {from: https://a.example, allow_public_unauthenticated_access: true}\n")
    for names in ("[a.yaml, b.yaml]", "[b.yaml, a.yaml]", "[b.yaml, ., a.yaml]"):
        assert run(folder, "[anonymous, GET https://a.example/, 401]", head=f"{PRINCIPALS}policies: {names}\n").ok


def test_a_file_that_is_named_by_several_ways_is_covered_once(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "b.yaml").write_text(ADMIN.replace("a.example", "b.example").replace("admin\n", "b\n"))
    (folder / "sub" / "b_test.yaml").write_text(
        "policies: [b.yaml, ../a.yaml, ../sub/../a.yaml]\ntests: [[anonymous, GET https://a.example/, 401]]"
    )
    report = run(folder, "[alice, GET https://a.example/, allow]\n[bob, GET https://a.example/, 403]")
    places = [item.source.file for item in report.coverage.items]
    assert places == [f"{folder}/a.yaml"] * 2 + [f"{folder}/sub/b.yaml"] * 2


def test_behind_a_link_to_a_folder_two_dots_are_where_it_leads(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "far" / "inner").mkdir(parents=True)
    (tmp_path / "far" / "c.yaml").write_text(ADMIN.replace("a.example", "c.example"))
    (folder / "link").symlink_to(tmp_path / "far" / "inner")
    head = f"{PRINCIPALS}policies: [link/../c.yaml]\n"
    assert run(folder, "[alice, GET https://c.example/, allow]", head=head).ok


def test_a_single_test_file_can_be_named_and_is_run_once(folder: Path) -> None:
    run(folder, "[alice, GET https://a.example/, allow]")
    report = policy_tests.test_policies([folder / "a_test.yaml", folder])
    assert report.passed == 1


def test_without_a_path_the_policies_folder_is_searched_or_where_we_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = run(folder, "[alice, GET https://a.example/, allow]", config=POOL % "access")
    settings = load_settings(folder.parent / "authz.yaml", environ={}, overrides={})
    assert policy_tests.test_policies([], settings).files[0].file == report.files[0].file
    monkeypatch.chdir(folder.parent)
    assert policy_tests.test_policies([]).files[0].file == "policies/a_test.yaml"
    monkeypatch.chdir(folder)
    assert policy_tests.test_policies([]).files[0].file == "a_test.yaml"


def test_hidden_files_and_folders_hold_no_tests(folder: Path) -> None:
    (folder / ".git").mkdir()
    (folder / ".git" / "b_test.yaml").write_text("nonsense")
    (folder / ".c_test.yaml").write_text("nonsense")
    assert run(folder, "[alice, GET https://a.example/, allow]").passed == 1


def test_no_test_at_all_is_an_error(folder: Path) -> None:
    with pytest.raises(LoadError, match=r"no policy test found: write NAME_test\.yaml beside the policies"):
        policy_tests.test_policies([folder])


def test_every_problem_of_tests_and_policies_is_told_at_once(folder: Path) -> None:
    (folder / "b_test.yaml").write_text("tests: []")
    (folder / "c_test.yaml").mkdir()
    with pytest.raises(LoadError) as caught:
        run(folder, "[alcie, GET https://a.example/, allow]", policies="- from: nonsense\n")
    assert [problem.source.file.rpartition("/")[2] for problem in caught.value.problems] == [
        "a.yaml",
        "a_test.yaml",
        "b_test.yaml",
    ]
    with pytest.raises(LoadError) as caught:
        policy_tests.test_policies([folder / "none", folder / "a.yaml"])
    assert [problem.message.partition(":")[0] for problem in caught.value.problems] == [
        "not a test file",
        "no such file or folder",
    ]


def test_a_test_file_that_cannot_be_read_is_an_error(folder: Path) -> None:
    (folder / "a_test.yaml").symlink_to(folder / "nowhere")
    with pytest.raises(LoadError, match=r"a_test\.yaml cannot be read"):
        policy_tests.test_policies([folder])


def test_a_test_file_without_end_is_not_read_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection, "MAX_FILE_BYTES", 10)
    with pytest.raises(LoadError, match=r"a_test\.yaml is larger than"):
        run(folder, "[alice, GET https://a.example/, allow]")


# --- with a configuration -----------------------------------------------------------------------------------------

POOL = """\
policies: policies/
cognito:
  - {user_pool: eu-west-1_AbCdEfGhI, clients: [web], token_use: [%s], trust_unverified_email: true}
"""


def test_a_configuration_says_what_tokens_claims_and_headers_are_like(folder: Path) -> None:
    config = POOL % "access" + (
        "identity_headers: {x-me: sub}\nallow_path_parameters: true\nclaims: {scope: {split: ' '}}\n"
    )
    policies = ANYONE % (
        "{issuer: 'https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEfGhI'}, {client_id: web},"
        "{email: a@x.example}, {claim/scope: b}"
    )
    head = "principals: {alice: {email: a@x.example, scope: a b}}\n"
    row = (
        "{as: alice, request: GET https://a.example/a;b=c, expect: allow issuer-ok client-id-ok email-ok claim-ok,"
        " set: {x-me: alice}}"
    )
    assert run(folder, row, policies=policies, head=head, config=config).ok
    assert not run(folder, row, policies=policies, head="trust_unverified_email: false\n" + head, config=config).ok


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        pytest.param("", "deny", id="nothing"),
        pytest.param("headers: {X-Real-IP: 10.0.0.7}, ", "allow source-ip-ok", id="the configured header"),
        pytest.param("headers: {x-real-ip: [10.0.0.7, 10.0.0.7]}, ", "deny", id="the header twice"),
        pytest.param("headers: {x-real-ip: nonsense}, ", "deny", id="no address in it"),
        pytest.param("headers: {x-forwarded-for: 10.0.0.7}, ", "deny", id="another header"),
        pytest.param("source_ip: 10.0.0.7, ", "allow source-ip-ok", id="the row's own address"),
        pytest.param("source_ip: 10.0.0.7, headers: {x-real-ip: 192.0.2.9}, ", "allow source-ip-ok", id="both"),
    ],
)
def test_the_configured_header_names_the_address_where_the_row_does_not(
    folder: Path, extra: str, expected: str
) -> None:
    config = POOL % "access" + "client_ip_header: X-Real-IP\n"
    row = f"{{as: alice, request: GET https://a.example/, {extra}expect: {expected}}}"
    assert differences(run(folder, row, policies=ANYONE % "{source_ip: 10.0.0.0/8}", config=config)) == []


def test_a_header_that_is_not_configured_is_no_address(folder: Path) -> None:
    row = "{as: alice, request: GET https://a.example/, headers: {x-real-ip: 10.0.0.7}, expect: deny}"
    assert run(folder, row, policies=ANYONE % "{source_ip: 10.0.0.0/8}", config=POOL % "access").ok


def test_where_only_id_tokens_are_accepted_principals_have_them(folder: Path) -> None:
    row = "[bob, GET https://a.example/, allow token-use-ok]"
    assert run(folder, row, policies=ANYONE % "{token_use: id}", config=POOL % "id").ok


AWS = "https://cognito-idp.eu-west-1.amazonaws.com"
SECOND = f"{AWS}/eu-west-1_Second000"
TWO_POOLS = (POOL % "access") + "  - {user_pool: eu-west-1_Second000, clients: [app], token_use: [id], leeway: 10s}\n"


def decided(folder: Path, claims: str, config: str, policies: str = ANYONE % "{authenticated_user: true}") -> str:
    """Give what is decided for a principal of these claims."""
    head = f"principals: {{alice: {{{claims}}}}}\n"
    report = run(folder, "[alice, GET https://a.example/, 404]", policies=policies, head=head, config=config)
    (difference,) = differences(report)
    return difference.got


@pytest.mark.parametrize(
    ("claims", "got"),
    [
        pytest.param("", "allow user-ok", id="nothing"),
        pytest.param("client_id: web", "allow user-ok", id="its own client"),
        pytest.param("client_id: other", "401 token-client-refused", id="a foreign client"),
        pytest.param("aud: 'https://api.example'", "allow user-ok", id="an access token's resource"),
        pytest.param("token_use: id, aud: app", "allow user-ok", id="what the second pool takes"),
        pytest.param("client_id: app", "401 token-client-refused", id="the second pool's client in an access token"),
        pytest.param("token_use: id, aud: web", "401 token-use-refused", id="an ID token of the first pool's client"),
        pytest.param(f"iss: {SECOND}", "allow user-ok", id="an issuer alone"),
        pytest.param(f"iss: {SECOND}, client_id: app", "401 token-use-refused", id="the second pool, the other kind"),
        pytest.param("iss: https://evil.example", "401 token-issuer-unknown", id="a foreign issuer"),
        pytest.param("iss: null", None, id="no issuer"),
        pytest.param("nbf: 2026-01-01T12:00:00Z", "allow user-ok", id="valid from now"),
        pytest.param("nbf: 2026-01-01T12:00:01Z", "401 token-not-yet-valid", id="valid in a second"),
        pytest.param("iat: 2026-01-01T12:01:00Z", "allow user-ok", id="issued in a minute"),
        pytest.param("iat: 2026-01-01T12:01:01Z", "401 token-not-yet-valid", id="issued later"),
        pytest.param("exp: 2026-01-01T12:00:00Z", "401 token-expired", id="expired now"),
        pytest.param(f"iss: {SECOND}, exp: 2026-01-01T11:59:51Z", "allow user-ok", id="expired within the leeway"),
        pytest.param("exp: 1.5", "401 token-claim-invalid", id="no whole number of seconds"),
        pytest.param("exp: true", "401 token-claim-invalid", id="no number"),
        pytest.param("exp: null", "401 token-claim-invalid", id="no end"),
        pytest.param("jti: 5", "401 token-claim-invalid", id="an id that is no text"),
        pytest.param("sub: m2m, client_id: web", "allow user-ok", id="a subject of its own"),
        pytest.param("username: null, auth_time: null", "allow user-ok", id="without what need not be there"),
    ],
)  # fmt: skip
def test_written_claims_are_judged_as_behind_the_signature(folder: Path, claims: str, got: str | None) -> None:
    if got is None:
        with pytest.raises(LoadError, match="`iss`: a token always has it, so `null` cannot take it away"):
            decided(folder, claims, TWO_POOLS)
    else:
        assert decided(folder, claims, TWO_POOLS) == got


@pytest.mark.parametrize(
    ("claims", "got"),
    [
        ("", "allow user-ok"),
        ("client_id: web, sub: web", "401 token-use-refused"),
        ("token_use: access", "401 token-use-refused"),
    ],
)
def test_where_only_id_tokens_are_accepted_a_client_id_is_an_access_tokens(folder: Path, claims: str, got: str) -> None:
    assert decided(folder, claims, POOL % "id") == got


def test_a_pool_that_takes_every_client_takes_a_foreign_one(folder: Path) -> None:
    config = (POOL % "access").replace("[web]", "any")
    assert decided(folder, "client_id: other", config) == "allow user-ok"


def test_a_bad_token_counts_as_none_and_the_failure_tells_why(folder: Path) -> None:
    public = ANYONE % "{accept: true}, {user: alice}"
    assert decided(folder, "client_id: other", POOL % "access", public) == "allow accept"
    report = run(
        folder, "[a, GET https://a.example/, allow]", head="principals: {a: {exp: 1}}\n", config=POOL % "access"
    )
    (check,) = report.files[0].checks
    assert "the token is not good: token-expired (expired 1767268799 s ago); judged as nobody" in [
        *explanation_lines(check)
    ]


@pytest.mark.parametrize(
    ("entry", "got"),
    [
        ("{sub: alice}", "401 token-revoked"),
        ("{sub: bob}", "allow user-ok"),
        ("{client_id: web, issued_before: 2026-01-01T11:59:01Z}", "401 token-revoked"),
        ("{client_id: web, issued_before: 2026-01-01T11:59:00Z}", "allow user-ok"),
        ("{username: alice, expires: 2026-01-01T12:00:01Z}", "401 token-revoked"),
        ("{username: alice, expires: 2026-01-01T12:00:00Z}", "allow user-ok"),
    ],
)
def test_a_principal_on_the_revocation_list_is_revoked(folder: Path, entry: str, got: str) -> None:
    (folder.parent / "revoked").mkdir()
    (folder.parent / "revoked" / "a.yaml").write_text(f"- {entry}\n")
    assert decided(folder, "", POOL % "access" + "revocations: revoked\n") == got


def test_a_revocation_list_that_does_not_load_is_an_error(folder: Path) -> None:
    (folder.parent / "revoked.yaml").write_text("- {subject: alice}\n")
    with pytest.raises(LoadError) as caught:
        decided(folder, "", POOL % "access" + "revocations: revoked.yaml\n")
    (problem,) = caught.value.problems
    assert str(problem).startswith(f"{folder.parent}/revoked.yaml:1:4: revocation: unknown key `subject`")


def test_with_a_configuration_its_whole_folder_is_the_set(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "b.yaml").write_text(ADMIN.replace("id: admin", "id: b"))
    (folder / "sub" / "b_test.yaml").write_text(
        "tests: [{request: GET https://a.example/, expect: 401, route: admin, name: the earlier file wins}]"
    )
    assert run(folder, "[alice, GET https://a.example/, allow]", config=POOL % "access").ok


def test_policies_inside_the_configuration_are_tested_as_well(tmp_path: Path) -> None:
    config = tmp_path / "authz.yaml"
    config.write_text(POOL.replace("policies: policies/", "routes: [{from: 'https://i.example'}]") % "access")
    (tmp_path / "authz_test.yaml").write_text("tests: [[anonymous, GET https://i.example/, 403 no-rule]]")
    settings = load_settings(config, environ={}, overrides={})
    assert policy_tests.test_policies([], settings).ok
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "a.yaml").write_text(ADMIN)
    (tmp_path / "own" / "a_test.yaml").write_text(
        "policies: [a.yaml]\ntests: [[anonymous, GET https://a.example/, 401 user-unauthenticated]]"
    )
    assert policy_tests.test_policies([tmp_path], settings).ok


def test_a_decision_is_the_authorizers_own(folder: Path) -> None:
    check = run(folder, "[bob, GET https://a.example/, 403]").files[0].checks[0]
    assert isinstance(check.visit.decision, Deny)
    assert check.visit.decision.reason is Reason.CLAIM_UNAUTHORIZED
    assert check.explanation is not None
    assert check.explanation.decision == check.visit.decision
