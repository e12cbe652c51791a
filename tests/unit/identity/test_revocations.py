"""The revocation list: who is on it, until when, and what an author reads who made a mistake."""

from __future__ import annotations

import math
from contextlib import suppress
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.errors import LoadError
from authz.identity.revocations import RevocationList, parse_revocations
from authz.model import Principal, Source
from tests.support.user_pool import ALICE, NOW

SIGN_IN = "5f0c1f7e-0000-4000-8000-000000000001"
CLIENT = "304a12ktcc5djt9d7enj6dsjkg"


def listed(*texts: str) -> RevocationList:
    return parse_revocations((f"{number}.yaml", text.encode()) for number, text in enumerate(texts, 1))


def caller(issued_at: float = NOW, **claims: Any) -> Principal:
    merged = {"username": "alice", "origin_jti": SIGN_IN, **claims}
    kept = {name.replace("__", ":"): value for name, value in merged.items() if value is not None}
    return Principal(ALICE, "https://issuer", CLIENT, "access", kept, issued_at=issued_at)


def problems_of(text: str | bytes) -> list[str]:
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(LoadError) as caught:
        parse_revocations([("r.yaml", data)])
    return [str(problem) for problem in caught.value.problems]


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("entry", "revoked"),
    [
        pytest.param(f"sub: {ALICE}", True, id="sub"),
        pytest.param("sub: bob", False, id="another sub"),
        pytest.param(f"sub: {ALICE.upper()}", False, id="the sub in other case"),
        pytest.param("username: alice", True, id="username"),
        pytest.param("username: Alice", False, id="the username in other case"),
        pytest.param(f"origin_jti: {SIGN_IN}", True, id="sign-in"),
        pytest.param("origin_jti: other", False, id="another sign-in"),
        pytest.param(f"client_id: {CLIENT}", True, id="client"),
        pytest.param("client_id: alice", False, id="a value under another key"),
        pytest.param(f"{{sub: {ALICE}, client_id: {CLIENT}}}", True, id="both hold"),
        pytest.param(f"{{sub: {ALICE}, client_id: other}}", False, id="the first alone holds"),
        pytest.param(f"{{sub: bob, client_id: {CLIENT}}}", False, id="the second alone holds"),
        pytest.param("issued_before: 2027-01-15T08:00:01Z", True, id="everybody's older tokens"),
        pytest.param("issued_before: 2027-01-15T08:00:00Z", False, id="issued at that very second"),
        pytest.param("issued_before: 2027-01-15T09:00:00+01:00", False, id="the same second, elsewhere"),
        pytest.param("issued_before: 2027-01-15t09:00:00.5+01:00", True, id="half a second later"),
        pytest.param("issued_before: 2027-01-15 08:01z", True, id="no seconds, small letters"),
        pytest.param(f"{{sub: {ALICE}, issued_before: 2027-01-15T08:00:01Z}}", True, id="her older tokens"),
        pytest.param(f"{{sub: {ALICE}, issued_before: 2027-01-15T08:00:00Z}}", False, id="her newer tokens"),
        pytest.param("{sub: bob, issued_before: 2027-01-15T08:00:01Z}", False, id="his older tokens"),
        pytest.param(f"{{sub: {ALICE}, expires: 2027-01-15T08:00:01Z}}", True, id="a second before it expires"),
        pytest.param(f"{{sub: {ALICE}, expires: 2027-01-15T08:00:00Z}}", False, id="expired at that second"),
        pytest.param(f"{{sub: {ALICE}, reason: laptop stolen, note: OPS-1}}", True, id="with words"),
    ],
)
def test_an_entry_counts_when_all_its_keys_hold(entry: str, revoked: bool) -> None:
    revocations = listed(f"- {entry}\n")
    assert at("2027-01-15T08:00:00Z") == NOW
    assert (revocations.find(caller(), NOW) is not None) is revoked
    assert revocations.find(caller(), NOW) == (Source("1.yaml", 1, 3) if revoked else None)
    assert revocations.entries == 1


