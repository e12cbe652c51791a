"""Why: the explanation is the decision with its steps, and names the one condition that came closest."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authz.errors import TokenError
from authz.model import Allow, Deny, Guidance, Json, Principal, Reason
from authz.policy.decision import Effect, Operator, decide
from authz.policy.explanation import closest, explain, guidance_for, why
from authz.policy.routes import Route
from tests.support.policies import facts, find, policy_set, ppl, principal, route_with

EXPIRED = TokenError(Reason.TOKEN_EXPIRED, "expired 40 s ago")


def route_of(text: str) -> Route:
    route = find(policy_set(text))
    assert route is not None
    return route


def why_of(
    text: str,
    caller: Principal | None = None,
    *,
    credential_error: TokenError | None = None,
    show: bool = False,
    **fields: Any,
) -> Mapping[str, Json]:
    """Give the `why` of a request that the text denies."""
    route, known = route_of(text), facts(caller, **fields)
    deny = decide(known, route, credential_error)
    assert isinstance(deny, Deny)
    return why(deny, known, route, credential_error, show=show)


def condition_of(entry: Mapping[str, Json]) -> tuple[Json, Json, Json]:
    return entry["effect"], entry["condition"], entry["found"]


class TestExplain:
    def test_keeps_every_condition_with_what_was_found(self) -> None:
        text = ppl("""
            - allow: {and: [{groups: admins}, {http_method: GET}]}
            - deny: {not: [{http_method: POST}]}
        """)
        explanation = explain(facts(principal(groups=["devs"])), route_of(text))
        assert [
            (judged.effect, judged.block.operator, judged.holds, [c[1:4] for c in judged.conditions])
            for judged in explanation.blocks
        ] == [
            (
                Effect.ALLOW,
                Operator.AND,
                False,
                [(False, Reason.GROUPS_UNAUTHORIZED, ("devs",)), (True, Reason.HTTP_METHOD_OK, ("GET",))],
            ),
            (Effect.DENY, Operator.NOT, True, [(False, Reason.HTTP_METHOD_UNAUTHORIZED, ("GET",))]),
        ]

    def test_hints_at_near_misses_unless_told_not_to(self) -> None:
        known, route = facts(principal(groups=["Admins"])), route_of(ppl("allow: {or: [{groups: admins}]}"))
        assert explain(known, route).blocks[0].conditions[0].hint is not None
        assert explain(known, route, hints=False).blocks[0].conditions[0].hint is None

    def test_what_holds_has_no_hint(self) -> None:
        known, route = facts(principal(groups=["Admins"])), route_of(ppl("allow: {or: [{groups: Admins}]}"))
        assert explain(known, route).blocks[0].conditions[0].hint is None


class TestClosest:
    def test_an_allow_has_none(self) -> None:
        assert closest(facts(), route_of(ppl("allow: {or: [{accept: }]}"))) is None

    def test_a_condition_that_nearly_held_comes_before_others(self) -> None:
        entry = why_of(ppl("allow: {or: [{groups: owners}, {groups: admins}]}"), principal(groups=["Admins"]))
        assert condition_of(entry) == ("allow", "groups: has `admins`", "1 value")
        assert entry["hint"] == "differs by case only"

    def test_the_first_when_none_nearly_held(self) -> None:
        entry = why_of(ppl("allow: {or: [{groups: owners}, {groups: admins}]}"), principal(groups=["x"]))
        assert condition_of(entry) == ("allow", "groups: has `owners`", "1 value")
        assert "hint" not in entry

    def test_the_rule_that_lacks_one_condition_comes_before_the_rule_that_lacks_two(self) -> None:
        entry = why_of(
            ppl("""
                - allow: {and: [{http_method: POST}, {groups: owners}]}
                - allow: {and: [{http_method: GET}, {groups: admins}]}
            """),
            principal(groups=["devs"]),
        )
        assert condition_of(entry) == ("allow", "groups: has `admins`", "1 value")

    @pytest.mark.parametrize(("others", "named"), [(4, "admins"), (5, "owners")])
    def test_near_misses_are_looked_for_in_the_first_five_alone(self, others: int, named: str) -> None:
        before = "{groups: owners}, " * others
        entry = why_of(ppl(f"allow: {{or: [{before}{{groups: admins}}]}}"), principal(groups=["Admins"]))
        assert condition_of(entry) == ("allow", f"groups: has `{named}`", "1 value")

    def test_a_rule_of_alternatives_lacks_one(self) -> None:
        """However many it names: any one of them would do."""
        entry = why_of(
            ppl("""
                - allow: {or: [{groups: owners}, {groups: heads}]}
                - allow: {and: [{http_method: GET}, {groups: admins}]}
            """),
            principal(groups=["devs"]),
        )
        assert condition_of(entry) == ("allow", "groups: has `owners`", "1 value")

    def test_a_deny_that_holds_comes_before_what_else_is_missing(self) -> None:
        entry = why_of(
            ppl("""
                - allow: {or: [{groups: admins}]}
                - deny: {or: [{http_method: DELETE}]}
            """),
            principal(),
            method="DELETE",
        )
        assert condition_of(entry) == ("deny", "http_method: is `DELETE`", "1 value")

    def test_a_deny_that_does_not_hold_is_not_to_blame(self) -> None:
        """Both conditions are false for the same reason; only one of them stands in the way."""
        entry = why_of(
            ppl("""
                - deny: {or: [{claim/banned: true}]}
                - allow: {or: [{claim/team: orders}]}
            """),
            principal({"team": "invoices"}),
        )
        assert condition_of(entry) == ("allow", "claim/team: has `orders`", "1 value")

    def test_a_deny_that_asks_who_is_there_is_to_blame_although_it_does_not_hold(self) -> None:
        entry = why_of(
            ppl("""
                - allow: {or: [{accept: }]}
                - deny: {or: [{groups: banned}]}
            """)
        )
        assert condition_of(entry) == ("deny", "groups: has `banned`", "nobody signed in")

    def test_a_deny_that_asks_who_is_there_comes_before_an_allow_that_does(self) -> None:
        entry = why_of(
            ppl("""
                - allow: {or: [{groups: admins}]}
                - deny: {or: [{groups: banned}]}
            """)
        )
        assert condition_of(entry) == ("deny", "groups: has `banned`", "nobody signed in")

    def test_a_deny_that_holds_comes_before_one_that_only_asks_who_is_there(self) -> None:
        entry = why_of(
            ppl("""
                - allow: {or: [{accept: }]}
                - deny: {or: [{groups: banned}]}
                - deny: {not: [{authenticated_user: }]}
            """)
        )
        assert condition_of(entry) == ("deny", "not authenticated_user: a signed-in caller", "nobody signed in")

    def test_what_must_not_hold_and_does(self) -> None:
        entry = why_of(ppl("allow: {not: [{groups: interns}, {groups: guests}]}"), principal(groups=["guests"]))
        assert condition_of(entry) == ("allow", "not groups: has `guests`", "1 value")
        assert "hint" not in entry

    def test_what_must_not_hold_and_does_not_is_not_to_blame(self) -> None:
        """Its reason is that of the denial, and it nearly held: which would have been worse."""
        entry = why_of(
            ppl("""
                - allow: {or: [{groups: admins}]}
                - allow: {not: [{groups: interns}, {groups: guests}]}
            """),
            principal(groups=["Interns", "guests"]),
        )
        assert condition_of(entry) == ("allow", "groups: has `admins`", "2 values")
        assert "hint" not in entry

    def test_the_member_of_a_deny_that_turned_it(self) -> None:
        entry = why_of(
            ppl("""
                - allow: {or: [{accept: }]}
                - deny: {nor: [{http_method: GET}, {groups: admins}]}
            """),
            principal(groups=["devs"]),
        )
        assert condition_of(entry) == ("deny", "not groups: has `admins`", "1 value")

    def test_all_of_a_nor_hold(self) -> None:
        entry = why_of(ppl("allow: {nor: [{http_method: GET}, {groups: a}]}"), principal(groups=["a"]))
        assert condition_of(entry)[1] == "not http_method: is `GET`"


class TestWhy:
    def test_of_somebody_missing(self) -> None:
        entry = why_of(route_with("allow_any_authenticated_user: true"))
        assert entry == {
            "condition": "authenticated_user: a signed-in caller",
            "effect": "allow",
            "policy": "policies/app.yaml:2",
            "found": "nobody signed in",
        }

    def test_of_a_bad_token(self) -> None:
        entry = why_of(route_with("allow_any_authenticated_user: true"), credential_error=EXPIRED)
        assert entry == {"condition": "a good token", "found": "expired 40 s ago"}

    def test_a_bad_token_is_not_to_blame_where_nobody_is_asked_for(self) -> None:
        entry = why_of(ppl("allow: {or: [{http_method: POST}]}"), credential_error=EXPIRED)
        assert condition_of(entry) == ("allow", "http_method: is `POST`", "1 value")

    def test_of_a_bad_token_the_condition_can_be_named_too(self) -> None:
        found = closest(facts(), route_of(ppl("allow: {or: [{groups: a}]}")), EXPIRED)
        assert found is not None
        assert found[1].criterion.name == "groups"

    def test_of_a_route_without_a_rule(self) -> None:
        assert why_of(route_with("prefix: /")) == {"condition": "a rule that allows", "found": "none on this route"}

    def test_of_a_route_that_only_denies(self) -> None:
        entry = why_of(ppl("deny: {or: [{http_method: POST}]}"))
        assert entry == {"condition": "a rule that allows", "found": "none on this route"}

    @pytest.mark.parametrize(
        "reason",
        [
            Reason.ROUTE_NOT_FOUND,
            Reason.REQUEST_MALFORMED,
            Reason.POLICY_UNAVAILABLE,
            Reason.OVERLOADED,
            Reason.INTERNAL_ERROR,
        ],
    )
    def test_of_what_no_policy_decided(self, reason: Reason) -> None:
        assert why(Deny(reason, detail="in words"), None, None)["found"] == "in words"
        assert why(Deny(reason), None, None)["found"] == reason

    def test_what_was_found_wrong_is_told_in_at_most_200_characters(self) -> None:
        long, cut = "x" * 201, "x" * 199 + "…"
        assert why(Deny(Reason.REQUEST_MALFORMED, detail=long), None, None)["found"] == cut
        assert why(Deny(Reason.REQUEST_MALFORMED, detail=long[:200]), None, None)["found"] == long[:200]
        error = TokenError(Reason.TOKEN_MALFORMED, long)
        assert why(Deny(Reason.TOKEN_MALFORMED), None, None, error)["found"] == cut

    def test_what_was_wanted_is_told_in_at_most_200_characters(self) -> None:
        entry = why_of(ppl(f"allow: {{or: [{{claim/{'x' * 300}: y}}]}}"), principal())
        assert entry["condition"] == f"claim/{'x' * 193}…"

    def test_where_no_route_is_known_no_rule_can_be_named(self) -> None:
        assert why(Deny(Reason.GROUPS_UNAUTHORIZED), facts(), None)["condition"] == "a rule that allows"

    @pytest.mark.parametrize("reason", list(Reason))
    def test_there_is_one_for_every_reason(self, reason: Reason) -> None:
        assert why(Deny(reason), None, None)["condition"]

    @pytest.mark.parametrize(
        ("claims", "quiet", "shown"),
        [
            pytest.param({}, "nothing", "nothing", id="nothing"),
            pytest.param({"team": "secret"}, "1 value", "`secret`", id="one"),
            pytest.param({"team": ["secret", 5]}, "2 values", "`secret`, 5", id="two"),
        ],
    )
    def test_values_are_told_only_when_asked(self, claims: dict[str, Any], quiet: str, shown: str) -> None:
        text = ppl("allow: {or: [{claim/team: orders}]}")
        route, known = route_of(text), facts(principal(claims))
        deny = decide(known, route)
        assert isinstance(deny, Deny)
        assert why(deny, known, route)["found"] == quiet
        assert why_of(text, principal(claims), show=True)["found"] == shown

    def test_hints_tell_values_only_when_asked(self) -> None:
        text, caller = ppl("allow: {or: [{claim/team: orders}]}"), principal({"team": "Orders"})
        assert "Orders" not in json.dumps(why_of(text, caller))
        assert why_of(text, caller, show=True)["hint"] == "`Orders` differs from `orders` by case only"

    @pytest.mark.parametrize("show", [False, True])
    @pytest.mark.parametrize(
        "value",
        [
            pytest.param("A" * 100_000, id="a long text"),
            pytest.param("\U0001f600" * 10_000, id="many emoji"),
            pytest.param(["A" * 64] * 10_000, id="a long list"),
            pytest.param([{"a": ["b"] * 1000}] * 1000, id="nested values"),
            pytest.param(10**4000, id="a long number"),
        ],
    )
    def test_is_bounded_whatever_the_caller_holds(self, value: Any, show: bool) -> None:
        text = ppl(f"allow: {{and: [{{claim/team: {'a' * 10_000}}}]}}")
        entry = why_of(text, principal({"team": value}), show=show)
        assert len(json.dumps(entry, ensure_ascii=False).encode()) < 1500

    def test_values_are_found_out_about_once_for_many_conditions(self) -> None:
        """A denial of a caller in a hundred groups must not hold up everybody else."""
        name = "tenant-%04d-eu-west-1-production-administrators-of-orders"
        text = ppl("allow: {or: [" + ", ".join(f"{{groups: {name % n}-x}}" for n in range(1000, 1050)) + "]}")
        route, known = route_of(text), facts(principal(groups=[name % n for n in range(100)]))
        cheap = _cpu_seconds(lambda: closest(known, route))
        dear = _cpu_seconds(lambda: explain(known, route))
        assert cheap * 3 < dear  # 5 of 50 conditions


def _cpu_seconds(work: Any) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


# --- what stays true of every policy and caller -----------------------------------------------------------------

CRITERIA = (
    "accept:", "reject:", "authenticated_user:", "groups: a", "groups: {exclude: a}", "claim/team: A",
    "email: a@example.com", "http_method: GET", "source_ip: 192.0.2.0/24", "cors_preflight:", "scope: x",
    "invalid_client_certificate:", "auth_age: {max: 15m}",
)  # fmt: skip
blocks = st.tuples(
    st.sampled_from(["allow", "deny"]),
    st.sampled_from(["and", "or", "not", "nor"]),
    st.lists(st.sampled_from(CRITERIA), min_size=1, max_size=4),
)
callers = st.one_of(
    st.none(),
    st.builds(
        principal,
        st.dictionaries(st.sampled_from(["team", "scope"]), st.sampled_from(["A", "a", "x", 5]), max_size=2),
        groups=st.sampled_from([None, ["a"], ["A"], ["a", "b"]]),
        email=st.sampled_from([None, "a@example.com"]),
        verified=st.booleans(),
        token_use=st.sampled_from(["access", "id"]),
    ),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
@given(
    rules=st.lists(blocks, min_size=1, max_size=4),
    caller=callers,
    bad=st.booleans(),
    method=st.sampled_from(["GET", "POST"]),
)
def test_the_explanation_is_the_decision(rules: Any, caller: Principal | None, bad: bool, method: str) -> None:
    lines = (
        f"- {effect}: {{{operator}: [{', '.join(f'{{{criterion} }}' for criterion in criteria)}]}}"
        for effect, operator, criteria in rules
    )
    route, known = route_of(ppl("\n".join(lines))), facts(caller, method=method)
    error = EXPIRED if bad and caller is None else None
    decision = decide(known, route, error)
    assert explain(known, route, error).decision == decision
    found = closest(known, route, error)
    if isinstance(decision, Allow):
        assert found is None
        return
    entry = why(decision, known, route, error)
    assert entry["condition"]
    if decision.reason is not Reason.NO_RULE:
        assert found is not None
        wanted = Reason.USER_UNAUTHENTICATED if error and decision.reason is error.reason else decision.reason
        assert found[1].reason in ((wanted,) if wanted is Reason.USER_UNAUTHENTICATED else decision.reasons)


class TestGuidance:
    """What the author tells whoever is refused."""

    TEXT = route_with("""
        explanation: of the route
        remediation: ask the route
        policy:
          - allow: {and: [{groups: admins}, {http_method: GET}]}
            explanation: of the admins
          - allow: {and: [{groups: auditors}, {http_method: PUT}]}
            explanation: of the auditors
            remediation: ask the auditors
          - deny: {or: [{groups: guests}]}
            remediation: ask the guests
          - deny: {or: [{claim/blocked: true}]}
    """)

    def told(self, text: str, caller: Principal | None, error: TokenError | None = None, **fields: Any) -> Guidance:
        route, known = route_of(text), facts(caller, **fields)
        deny = decide(known, route, error)
        assert isinstance(deny, Deny)
        return guidance_for(deny, known, route)

    def test_the_deny_rule_that_holds_is_heard_and_the_route_fills_in(self) -> None:
        assert self.told(self.TEXT, principal(groups=["guests"])) == Guidance("of the route", "ask the guests")

    def test_a_deny_rule_without_texts_leaves_it_to_the_route(self) -> None:
        told = self.told(self.TEXT, principal({"blocked": True}, groups=["admins"]))
        assert told == Guidance("of the route", "ask the route")

    def test_else_the_allow_rule_that_came_closest(self) -> None:
        caller = principal(groups=["devs"])
        assert self.told(self.TEXT, caller) == Guidance("of the admins", "ask the route")
        assert self.told(self.TEXT, caller, method="PUT") == Guidance("of the auditors", "ask the auditors")

    def test_of_two_that_are_equally_close_the_one_that_has_something_to_say(self) -> None:
        text = route_with("""
            allowed_users: [a]
            policy:
              - allow: {or: [{groups: admins}]}
                explanation: of the admins
        """)
        assert self.told(text, principal(groups=["devs"])) == Guidance("of the admins", "")

    def test_of_two_that_are_equally_close_the_one_that_nearly_held(self) -> None:
        text = route_with("""
            policy:
              - allow: {or: [{groups: owners}]}
                explanation: of the owners
              - allow: {or: [{groups: admins}]}
                explanation: of the admins
        """)
        assert self.told(text, principal(groups=["devs"])) == Guidance("of the owners", "")
        assert self.told(text, principal(groups=["Admins"])) == Guidance("of the admins", "")

    def test_a_deny_rule_that_does_not_hold_is_not_heard(self) -> None:
        text = route_with("""
            explanation: of the route
            policy:
              - deny: {or: [{groups: guests}]}
                explanation: of the guests
        """)
        assert self.told(text, principal(groups=["devs"])) == Guidance("of the route", "")

    def test_who_has_to_sign_in_first_hears_the_route_alone(self) -> None:
        assert self.told(self.TEXT, None) == Guidance("of the route", "ask the route")
        assert self.told(self.TEXT, None, EXPIRED) == Guidance("of the route", "ask the route")

    def test_what_is_not_the_authors_no_is_not_explained_by_the_author(self) -> None:
        down = TokenError(Reason.KEYS_UNAVAILABLE, "no keys")
        assert self.told(self.TEXT, None, down) == Guidance("", "")

    def test_a_route_without_any_rule_may_say_why(self) -> None:
        assert self.told(route_with("explanation: closed"), principal()) == Guidance("closed", "")

    def test_nothing_is_said_where_nothing_is_written(self) -> None:
        assert self.told(ppl("allow: {or: [{groups: admins}]}"), principal()) == Guidance("", "")
