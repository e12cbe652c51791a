"""User pools, the entries of `cognito`: whose tokens are good, and where the keys are that say so."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from authz.identity.cognito import UserPool
from authz.loopback import is_loopback
from authz.node import Items, Node, Problems, Scalar, describe
from authz.reading import text_of
from authz.settings.regions import doubt_of_region, flaw_of_region, is_pool_of_aws, region_of
from authz.settings.types import Pool
from authz.settings.values import (
    Section,
    bounded_duration_of,
    choice_of,
    filled_list_of,
    section_of,
    switch_of,
    why_unreadable,
)

_POOL_KEYS: Final = ("user_pool", "clients", "token_use", "issuers", "jwks_uri", "leeway", "trust_unverified_email")
POOL_ID: Final = re.compile(r"[\w-]{1,53}_[0-9a-zA-Z]+", re.ASCII)  # Amazon Cognito API reference, UserPoolType
_ISSUER = re.compile(r"https?://[!-\"$->A-~]+")  # printable ASCII without `#`, `?` and `@`
DISCOVERY: Final = "/.well-known/openid-configuration"
_JWKS: Final = "/.well-known/jwks.json"
# Where user pools issue tokens: this host and the pool's id, nothing else (reference/cognito.md section 2).
_COGNITO: Final = re.compile(
    r"https?://(issuer-)?cognito-idp(-fips)?\.(?P<region>[\w-]+)\.amazonaws\.(com(\.cn)?|eu)(:[0-9]+)?(?=/|$)"
)
_DOMAINS: Final = {"cn": "amazonaws.com.cn", "eusc": "amazonaws.eu"}  # of the partitions that have their own
_SIGN_IN_DOMAIN: Final = re.compile(r"https?://[^/]+\.amazoncognito\.com(:[0-9]+)?(/|$)")
_ANY: Final = frozenset({"any"})
_LONG_LEEWAY: Final = timedelta(seconds=60)


class _UserPoolName(NamedTuple):
    label: str
    issuer: str


def pools_of(node: Node, name: str, problems: Problems) -> tuple[Pool, ...] | None:
    """Read the user pools; no issuer may belong to two of them."""
    if not isinstance(node, Items) or not node.items:
        problems.error(node, f"{name}: found {describe(node)}, expected a list of user pools: write - user_pool: …")
        return None
    pools = []
    owners: dict[str, str] = {}  # issuer → the entry that has it
    for number, item in enumerate(node):
        entry = f"{name}[{number}]"
        section = section_of(item, entry, _POOL_KEYS, problems)
        pool = None if section is None else _pool(section)
        if section is None or pool is None:
            continue
        for issuer in pool.pool.issuers:
            owner = owners.setdefault(issuer, entry)
            if owner != entry:
                place = section.node("issuers") or section.node("user_pool") or item
                problems.error(place, f"{entry}: issuer `{issuer}` belongs to {owner} already: delete one of them")
        pools.append(pool)
    return tuple(pools)


def _pool(entry: Section) -> Pool | None:
    named = entry.read("user_pool", _user_pool, None)
    issuers = entry.read("issuers", _issuers, None)
    uri = entry.read("jwks_uri", _jwks_uri, None)
    clients = entry.mandatory(
        "clients", _clients, "write the ids of the app clients, or `clients: any` to accept every client"
    )
    token_use = entry.mandatory("token_use", _token_use, "write `access`, `id` or both")
    leeway = entry.read("leeway", _LEEWAY, timedelta())
    trust_unverified_email = entry.read("trust_unverified_email", switch_of, default=False)
    _warn_of_leeway(entry, leeway)
    if entry.node("user_pool") is None and (entry.node("issuers") is None or entry.node("jwks_uri") is None):
        advice = "write the pool's id, such as `eu-west-1_AbCdEfGhI`, or both `issuers` and `jwks_uri`"
        entry.problems.error(entry.fields, f"{entry.name('user_pool')}: missing: {advice}")
    if named is not None:
        if issuers is None or uri is None:  # else the id is but a label
            _judge_region(entry, named, names_issuer=issuers is None)
        issuers = issuers or (named.issuer,)
        uri = uri or _derived_jwks_uri(entry, named)
    if issuers is None or uri is None or clients is None or token_use is None:
        return None
    pool = UserPool(
        issuers=issuers,
        clients=None if clients == _ANY else clients,
        token_use=token_use,
        leeway=leeway.total_seconds(),
        trust_unverified_email=trust_unverified_email,
        label=named.label if named else issuers[0],
    )
    return Pool(pool, uri)


def _user_pool(node: Node, name: str, problems: Problems) -> _UserPoolName | None:
    """Read a pool's id, or its issuer or discovery URL, which users of other proxies have at hand."""
    text = text_of(node, name, problems)
    if text is None:
        return None
    if POOL_ID.fullmatch(text):
        region = region_of(text)
        domain = _DOMAINS.get(region.partition("-")[0], "amazonaws.com")
        return _UserPoolName(text, f"https://cognito-idp.{region}.{domain}/{text}")
    issuer = text.removesuffix(DISCOVERY)
    is_url = _ISSUER.fullmatch(issuer)
    if is_url and (advice := _instead_of(issuer.rstrip("/"))) is not None:
        problems.error(node, f"{name}: found {describe(node)}, which is no issuer: {advice}")
        return None
    if is_url and not issuer.endswith("/"):
        last = issuer.rpartition("/")[2]
        return _UserPoolName(last if POOL_ID.fullmatch(last) else issuer, issuer)
    expected = "a pool id such as `eu-west-1_AbCdEfGhI`, or its issuer URL without a slash at the end"
    problems.error(node, f"{name}: found {_describe_url(node)}, expected {expected}")
    return None


