"""Where a refused browser is sent instead of reading a page.

Only a person who navigates is sent anywhere: GET or HEAD, HTML preferred, no XHR, no gRPC. Targets come from the files
alone (`policy/refusals.py` judged them); of the request nothing but the encoded value of `{url}` gets in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from authz.errors import RequestError
from authz.model import Request
from authz.policy.path import Host, canonical_host, canonical_path
from authz.policy.refusals import URL, path_of
from authz.transport.preference import Form, preferred_form

MAX_URL_LENGTH: Final = 4096  # characters, encoded; Envoy and browsers bound what a Location header may hold
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}


def redirect_target(request: Request, status: int, targets: Mapping[int, str]) -> str | None:
    """Give the Location for this refusal, or None where a page is the answer."""
    target = targets.get(status)
    if target is None or not is_navigation(request):
        return None
    try:
        host = canonical_host(request.host)
    except RequestError:
        return None
    authority = host.name if host.port is None else f"{host.name}:{host.port}"
    if _is_here(target, host, request.path):
        return None
    origin = f"{request.scheme if request.scheme in ('http', 'https') else 'https'}://{authority}"
    url = origin + request.path
    if len(url) <= MAX_URL_LENGTH:  # a longer one is not encoded first: that takes time for each character
        url = quote(url, safe="", errors="replace")
    if len(url) > MAX_URL_LENGTH:
        url = quote(f"{origin}/", safe="")  # half an address would lead astray
    return target.replace(URL, url)


def is_navigation(request: Request) -> bool:
    """Tell whether a person in a browser opens this address, as far as headers tell (Fetch Metadata, section 2.3)."""
    return (
        request.method in ("GET", "HEAD")
        and preferred_form(request) is Form.HTML
        and not request.header("x-requested-with")
        and request.header("sec-fetch-mode") in ("", "navigate")
    )


def _is_here(target: str, host: Host, path: str) -> bool:
    """Tell whether the target is the refused page itself: a sign-in page that is refused must not call itself.

    The request's scheme does not count: behind a proxy that ends TLS it is another than the browser's.
    """
    place = path_of(target)
    if not place.startswith("/"):
        scheme, _, rest = place.partition("://")
        authority, slash, rest = rest.partition("/")
        there, port = canonical_host(authority), _DEFAULT_PORTS[scheme]
        if (there.name, there.port or port) != (host.name, host.port or port):
            return False
        place = slash + rest or "/"
    try:
        return canonical_path(place, allow_parameters=True) == canonical_path(path, allow_parameters=True)
    except RequestError:  # a browser may make the refused page's path of it
        return True
