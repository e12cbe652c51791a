"""The files of one run: authz.yaml, Envoy's configuration and the policies, for the ports that were found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

SAMPLES: Final = Path(__file__).parent
"""Where `api.yaml` and `policies/` are: links to the ones that people read, copies in an installed package."""


def copy_policies(source: Path, folder: Path) -> Path:
    """Copy a file or folder of policies into `folder`/policies, to be edited there."""
    target = folder / "policies"
    if source.is_dir():
        return Path(shutil.copytree(source, target))
    target.mkdir()
    shutil.copy(source, target)
    return target


def write_service_config(
    folder: Path, *, ports: Mapping[str, int], policies: Path, pools: Sequence[Mapping[str, Any]]
) -> Path:
    """Write authz.yaml; `pools` are the entries of `cognito:`."""
    config = {
        "listen": f"127.0.0.1:{ports['authz_port']}",
        "admin": f"127.0.0.1:{ports['admin_port']}",
        "policies": str(policies).replace("$", "$$"),  # `${NAME}` would be taken from the environment
        "cognito": [dict(pool) for pool in pools],
    }
    path = folder / "authz.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def write_envoy_config(folder: Path, *, ports: Mapping[str, int], sample: Path = SAMPLES / "api.yaml") -> Path:
    """Write the sample with the addresses of this run and nothing else changed.

    As JSON: Envoy reads YAML 1.1, where a bare `on` or `y` is a boolean, and PyYAML would write such texts bare.
    """
    config = yaml.safe_load(sample.read_text(encoding="utf-8"))
    _set_port(config["admin"], ports["envoy_admin_port"])
    _set_port(config["static_resources"]["listeners"][0], ports["envoy_port"])
    clusters = {cluster["name"]: cluster for cluster in config["static_resources"]["clusters"]}
    _set_port(_endpoint(clusters["upstream"]), ports["upstream_port"])
    _set_port(_endpoint(clusters["authz"]), ports["authz_port"])
    path = folder / "envoy.json"
    path.write_text(json.dumps(config, indent=1), encoding="utf-8")
    return path


def _endpoint(cluster: Mapping[str, Any]) -> Any:  # noqa: ANN401 - YAML
    return cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]


def _set_port(holder: Any, port: int) -> None:  # noqa: ANN401 - YAML
    holder["address"]["socket_address"]["port_value"] = port