def _judge_region(entry: Section, named: _UserPoolName, *, names_issuer: bool) -> None:
    """Refuse an id or a host that no token can name, and warn of what hardly any will."""
    node, name = entry.node("user_pool"), entry.name("user_pool")
    host = _COGNITO.match(named.issuer)
    if node is None or host is None or not POOL_ID.fullmatch(named.label):
        return
    regions = dict.fromkeys((region_of(named.label), host["region"]))
    flaws = [flaw for region in regions if (flaw := flaw_of_region(region))]
    doubts = [doubt for region in regions if (doubt := doubt_of_region(region))]
    if flaws:
        entry.problems.error(node, f"{name}: found {describe(node)}: {flaws[0]}")
    elif doubts:
        entry.problems.warn(node.source, f"{name}: {doubts[0]}")
    elif len(regions) > 1 and names_issuer:
        message = (
            f"a pool of {region_of(named.label)} at a host of {host['region']}: only tokens of a replica there would "
            f"be taken; write `{named.label}`, and both issuers under `issuers` if there is a replica"
        )
        entry.problems.warn(node.source, f"{name}: {message}")


def _instead_of(url: str) -> str | None:
    """Say what to write instead of a URL that no token can name as its issuer, or None."""
    issuer = url.removesuffix(_JWKS).removesuffix(DISCOVERY)
    if _SIGN_IN_DOMAIN.match(issuer):
        pool = "`https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEfGhI`"
        return f"it is a domain to sign in at; write the user pool's, such as {pool}"
    cognito = _COGNITO.match(issuer)
    if cognito and not POOL_ID.fullmatch(issuer[cognito.end() + 1 :]):
        return f"write `{cognito.group()}/` and the pool's id, nothing else"
    return None if issuer == url else f"it is a document below one; write `{issuer}`"


def _derived_jwks_uri(entry: Section, named: _UserPoolName) -> str | None:
    node = entry.node("user_pool")
    if node is None or entry.node("jwks_uri") is not None:
        return None
    uri = named.issuer + _JWKS
    flaw = _flaw(uri)
    if flaw:
        entry.problems.error(node, f"{entry.name('user_pool')}: its keys would be fetched from a URL that {flaw}")
    return uri


def _issuers(node: Node, name: str, problems: Problems) -> tuple[str, ...] | None:
    issuers = []
    for number, item in enumerate(filled_list_of(node, name, "issuer URLs", problems)):
        issuer = text_of(item, f"{name}[{number}]", problems)
        if issuer in issuers:
            problems.error(item, f"{name}[{number}]: `{issuer}` is there twice: delete one")
        elif issuer is not None and not _ISSUER.fullmatch(issuer):
            expected = "an http(s) URL without blanks, user name, query or fragment"
            problems.error(item, f"{name}[{number}]: found {_describe_url(item)}, expected {expected}")
        elif issuer is not None and (advice := _instead_of(issuer)) is not None:
            problems.error(item, f"{name}[{number}]: found {describe(item)}, which is no issuer: {advice}")
        elif issuer is not None:
            issuers.append(issuer)
    return tuple(issuers) or None


