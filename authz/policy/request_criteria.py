"""The criteria that look at the request: how it came, from where, with which certificate, and when."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from authz.errors import RequestError, Severity
from authz.model import Json, Reason, Request
from authz.node import Fields, Items, Node, Problems, Scalar, describe
from authz.policy import times
from authz.policy.certificates import certificate_matcher, is_trusted, read_certificate
from authz.policy.criterion import Build, Builder, Facts, Finding, Parts, warn_unused
from authz.policy.matchers import string_matcher
from authz.policy.path import decoded_path, decoded_text
from authz.reading import list_of, text_of


def _request_text(read: Callable[[Facts], str], yes: Reason, no: Reason) -> Build:
    def build(builder: Builder) -> Parts | None:
        matcher = string_matcher(builder.data, builder.name, builder.problems, builder.place)
        if matcher is None:
            return None
        good: Finding = (True, yes)
        bad: Finding = (False, no)
        test = matcher.test
        return Parts(
            lambda facts: good if test(read(facts)) else bad,
            matcher.wanted,
            lambda facts: (read(facts),),
            matcher.expects,
        )

    return build


def http_path(builder: Builder) -> Parts | None:
    """Build `http_path`: the canonical path, decoded. It never holds an escape, so a text with one is an error."""
    escaped = [value for value in _scalars(builder.data) if _ESCAPE.search(value.text)]
    for value in escaped:
        builder.problems.error(value, f"`http_path`: found {describe(value)}, {_without_escapes(value.text)}")
    parts = _decoded_path(builder)
    return None if escaped else parts


_ESCAPE: Final = re.compile("%[0-9A-Fa-f]{2}")


def _scalars(data: Node) -> Iterator[Scalar]:
    match data:
        case Scalar():
            yield data
        case Items():
            for item in data.items:
                yield from _scalars(item)
        case Fields():  # pragma: no branch - the last kind there is
            for _, value in data.entries:
                yield from _scalars(value)


def _without_escapes(text: str) -> str:
    try:
        return f"and the path is compared decoded: write `{decoded_text(text)}`"
    except RequestError as error:
        return f"which no request can match, because {error}: delete it"


def is_cors_preflight(request: Request) -> bool:
    """Tell whether this is a CORS preflight (Fetch standard, section 3.3.2)."""
    return bool(
        request.method == "OPTIONS" and request.header("origin") and request.header("access-control-request-method")
    )


def cors_preflight(builder: Builder) -> Parts:
    """Build `cors_preflight`: the browser's question before a request from another origin."""
    warn_unused(builder)
    good: Finding = (True, Reason.CORS_REQUEST)
    bad: Finding = (False, Reason.NON_CORS_REQUEST)
    return Parts(
        lambda facts: good if is_cors_preflight(facts.request) else bad,
        "a CORS preflight",
        lambda facts: (facts.request.method,),
    )


def source_ip(builder: Builder) -> Parts | None:
    """Build `source_ip`: the address that Envoy names as the client's, in one of the networks."""
    problems = builder.problems
    if isinstance(builder.data, Fields) or (isinstance(builder.data, Scalar) and builder.data.value is None):
        problems.error(
            builder.data,
            f"`source_ip`: found {describe(builder.data)}, expected an address, a network or a list of them; it takes "
            "no operators",
        )
        return None
    if isinstance(builder.data, Items) and not builder.data.items:
        problems.warn(builder.data.source, "`source_ip`: an empty list never matches: write an address or a network")
    known = networks_of(builder.data, problems)
    if known is None or (not known and not isinstance(builder.data, Items)):
        return None
    good: Finding = (True, Reason.SOURCE_IP_OK)
    bad: Finding = (False, Reason.SOURCE_IP_UNAUTHORIZED)
    unknown: Finding = (builder.if_unknown and bool(known), Reason.SOURCE_IP_UNAUTHORIZED)  # nobody is in no network

    def test(facts: Facts) -> Finding:
        try:
            address = plain_address(facts.request.source_ip)
        except ValueError:  # a Unix socket has none, nor has a `client_ip_header` without a single one
            return unknown
        return good if any(address in network for network in known) else bad

    wanted = "in " + ", ".join(map(str, known)) if known else "in no network"
    return Parts(test, wanted, lambda facts: (facts.request.source_ip,) if facts.request.source_ip else ())


def networks_of(node: Node, problems: Problems) -> Sequence[IPv4Network | IPv6Network] | None:
    """Read a network or a list of them; None after adding a problem."""
    networks = [_network(item, problems) for item in list_of(node, "`source_ip`", problems)]
    return None if None in networks else [network for network in networks if network is not None]


