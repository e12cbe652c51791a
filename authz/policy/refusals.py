"""What a route says of its refusals: the author's texts, where browsers are sent, the scopes it asks for.

A redirect goes where the configuration says and nowhere else: a target is an absolute https URL (http to this machine
only) or a path of the refused host, and `{url}`, the refused address, can only be a value in its query or fragment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Final, TypeAlias

from authz.errors import RequestError
from authz.loopback import is_loopback
from authz.model import Guidance
from authz.node import Fields, Items, Node, Problems, Scalar, describe, shorten
from authz.policy.criterion import Criterion
from authz.policy.decision import Policy
from authz.policy.path import canonical_host, canonical_path
from authz.reading import text_of

Redirects: TypeAlias = tuple[tuple[int, str], ...]
"""HTTP status of a denial → target. As pairs, because a decision's words are hashable."""

GUIDANCE_KEYS: Final = ("explanation", "remediation")
MAX_GUIDANCE_BYTES: Final = 600  # escaped, in UTF-8; two of them and our page fit into what Envoy passes on
REDIRECT_STATUSES: Final = (401, 403, 404, 503)
URL: Final = "{url}"
MAX_TARGET_LENGTH: Final = 2048


def read_guidance(fields: Fields, what: str, problems: Problems) -> Guidance:
    """Read `explanation` and `remediation`, of a route or a rule."""
    return Guidance(*(_text(fields.get(key), f"{what}: `{key}`", problems) for key in GUIDANCE_KEYS))


_UNPRINTABLE: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def _text(node: Node | None, what: str, problems: Problems) -> str:
    if node is None:
        return ""
    text = (text_of(node, what, problems) or "").strip()
    size = len(escape(text).encode("utf-8", "replace"))
    if _UNPRINTABLE.search(text):
        problems.error(node, f"{what}: found a control character: delete it")
    elif size > MAX_GUIDANCE_BYTES:
        problems.error(
            node, f"{what}: takes {size} bytes in a page, expected at most {MAX_GUIDANCE_BYTES}: say it shorter"
        )
    elif not text and isinstance(node, Scalar) and isinstance(node.value, str) and node.value:
        problems.error(node, f"{what}: found blanks only, expected text")
    return text


# --- redirects --------------------------------------------------------------------------------------------------


def redirects_of(node: Node, what: str, problems: Problems) -> Redirects | None:
    """Read `denied_redirect`: a map of statuses to targets. None when it is no map."""
    if not isinstance(node, Fields) or not node.entries:
        found = "an empty map" if isinstance(node, Fields) else describe(node)
        problems.error(node, f"{what}: found {found}, expected a map such as {{401: 'https://HOST/sign-in'}}")
        return None
    redirects = []
    for key, value in node.entries:
        target = text_of(value, f"{what}: {shorten(key.text)}", problems)
        fault = None if target is None else _fault(target)
        if key.text not in _STATUS_WORDS:
            problems.error(key, f"{what}: {_no_status(key.text)}")
        elif target is not None and fault is not None:
            shown = f"`{shorten(target)}`" if target.isprintable() else "its value"
            problems.error(value, f"{what}: {key.text}: {shown} {fault}")
        elif target is not None:
            redirects.append((int(key.text), target))
    return tuple(redirects)


_STATUS_WORDS: Final = tuple(map(str, REDIRECT_STATUSES))


def _no_status(found: str) -> str:
    if found == "400":
        return "400: a request that cannot be judged safely is never redirected: delete it"
    known = ", ".join(f"`{status}`" for status in _STATUS_WORDS)
    return f"found `{shorten(found)}`, expected the status of a refusal, {known}"


# RFC 3986 section 2 without `\`, which browsers read as `/`, and without what no URL may hold.
_URL_TEXT: Final = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]*")
_ABSOLUTE: Final = re.compile(r"(?P<scheme>https?)://(?P<authority>[^/?#]*)(?P<rest>.*)", re.DOTALL)


def _fault(target: str) -> str | None:
    """Say what keeps the target from being one, completing "`target` …"."""
    before, url, _ = target.partition(URL)
    if url and "?" not in before and "#" not in before:
        return f"has {URL} before its query: write it as a value, `?return={URL}`"
    rest = target.replace(URL, "")
    if "{" in rest or "}" in rest:
        return f"has a placeholder that is not {URL}: only that is known"
    if not _URL_TEXT.fullmatch(rest):
        return "has a character that no URL may hold: percent-encode it"
    if len(target) > MAX_TARGET_LENGTH:
        return f"is longer than {MAX_TARGET_LENGTH} characters: shorten it"
    return _path_fault(rest) if rest.startswith("/") else _absolute_fault(rest)


def _path_fault(target: str) -> str | None:
    """Do so for a path of the refused host, where its request comes to us in normal form."""
    if target[1:2] == "/":
        return "starts with `//`, which browsers read as another host: write one `/`"
    path = path_of(target)
    try:
        normal = canonical_path(path, allow_parameters=True)
    except RequestError as error:
        return f"would be refused itself, because {error}"
    return None if ";" in path or normal == path else f"is not in the form that paths are compared in: write `{normal}`"


def path_of(target: str) -> str:
    """Give the path of a path with query and fragment."""
    return target.partition("#")[0].partition("?")[0]


def _absolute_fault(target: str) -> str | None:
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        return "is neither an https URL nor a path: write https://HOST/PATH or /PATH"
    if "@" in match["authority"]:
        return "holds a user name or password: delete it"
    try:
        host = canonical_host(match["authority"])
    except RequestError:
        return "has no host name that could be looked up: write https://HOST/PATH"
    if match["scheme"] == "http" and not _is_loopback(host.name):
        return "is plain http to another machine: write https://"
    return None


def _is_loopback(name: str) -> bool:
    """Tell whether the canonical host name is this machine's; `.localhost` is by RFC 6761 section 6.3."""
    return name.endswith(".localhost") or is_loopback(name.strip("[]"))


# --- scopes -----------------------------------------------------------------------------------------------------


def scopes_of(policy: Policy) -> tuple[str, ...]:
    """Name the scopes that can fulfil the policy's `scope` criteria, in file order, each once."""
    asking = [block.criteria for block in policy.allow if not block.operator.inverts]
    asking += [block.criteria for block in policy.deny if block.operator.inverts]
    return tuple(dict.fromkeys(scope for criteria in asking for scope in _scopes(criteria)))


def _scopes(criteria: Sequence[Criterion]) -> Iterator[str]:
    for criterion in criteria:
        if criterion.name == "scope":
            yield from filter(_SCOPE.fullmatch, _named(criterion.data))


_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 section 3.3


def _named(data: Node | None) -> Iterable[str]:
    """Give the texts that a string matcher wants to be equal."""
    nodes = [data.get("is"), *_items(data.get("in"))] if isinstance(data, Fields) else [data]
    return (node.text for node in nodes if isinstance(node, Scalar))


def _items(node: Node | None) -> Sequence[Node]:
    return node.items if isinstance(node, Items) else ()