def _clients(node: Node, name: str, problems: Problems) -> frozenset[str] | None:
    items = filled_list_of(node, name, "ids of app clients, or `any` to accept every client", problems)
    clients = frozenset(
        client
        for number, item in enumerate(items)
        if (client := _client(item, f"{name}[{number}]" if isinstance(node, Items) else name, problems))
    )
    if clients > _ANY:
        problems.error(node, f"{name}: found `any` beside client ids: write `clients: any`, or the ids alone")
    return clients or None


def _client(node: Node, name: str, problems: Problems) -> str | None:
    client = text_of(node, name, problems)
    if client is not None and re.search(r"\s", client):
        problems.error(node, f"{name}: found {describe(node)}, a client id has no blanks: write a list of ids")
        return None
    if client is not None and client not in _ANY and client.lower() in {"any", "*"}:
        problems.error(
            node, f"{name}: found {describe(node)}, no client id: write ids, or `any` to accept every client"
        )
        return None
    if client is not None and is_pool_of_aws(client):
        problems.warn(node.source, f"{name}: `{client}` is a user pool's id, and no client's: write ids of app clients")
    return client


_TOKEN_USE: Final = choice_of(("access", "id"), "`access`, `id` or both")


def _token_use(node: Node, name: str, problems: Problems) -> frozenset[str] | None:
    if isinstance(node, Scalar) and node.value == "both":
        return frozenset({"access", "id"})
    if isinstance(node, Items) and node.items:
        return frozenset(use for item in node if (use := _TOKEN_USE(item, name, problems)))
    use = _TOKEN_USE(node, name, problems)
    return None if use is None else frozenset({use})


_LEEWAY: Final = bounded_duration_of(lambda leeway: leeway <= timedelta(minutes=5), "at most `5m`")


def _warn_of_leeway(entry: Section, leeway: timedelta) -> None:
    node = entry.node("leeway")
    if node is not None and leeway > _LONG_LEEWAY:
        message = "longer than `60s`: a token stays good that long after its end; let the clocks be set right instead"
        entry.problems.warn(node.source, f"{entry.name('leeway')}: {message}")


def _jwks_uri(node: Node, name: str, problems: Problems) -> str | None:
    uri = text_of(node, name, problems)
    flaw = uri and _flaw(uri)
    if flaw:
        problems.error(node, f"{name}: found {_describe_url(node)}, which {flaw}")
        return None
    parts = urlsplit(uri or "")
    if parts.scheme == "file":
        try:
            Path(unquote(parts.path)).stat()
        except (OSError, ValueError) as error:
            message = f"{parts.path} cannot be read: {why_unreadable(error)}; tokens are answered with 503 until it can"
            problems.warn(node.source, f"{name}: {message}")
    return uri


def _describe_url(node: Node) -> str:
    """Say what was found, without repeating a password."""
    return "a URL with `@`" if isinstance(node, Scalar) and "@" in node.text else describe(node)


def _flaw(uri: str) -> str | None:
    """Say why keys must not be fetched from there: whoever can change them can sign every token."""
    if not re.fullmatch(r"[!-\[\]-~]+", uri):
        return "holds blanks or characters that a URL cannot have"
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is not a URL"
    if "#" in uri:
        return "has a fragment: delete it from `#` on"
    if "@" in parts.netloc:
        return "holds a user name or password: delete it"
    if parts.path.endswith(DISCOVERY):
        return f"is the discovery document and holds no keys: write the `jwks_uri` in it, such as `…{_JWKS}`"
    if parts.scheme == "file":
        is_file = not parts.netloc and parts.path.startswith("/") and "?" not in uri
        return None if is_file else "names no local file: write `file:///path`"
    if parts.scheme not in {"http", "https"} or not host:
        return "is not https: write `https://host/path`"
    if parts.scheme == "http" and not is_loopback(host):
        return "is plain http to another machine: write `https://`"
    return None
