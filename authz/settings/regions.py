"""The AWS regions that a user pool's id and host name, judged before tokens of nowhere are waited for in vain."""

from __future__ import annotations

import re
from typing import Final

from authz.reading import did_you_mean

# botocore's partitions.json; tests/unit/settings/test_regions.py compares. A later one is warned of and works.
REGIONS: Final = frozenset({
    "af-south-1", "ap-east-1", "ap-east-2", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1",
    "ap-south-2", "ap-southeast-1", "ap-southeast-2", "ap-southeast-3", "ap-southeast-4", "ap-southeast-5",
    "ap-southeast-6", "ap-southeast-7", "ca-central-1", "ca-west-1", "cn-north-1", "cn-northwest-1", "eu-central-1",
    "eu-central-2", "eu-north-1", "eu-south-1", "eu-south-2", "eu-west-1", "eu-west-2", "eu-west-3", "eusc-de-east-1",
    "il-central-1", "me-central-1", "me-south-1", "mx-central-1", "sa-east-1", "us-east-1", "us-east-2",
    "us-gov-east-1", "us-gov-west-1", "us-west-1", "us-west-2",
})  # fmt: skip
_FORM: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*-[0-9]+")
_WORD: Final = re.compile(r"[a-z0-9]+")
_POOL_OF_AWS: Final = re.compile(r"[a-z]{2,4}(-[a-z]+)+-[0-9]+_[0-9A-Za-z]+")


def region_of(pool_id: str) -> str:
    """Give the part of a pool's id that names its region."""
    return pool_id.rpartition("_")[0]


def flaw_of_region(region: str) -> str | None:
    """Say what is wrong with a name that no region can have. An emulator's id, `local_A`, begins with a plain word."""
    if _FORM.fullmatch(region) or _WORD.fullmatch(region):
        return None
    written = region.lower().replace("_", "-")
    hint = f": write `{written}`" if written in REGIONS else _hint(region)
    return f"`{region}` is no region{hint}"


def doubt_of_region(region: str) -> str | None:
    """Say what is odd about the name of a region, or None where it is known."""
    if region in REGIONS:
        return None
    if _WORD.fullmatch(region):
        return f"`{region}` is no region of AWS, and an emulator's tokens name its URL: write that, `http://HOST/ID`"
    return f"no region `{region}` is known; if AWS did not add it lately, no token will be taken{_hint(region)}"


def _hint(region: str) -> str:
    return did_you_mean(region, sorted(REGIONS)) or ": write it as in `eu-west-1_AbCdEfGhI`"


def is_pool_of_aws(text: str) -> bool:
    """Tell whether the text can be nothing but the id of a user pool."""
    return _POOL_OF_AWS.fullmatch(text) is not None
