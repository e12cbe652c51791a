"""The names of Envoy's filters and of the messages that configure them."""

from __future__ import annotations

from typing import Final

TYPE: Final = "type.googleapis.com/envoy.extensions"
HTTP: Final = f"{TYPE}.filters.http"
OAUTH2: Final = "envoy.filters.http.oauth2"
EXT_AUTHZ: Final = "envoy.filters.http.ext_authz"
