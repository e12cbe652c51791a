"""The files of one run: authz.yaml, Envoy's configuration and the policies, for the ports that were found."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from authz.demo.certificate import make_certificate

SAMPLES: Final = Path(__file__).parent
"""Where `api.yaml`, `browser.yaml` and `policies/` are: links to what people read, copies in an installed package."""

APP_HOST: Final = "app.localhost"
COGNITO_HOST: Final = "cognito.localhost"
AUTH0_HOST: Final = "auth0.localhost"
_SECRET: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 - a type's name


def copy_policies(source: Path, folder: Path) -> Path:
    """Copy a folder of policies into `folder`/policies, to be edited there."""
    return Path(shutil.copytree(source, folder / "policies"))


def write_service_config(
    folder: Path, *, ports: Mapping[str, int], policies: Path, pools: Sequence[Mapping[str, Any]]
) -> Path:
    """Write authz.yaml; `pools` are the entries of `cognito:`."""
    config = {
        "listen": f"127.0.0.1:{ports['authz_port']}",
        "admin": f"127.0.0.1:{ports['admin_port']}",
        "policies": str(policies).replace("$", "$$"),  # `${NAME}` would be taken from the environment
        "cognito": [dict(pool) for pool in pools],
        "enrich_from": {"header": "x-auth-id-token"},
        "hide_credentials": True,
    }
    path = folder / "authz.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def write_envoy_config(folder: Path, *, ports: Mapping[str, int], sample: Path = SAMPLES / "api.yaml") -> Path:
    """Write the sample with the addresses of this run and nothing else changed."""
    config = _for_these_ports(yaml.safe_load(sample.read_text(encoding="utf-8")), ports)
    return _write_json(folder / "envoy.json", config)


def write_browser_config(folder: Path, *, ports: Mapping[str, int], client_id: str, client_secret: str) -> Path:
    """Write the browser sample for the local Cognito, and the files with its secrets.

    What a person changes is changed: addresses and the app client. Besides, the local Cognito speaks no TLS.
    """
    text = (SAMPLES / "browser.yaml").read_text(encoding="utf-8")
    local = f"http://{COGNITO_HOST}:{ports['cognito_port']}"
    text = text.replace("https://example.auth.eu-west-1.amazoncognito.com", local)
    text = text.replace("10443", str(ports["browser_port"])).replace("your-app-client-id", client_id)
    config = _for_these_ports(
        yaml.safe_load(text),
        {**ports, "envoy_port": ports["browser_port"], "envoy_admin_port": ports["browser_admin_port"]},
    )
    _sign_in_without_tls(config, ports["cognito_port"])
    write_secrets(folder, client_secret)
    return _write_json(folder / "browser.json", config)


def write_secrets(folder: Path, client_secret: str) -> None:
    """Write the files that the browser sample reads from `folder`/secrets: its certificate is made on the spot."""
    home = folder / "secrets"
    home.mkdir(mode=0o700)
    certificate, key = make_certificate(APP_HOST)
    (home / "certificate.pem").write_bytes(certificate)
    (home / "certificate-key.pem").write_bytes(key)
    files = {"certificate_chain": "certificate.pem", "private_key": "certificate-key.pem"}
    pair = {kind: {"filename": f"secrets/{name}"} for kind, name in files.items()}
    _write_secret(home, "certificate", {"tls_certificate": pair})
    _write_secret(home, "client-secret", {"generic_secret": {"secret": {"inline_string": client_secret}}})
    _write_secret(home, "cookie-key", {"generic_secret": {"secret": {"inline_string": secrets.token_hex(32)}}})


def _write_secret(home: Path, name: str, content: Mapping[str, Any]) -> None:
    resource = {"@type": _SECRET, "name": name, **content}
    (home / f"{name}.yaml").write_text(json.dumps({"resources": [resource]}, indent=1), encoding="utf-8")


def _sign_in_without_tls(config: Any, port: int) -> None:  # noqa: ANN401 - YAML
    cluster = _clusters(config)["cognito"]
    del cluster["transport_socket"], cluster["dns_lookup_family"]
    cluster["type"] = "STATIC"
    _endpoint(cluster)["address"]["socket_address"] |= {"address": "127.0.0.1", "port_value": port}
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    routes = manager["route_config"]["virtual_hosts"][0]["routes"]
    redirect = next(route["redirect"] for route in routes if route["match"].get("path") == "/sign-out")
    del redirect["https_redirect"]
    redirect |= {"scheme_redirect": "http", "host_redirect": COGNITO_HOST, "port_redirect": port}


def _for_these_ports(config: Any, ports: Mapping[str, int]) -> Any:  # noqa: ANN401 - YAML
    _set_port(config["admin"], ports["envoy_admin_port"])
    _set_port(config["static_resources"]["listeners"][0], ports["envoy_port"])
    clusters = _clusters(config)
    _set_port(_endpoint(clusters["upstream"]), ports["upstream_port"])
    _set_port(_endpoint(clusters["authz"]), ports["authz_port"])
    return config


def _write_json(path: Path, config: Any) -> Path:  # noqa: ANN401 - YAML
    """Write as JSON: Envoy reads YAML 1.1, where a bare `on` is a boolean, and PyYAML would write such texts bare."""
    path.write_text(json.dumps(config, indent=1), encoding="utf-8")
    return path


def _clusters(config: Any) -> Mapping[str, Any]:  # noqa: ANN401 - YAML
    return {cluster["name"]: cluster for cluster in config["static_resources"]["clusters"]}


def _endpoint(cluster: Mapping[str, Any]) -> Any:  # noqa: ANN401 - YAML
    return cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]


def _set_port(holder: Any, port: int) -> None:  # noqa: ANN401 - YAML
    holder["address"]["socket_address"]["port_value"] = port