def plain_address(text: str) -> object:
    """Read an IP address; an IPv4-mapped IPv6 address equals its IPv4 one. Raises ValueError."""
    address = ip_address(text)
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _network(node: Node, problems: Problems) -> IPv4Network | IPv6Network | None:
    text = text_of(node, "`source_ip`", problems)
    if text is None:
        return None
    try:
        network = _read_network(text)
    except ValueError:
        problems.error(
            node, f"`source_ip`: found {describe(node)}, expected an address or a network such as 10.0.0.0/8"
        )
        return None
    address = ip_address(text.partition("/")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    if mapped is not None and network.prefixlen < 96:
        problems.error(
            node, f"`source_ip`: found {describe(node)}, more than all of IPv4: write {mapped}/{network.prefixlen}"
        )
        return None
    if mapped is not None:
        return IPv4Network((mapped, network.prefixlen - 96), strict=False)
    if "/" in text and str(network) != text.lower() and network.prefixlen < _HOST_BITS_MATTER[network.version]:
        problems.warn(
            node.source,
            f"`source_ip`: `{text}` takes all of {network}: write that if it is meant, or a longer prefix",
            Severity.NOTE,
        )
    return network


def _read_network(text: str) -> IPv4Network | IPv6Network:
    """Read ADDRESS or ADDRESS/LENGTH. Raises ValueError.

    Nothing else: a zone (`fe80::1%eth0`), which no peer's address has, would be dropped and any link let in; and of a
    mask (`10.0.0.5/0.0.0.0`) readers disagree whether it means one host or everybody.
    """
    address, _, length = text.partition("/")
    if "%" in address or (length and not _PREFIX_LENGTH.fullmatch(length)):
        raise ValueError("not ADDRESS/LENGTH")
    return ip_network(text, strict=False)


# With a shorter prefix, by IP version, host bits were hardly meant to be ignored.
_HOST_BITS_MATTER: Final[Mapping[int, int]] = {4: 8, 6: 16}
_PREFIX_LENGTH: Final = re.compile(r"[0-9]{1,3}")


def client_certificate(builder: Builder) -> Parts | None:
    """Build `client_certificate`: which certificate was presented; whether it is trusted is another's question."""
    matcher = certificate_matcher(builder.data, builder.problems)
    if matcher is None:
        return None
    good: Finding = (True, Reason.CLIENT_CERTIFICATE_OK)
    bad: Finding = (False, Reason.CLIENT_CERTIFICATE_UNAUTHORIZED)
    unknown: Finding = (builder.if_unknown, Reason.CLIENT_CERTIFICATE_UNAUTHORIZED)

    def test(facts: Facts) -> Finding:
        presented = facts.request.certificate
        certificate = read_certificate(presented)
        if certificate is None:
            return unknown if presented else bad
        return good if matcher.test(certificate) else bad

    return Parts(test, matcher.wanted, _look_at_certificate)


def _look_at_certificate(facts: Facts) -> Sequence[Json]:
    certificate = read_certificate(facts.request.certificate)
    return () if certificate is None else (f"fingerprint {certificate.fingerprint}",)


def invalid_client_certificate(builder: Builder) -> Parts:
    """Build `invalid_client_certificate`: true, to be denied by, when there is none or none that we trust."""
    warn_unused(builder)
    authorities = builder.context.authorities
    valid: Finding = (False, Reason.VALID_CLIENT_CERTIFICATE)
    missing: Finding = (True, Reason.CLIENT_CERTIFICATE_REQUIRED)
    invalid: Finding = (True, Reason.INVALID_CLIENT_CERTIFICATE)
    if not authorities:
        builder.problems.warn(
            builder.data.source,
            "`invalid_client_certificate`: never holds, because the configuration has no `client_certificate_ca:`; "
            "set it to a file with the authorities that issue your client certificates",
        )

    def test(facts: Facts) -> Finding:
        if not authorities:
            return valid
        if not facts.request.certificate:
            return missing
        certificate = read_certificate(facts.request.certificate)
        return valid if certificate is not None and is_trusted(certificate, authorities, facts.now) else invalid

    return Parts(test, "a missing or untrusted client certificate", _look_at_certificate)


def _time(compile_: Callable[[Node, Problems], times.TimeCriterion | None], yes: Reason, no: Reason) -> Build:
    def build(builder: Builder) -> Parts | None:
        compiled = compile_(builder.data, builder.problems)
        if compiled is None:
            return None
        good: Finding = (True, yes)
        bad: Finding = (False, no)
        test, found = compiled.test, compiled.found
        return Parts(
            lambda facts: good if test(facts.now) else bad,
            compiled.wanted,
            lambda facts: (found(facts.now),),
        )

    return build


http_method: Final = _request_text(
    lambda facts: facts.request.method, Reason.HTTP_METHOD_OK, Reason.HTTP_METHOD_UNAUTHORIZED
)
_decoded_path: Final = _request_text(
    lambda facts: decoded_path(facts.path), Reason.HTTP_PATH_OK, Reason.HTTP_PATH_UNAUTHORIZED
)
date: Final = _time(times.date_criterion, Reason.DATE_OK, Reason.DATE_UNAUTHORIZED)
day_of_week: Final = _time(times.day_of_week_criterion, Reason.DAY_OF_WEEK_OK, Reason.DAY_OF_WEEK_UNAUTHORIZED)


def time_of_day(builder: Builder) -> Parts | None:
    """Build `time_of_day`; what to write for a night depends on the block."""
    compile_ = partial(times.time_of_day_criterion, operator=builder.place.operator)
    return _time(compile_, Reason.TIME_OF_DAY_OK, Reason.TIME_OF_DAY_UNAUTHORIZED)(builder)
