"""The demo's page writes what it received as text, whatever it is."""

from __future__ import annotations

import pytest

from authz.demo.page import PLACES, page

ALICE = {
    "x-auth-subject": ["1a1b2c3d"],
    "x-auth-username": ["alice"],
    "x-auth-groups": ["admins,a%2Cb"],
    "x-auth-email": ["alice@example.com"],
}


@pytest.mark.parametrize("header", sorted(ALICE))
def test_no_header_value_becomes_markup(header: str) -> None:
    text = page("/", {**ALICE, header: ["<script>alert('x')</script>"]}, [])
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_a_comma_in_a_group_does_not_make_two_groups() -> None:
    assert "<li>admins</li><li>a,b</li>" in page("/", ALICE, [])


def test_nobody_is_offered_to_sign_in_and_somebody_to_sign_out() -> None:
    assert 'href="/sign-in/auth0"' in page("/public", {}, [])
    assert 'href="/sign-out"' in page("/public", ALICE, [])


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.path)
def test_every_place_is_marked_when_one_is_there(place: object) -> None:
    path = PLACES[PLACES.index(place)].path
    assert page(path, ALICE, []).count(f'<a href="{path}" aria-current="page">') == 1


def test_a_token_that_came_through_is_named() -> None:
    assert "A token is in: cookie, x-auth-id-token" in page("/", ALICE, ["cookie", "x-auth-id-token"])
    assert "No token is among them." in page("/", ALICE, [])