@pytest.mark.parametrize(
    ("claims", "revoked"),
    [
        pytest.param({"username": None, "cognito__username": "alice"}, True, id="of an ID token"),
        pytest.param({"username": "bob", "cognito__username": "alice"}, True, id="of the second token of a pair"),
        pytest.param({"username": "alice", "cognito__username": "bob"}, True, id="of the first token of a pair"),
        pytest.param({"username": "alice", "cognito__username": "alice"}, True, id="of both"),
        pytest.param({"username": "bob", "cognito__username": "carol"}, False, id="of neither"),
        pytest.param({"username": None}, False, id="of a machine"),
        pytest.param({"username": ["alice"]}, False, id="that is a list"),
    ],
)
def test_a_username_stands_in_two_claims(claims: dict[str, Any], revoked: bool) -> None:
    assert (listed("- username: alice").find(caller(**claims), NOW) is not None) is revoked


@pytest.mark.parametrize("sign_in", [None, 5, ["x"], {"a": 1}])
def test_a_sign_in_that_is_no_text_is_nobodys(sign_in: Any) -> None:
    assert listed("- origin_jti: x").find(caller(origin_jti=sign_in), NOW) is None


def test_what_does_not_say_when_it_was_issued_was_issued_before_anything() -> None:
    unknown = Principal(ALICE, "https://issuer", CLIENT, "access", {})
    assert listed("- issued_before: 1970-01-01T00:00:00Z").find(unknown, NOW) is not None


def test_a_clock_that_tells_no_time_revokes() -> None:
    assert listed(f"- {{sub: {ALICE}, expires: 1970-01-01T00:00:00Z}}").find(caller(), math.nan) is not None


def test_of_several_entries_for_one_any_counts() -> None:
    """The later `issued_before` ends first here, so that neither can stand for the other."""
    revocations = listed(
        f"- {{sub: {ALICE}, issued_before: 2027-01-15T07:00:00Z, expires: 2027-01-15T10:00:00Z}}\n"
        f"- {{sub: {ALICE}, issued_before: 2027-01-15T06:00:00Z, expires: 2027-01-15T09:30:00Z}}\n"
        f"- {{sub: {ALICE}, issued_before: 2027-01-15T08:00:00Z, expires: 2027-01-15T09:00:00Z}}\n"
        f"- {{sub: {ALICE}, issued_before: 2027-01-15T08:00:00Z, expires: 2027-01-15T09:00:00Z}}\n"
    )
    assert revocations.entries == 4
    expected = {
        ("07:30", "08:30"): True,
        ("07:30", "09:00"): False,
        ("06:30", "08:30"): True,
        ("06:30", "09:59"): True,
        ("06:30", "10:00"): False,
        ("08:00", "08:30"): False,
    }
    for (issued, now), revoked in expected.items():
        who = caller(at(f"2027-01-15T{issued}:00Z"))
        assert (revocations.find(who, at(f"2027-01-15T{now}:00Z")) is not None) is revoked, (issued, now)


def test_an_entry_for_good_stands_for_all_before_it() -> None:
    revocations = listed(*(f"- {{sub: {ALICE}, issued_before: 2027-01-{day:02}T00:00:00Z}}" for day in range(1, 15)))
    [(_, table)] = revocations._tables
    [terms] = table.values()
    assert [term.source.file for term in terms] == ["14.yaml"]


def test_files_are_one_list_and_nothing_is_written_out() -> None:
    revocations = listed("[]", "- sub: bob", f"# stolen\n- sub: carol\n- sub: {ALICE}\n")
    assert revocations.entries == 3
    assert revocations.find(caller(), NOW) == Source("3.yaml", 3, 3)
    assert listed("[]").find(caller(), NOW) is None


def test_a_file_that_did_not_change_is_not_read_again() -> None:
    first = parse_revocations([("a.yaml", b"- sub: bob"), ("b.yaml", b"- sub: carol")])
    second = parse_revocations([("a.yaml", b"- sub: bob"), ("b.yaml", f"- sub: {ALICE}".encode())], first)
    assert second._files["a.yaml", b"- sub: bob"] is first._files["a.yaml", b"- sub: bob"]
    assert second.find(caller(), NOW) is not None
    assert first.find(caller(), NOW) is None
    assert second.entries == 2


