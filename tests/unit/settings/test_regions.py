"""The regions that a pool may be in: what AWS's own client knows, and what no region can be called."""

from __future__ import annotations

import json
from pathlib import Path

import botocore
import pytest

from authz.settings.regions import REGIONS, doubt_of_region, flaw_of_region, is_pool_of_aws


def test_every_region_that_botocore_knows_is_known() -> None:
    data = json.loads((Path(botocore.__file__).parent / "data" / "partitions.json").read_text(encoding="utf-8"))
    ours = [part for part in data["partitions"] if part["id"] in {"aws", "aws-cn", "aws-us-gov", "aws-eusc"}]
    assert {name for part in ours for name in part["regions"] if not name.endswith("-global")} <= REGIONS


@pytest.mark.parametrize("region", sorted(REGIONS))
def test_a_known_region_is_neither_wrong_nor_odd(region: str) -> None:
    assert (flaw_of_region(region), doubt_of_region(region)) == (None, None)
    assert is_pool_of_aws(f"{region}_AbCdEfGhI")


@pytest.mark.parametrize("client", ["304a12ktcc5djt9d7enj6dsjkg", "my-app-1", "my_app", "eu-west-1", "local_A"])
def test_a_client_is_no_pool(client: str) -> None:
    assert not is_pool_of_aws(client)


@pytest.mark.parametrize(
    ("region", "flaw"),
    [
        ("eu_west_1", "`eu_west_1` is no region: write `eu-west-1`"),
        ("Eu-West-1", "`Eu-West-1` is no region: write `eu-west-1`"),
        ("EU-WSET-1", "`EU-WSET-1` is no region; did you mean `eu-west-1`?"),
        ("eu--west-1", "`eu--west-1` is no region; did you mean `eu-west-1`?"),
        ("A_B", "`A_B` is no region: write it as in `eu-west-1_AbCdEfGhI`"),
    ],
)
def test_what_no_region_can_be_called(region: str, flaw: str) -> None:
    assert flaw_of_region(region) == flaw


@pytest.mark.parametrize(
    ("region", "hint"),
    [("eu-wst-1", "; did you mean `eu-west-1`?"), ("moon-base-7", ": write it as in `eu-west-1_AbCdEfGhI`")],
)
def test_what_may_be_a_region_of_tomorrow(region: str, hint: str) -> None:
    assert flaw_of_region(region) is None
    message = f"no region `{region}` is known; if AWS did not add it lately, no token will be taken{hint}"
    assert doubt_of_region(region) == message


def test_an_emulator_names_no_region() -> None:
    assert flaw_of_region("local") is None
    message = "`local` is no region of AWS, and an emulator's tokens name its URL: write that, `http://HOST/ID`"
    assert doubt_of_region("local") == message
