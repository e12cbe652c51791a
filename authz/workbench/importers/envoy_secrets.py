"""The secrets of an imported Envoy configuration: which file each is read from, and which its user has to write."""

from __future__ import annotations

from typing import Final

from authz.workbench.importers.model import Import, Wire
from authz.workbench.importers.yaml_text import yaml_text

CERTIFICATE: Final = "secrets/certificate.yaml"
COOKIE_KEY: Final = "secrets/cookie-key.yaml"
OWN_CA: Final = "secrets/upstream-ca.yaml"


def secret(name: str, path: str) -> Wire:
    """Refer to the secret of this name in that file."""
    return {"name": name, "sds_config": {"resource_api_version": "V3", "path_config_source": {"path": path}}}


def client_secret(number: int) -> tuple[str, str]:
    """Give the name of a sign-in's client secret, and its file."""
    name = "client-secret" if number == 0 else f"client-secret-{number + 1}"
    return name, f"secrets/{name}.yaml"


def secret_files(imported: Import) -> dict[str, str]:
    """Say where each secret is read from. The files with the secrets are not there: Envoy serves nothing without."""
    files = {}
    if imported.tls:
        certificate = {
            "certificate_chain": {"filename": "secrets/certificate.pem"},
            "private_key": {"filename": "secrets/certificate-key.pem"},
        }
        files[CERTIFICATE] = _sds("certificate", {"tls_certificate": certificate})
    for number in range(len(imported.logins)):
        name, path = client_secret(number)
        files[path] = _sds(name, {"generic_secret": {"secret": {"filename": f"secrets/{name}.txt"}}})
    if imported.logins:
        files[COOKIE_KEY] = _sds("cookie-key", {"generic_secret": {"secret": {"filename": "secrets/cookie-key.txt"}}})
    if any(route.upstream is not None and route.upstream.own_ca for route in imported.routes):
        authorities = {"validation_context": {"trusted_ca": {"filename": "secrets/upstream-ca.pem"}}}
        files[OWN_CA] = _sds("upstream-ca", authorities)
    return files | ({"secrets/.gitignore": "*.pem\n*.txt\n"} if files else {})


def _sds(name: str, secret: Wire) -> str:
    kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
    return yaml_text({"resources": [{"@type": kind, "name": name, **secret}]})


def secrets_to_fill(imported: Import) -> list[str]:
    """Say which files its user has to write."""
    wanted = []
    if imported.tls:
        wanted.append("`secrets/certificate.pem` and `secrets/certificate-key.pem`: the certificate of your hosts")
    for number, login in enumerate(imported.logins):
        name = client_secret(number)[0]
        wanted.append(f"`secrets/{name}.txt`: the secret of the app client `{login.client_id}`, without a line end")
    if imported.logins:
        wanted.append(
            "`secrets/cookie-key.txt`: a new key for session cookies, such as `openssl rand -base64 32` gives"
        )
    if any(route.upstream is not None and route.upstream.own_ca for route in imported.routes):
        wanted.append("`secrets/upstream-ca.pem`: the authorities of your upstreams' certificates")
    return wanted