def test_a_file_that_is_gone_takes_its_entries_with_it() -> None:
    first = parse_revocations([("a.yaml", b"- sub: bob"), ("b.yaml", f"- sub: {ALICE}".encode())])
    assert parse_revocations([("a.yaml", b"- sub: bob")], first).find(caller(), NOW) is None


WITH_END = f"- sub: bob\n- sub: {ALICE}\n  issued_before: 2027-01-01T00:00:00Z\n# end\n".encode()


def test_a_list_that_must_have_its_end_mark_loads_with_it_alone() -> None:
    def loads(end: int) -> bool:
        with suppress(LoadError):
            return parse_revocations([("r.yaml", WITH_END[:end])], require_end=True).entries == 2
        return False

    assert [end for end in range(len(WITH_END) + 1) if loads(end)] == [len(WITH_END) - 1, len(WITH_END)]


def test_each_list_without_its_end_mark_is_told() -> None:
    with pytest.raises(LoadError) as caught:
        parse_revocations([("a.yaml", b""), ("b.yaml", WITH_END), ("c.yaml", b"- sub: bob\n")], require_end=True)
    why = "the last line is not `# end`, which `require_end` demands: the file is cut off, or lacks it"
    assert [str(problem) for problem in caught.value.problems] == [f"a.yaml:1:1: {why}", f"c.yaml:2:1: {why}"]


KNOWN = "`sub`, `username`, `origin_jti`, `client_id`, `issued_before`, `expires`, `reason`, `note`"
TIME = "expected a time such as 2026-11-25T10:00:00Z"
NO_SUCH = "there is no such time as"
NOBODY = "1:3: revocation: names nobody: write one of `sub`, `username`, `origin_jti`, `client_id` or `issued_before`"
NAIVE = (
    "1:18: `issued_before`: `2026-11-25T10:00:00` does not say in which zone: write 2026-11-25T10:00:00Z, or an "
    "offset, 2026-11-25T10:00:00+01:00"
)


