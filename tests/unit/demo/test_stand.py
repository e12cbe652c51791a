"""What the stand's screen says, and the sign-in page of its Auth0, without starting anything."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from authz.demo import files
from authz.demo.cognito import FEDERATED
from authz.demo.screen import Screen
from authz.demo.stand import _of_the_original


def test_a_broken_policy_is_named_where_its_author_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files.SAMPLES.parents[1])
    copy = files.copy_policies(files.SAMPLES / "policies", tmp_path)
    text = f"authz has ended (exit code 3). The last it wrote:\n    {copy}/10-admin.yaml:2:3: unknown key"
    assert "\n    policies/10-admin.yaml:2:3: unknown key" in _of_the_original(text, tmp_path)


@pytest.mark.parametrize(("routes", "counted"), [(0, "0 routes"), (1, "1 route"), (2, "2 routes")])
def test_routes_are_counted(routes: int, counted: str, capsys: pytest.CaptureFixture[str]) -> None:
    Screen().happened({"msg": "policies loaded", "routes": routes, "policy_revision": "abc", "time": ""})
    assert f"policies loaded: {counted}, revision abc" in capsys.readouterr().out


def form() -> str:
    """Give Auth0's sign-in page as the package draws it, restyled."""
    from authz.demo import auth0  # noqa: PLC0415 - its package warns of its own dependencies

    client: Any = auth0.application().test_client()
    query = {"client_id": "app", "redirect_uri": "https://app.test/back", "response_type": "code", "scope": "openid"}
    text: str = client.get("/oauth2/authorize", query_string=query).get_data(as_text=True)
    return text


@pytest.mark.filterwarnings("ignore")
def test_the_sign_in_page_has_one_button_and_takes_no_name() -> None:
    page = form()
    assert "<input" not in page
    assert re.findall(r'<button[^>]*value="([^"]*)"[^>]*>([^<]*)</button>', page) == [
        (FEDERATED.subject, FEDERATED.name)
    ]
    assert page.count("<button") == page.count("<form") == page.count("</form>") == 1
    assert page.count("<div") == page.count("</div>")