NOBODYS = "which is nobody's, because values are compared whole"


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("", ["1:1: the file holds nothing: write `[]` while nothing is revoked"]),
        ("# nobody\n", ["1:1: the file holds nothing: write `[]` while nothing is revoked"]),
        ("sub: a", ["1:1: revocations: found a map, expected a list of entries, `- sub: …`"]),
        ("alice", ["1:1: revocations: found text `alice`, expected a list of entries, `- sub: …`"]),
        ("- alice", ["1:3: revocation: found text `alice`, expected a map, `sub: …`"]),
        ("- [sub]", ["1:3: revocation: found a list, expected a map, `sub: …`"]),
        ("- subb: a", ["1:3: revocation: unknown key `subb`; did you mean `sub`?"]),
        ("- origin-jti: a", ["1:3: revocation: unknown key `origin-jti`; did you mean `origin_jti`?"]),
        ("- zzz: a", [f"1:3: revocation: unknown key `zzz`, expected one of {KNOWN}"]),
        ("- {sub: a, subs: b}", ["1:12: revocation: unknown key `subs`; did you mean `sub`?"]),
        ("- sub: a\n  sub: b", ["2:3: duplicate key `sub`, already on line 1: delete one"]),
        ("- sub: 5", ["1:8: `sub`: found `5` (a number), expected text: write '5' in quotes"]),
        ("- sub:", ["1:7: `sub`: found nothing, expected text"]),
        ("- sub: ''", ["1:8: `sub`: found empty text, expected text"]),
        ("- sub: [a, b]", ["1:8: `sub`: found a list, expected text"]),
        ("- sub: '*'", [f"1:8: `sub`: found text `*`, {NOBODYS}: write `issued_before` alone, for everyone"]),
        ("- username: 'ada '", [f"1:13: `username`: found text `ada `, {NOBODYS}: write ada"]),
        ("- {sub: a, reason: 5}", ["1:20: `reason`: found `5` (a number), expected text: write '5' in quotes"]),
        ("- {}", [NOBODY]),
        ("- {expires: 2026-11-25T10:00:00Z, note: a}", [NOBODY]),
        ("- issued_before:", [f"1:17: `issued_before`: found nothing, {TIME}"]),
        ("- issued_before: 1764064800", [f"1:18: `issued_before`: found `1764064800` (a number), {TIME}"]),
        ("- issued_before: {}", [f"1:18: `issued_before`: found a map, {TIME}"]),
        ("- issued_before: yesterday", [f"1:18: `issued_before`: found text `yesterday`, {TIME}"]),
        ("- issued_before: 2026-11-25", [f"1:18: `issued_before`: found text `2026-11-25`, {TIME}"]),
        ("- issued_before: 2026-W48-3T10:00:00Z", [
            f"1:18: `issued_before`: found text `2026-W48-3T10:00:00Z`, {TIME}"]),
        ("- issued_before: 2026-11-25T10:00:00", [NAIVE]),
        ("- {sub: a, expires: 2026-02-30T10:00:00Z}", [f"1:21: `expires`: {NO_SUCH} `2026-02-30T10:00:00Z`"]),
        ("- {sub: a, expires: 2026-12-31T23:59:60Z}", [f"1:21: `expires`: {NO_SUCH} `2026-12-31T23:59:60Z`"]),
        ("- {sub: a, expires: never, issued_before: ever}", [
            f"1:21: `expires`: found text `never`, {TIME}",
            f"1:43: `issued_before`: found text `ever`, {TIME}"]),
        (b"- sub: \xff", ["1:8: not UTF-8 text: save the file as UTF-8"]),
        ("- a\n- b\n- sub: c", ["1:3: revocation: found text `a`, expected a map, `sub: …`",
                                "2:3: revocation: found text `b`, expected a map, `sub: …`"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(text: str | bytes, problems: list[str]) -> None:
    assert problems_of(text) == [f"r.yaml:{problem}" for problem in problems]


def test_the_problems_of_all_files_are_told_together() -> None:
    with pytest.raises(LoadError) as caught:
        listed("- subb: a", "- sub: a", "- 5")
    assert [problem.source.file for problem in caught.value.problems] == ["1.yaml", "3.yaml"]


@given(st.binary())
def test_any_bytes_are_a_list_or_a_load_error(data: bytes) -> None:
    with suppress(LoadError):
        assert parse_revocations([("r.yaml", data)]).entries >= 0


@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "sub": st.sampled_from([ALICE, "bob"]),
                "username": st.sampled_from(["alice", "bob"]),
                "origin_jti": st.sampled_from([SIGN_IN, "x"]),
                "client_id": st.sampled_from([CLIENT, "x"]),
                "issued_before": st.integers(0, 4),
                "expires": st.integers(0, 4),
            },
        ).filter(lambda entry: set(entry) - {"expires"}),
        max_size=8,
    ),
    st.integers(0, 4),
    st.integers(0, 4),
)
def test_the_dictionaries_say_what_a_loop_over_the_entries_says(
    entries: list[dict[str, Any]], issued_at: int, now: int
) -> None:
    def time_of(second: int) -> str:
        return f"1970-01-01T00:00:0{second}Z"

    who = {"sub": ALICE, "username": "alice", "origin_jti": SIGN_IN, "client_id": CLIENT}
    expected = any(
        all(who[name] == value for name, value in entry.items() if name in who)
        and issued_at < entry.get("issued_before", 9)
        and now < entry.get("expires", 9)
        for entry in entries
    )
    lines = [
        ", ".join(f"{name}: {value if name in who else time_of(value)}" for name, value in entry.items())
        for entry in entries
    ]
    text = "\n".join(f"- {{{line}}}" for line in lines) or "[]"
    assert (listed(text).find(caller(issued_at), now) is not None) is expected
