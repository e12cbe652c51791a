"""The policy language once more: slow, obvious, and written from its specification pages alone.

It reads plain data (what a JSON or YAML 1.2 reader gives) and shares no code with authz/policy. Property tests hold the
compiled policies to it. It knows the whole language but client certificates, expects policies that load, and decides
everything anew for every request. All it may not be is wrong: where the two disagree, read policy-language.md.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo


class Visit(NamedTuple):
    """A request as plain data."""

    method: str
    host: str
    path: str
    headers: dict[str, str]
    ip: str
    at: datetime  # with a zone
    route_id: str | None = None


class Caller(NamedTuple):
    """A verified caller."""

    subject: str
    issuer: str
    client_id: str
    token_use: str
    claims: dict[str, Any]


class Outcome(NamedTuple):
    """What the page says must happen. `status` is 200 for an allow; `route` is the route's place, or None."""

    status: int
    reasons: list[str]
    route: int | None


def interpret(routes: list[dict[str, Any]], visit: Visit, caller: Caller | str | None) -> Outcome:
    """Decide. `caller` is None for nobody, and a reason for a bad token."""
    host, path = safe_host(visit.host), safe_path(visit.path)
    if host is None or path is None or not re.fullmatch(r"[A-Z0-9!#$%&'*+.^_`|~-]+", visit.method):
        return Outcome(400, ["request-malformed"], None)
    number = find_route(routes, host, path, visit.route_id)
    if number is None:
        return Outcome(404, ["route-not-found"], None)
    known = caller if isinstance(caller, Caller) else None
    allow, deny = rules_of(routes[number])
    says = Judge(visit, path, known)
    allowed, allow_reasons = says.rules(allow, unknown=False)
    denied, deny_reasons = says.rules(deny, unknown=True)
    asking = [reasons for reasons in (allow_reasons, deny_reasons) if "user-unauthenticated" in reasons]
    if asking:  # a login, or what was wrong with the token: before the other reasons of whoever asks
        first = caller if isinstance(caller, str) else "user-unauthenticated"
        others = [reason for reasons in asking for reason in reasons if reason != "user-unauthenticated"]
        return Outcome(503 if first == "keys-unavailable" else 401, once([first, *others]), number)
    if denied:
        return Outcome(403, deny_reasons, number)
    if allowed:
        return Outcome(200, allow_reasons, number)
    return Outcome(403, allow_reasons or ["no-rule"], number)


def once(words: list[str]) -> list[str]:
    kept: list[str] = []
    for word in words:
        if word not in kept:
            kept.append(word)
    return kept


# --- Which route -------------------------------------------------------------------------------------------------


def find_route(
    routes: list[dict[str, Any]], host: tuple[str, int | None], path: str, route_id: str | None
) -> int | None:
    if route_id is not None:
        named = [number for number, route in enumerate(routes) if route.get("id") == route_id]
        return named[0] if named else None
    name, port = host
    hosts = [from_of(route) for route in routes]
    if any(name == own for own, _ in hosts):  # a host that has routes of its own never falls back to a wildcard
        exact_port = [
            n for n, (own, own_port) in enumerate(hosts) if own == name and own_port is not None and own_port == port
        ]
        any_port = [n for n, (own, own_port) in enumerate(hosts) if own == name and own_port is None]
        candidates = exact_port or any_port
    else:
        candidates = [
            n
            for n, (own, own_port) in enumerate(hosts)
            if "*" in own and star_matches(own, name) and own_port in (None, port)
        ]
    for number in candidates:
        if path_fits(routes[number], path):
            return number
    return None


def from_of(route: dict[str, Any]) -> tuple[str, int | None]:
    scheme, _, rest = route["from"].partition("://")
    rest = rest.rstrip("/")
    name, port = split_port(rest)
    default = {"http": "80", "https": "443"}[scheme.lower()]
    return one_form(name.lower().rstrip(".")), None if port in ("", default) else int(port)


def split_port(text: str) -> tuple[str, str]:
    """Split at the colon that is not within an IPv6 address's brackets."""
    address, bracket, rest = text.partition("]")
    name, _, port = (rest if bracket else text).partition(":")
    return address + bracket + name if bracket else name, port


def one_form(name: str) -> str:
    """Write an IPv6 address in one way; leave other names."""
    return f"[{ipaddress.IPv6Address(name[1:-1])}]" if name.startswith("[") else name


def star_matches(pattern: str, text: str) -> bool:
    """Any run of characters for each star, by trying all of them."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(star_matches(pattern[1:], text[start:]) for start in range(len(text) + 1))
    return bool(text) and text[0] == pattern[0] and star_matches(pattern[1:], text[1:])


def path_fits(route: dict[str, Any], path: str) -> bool:
    if "regex" in route:
        return re.fullmatch(route["regex"], path) is not None  # the tests use patterns that re and RE2 read alike
    if "path" in route:
        return path == normal_escapes(route["path"])
    return path.startswith(normal_escapes(route.get("prefix", "")))


def normal_escapes(text: str) -> str:
    """Bring a policy's own path into the form of requests: ASCII, unreserved characters plain, digits upper-case."""
    text = "".join(char if ord(char) < 128 else "".join(f"%{byte:02X}" for byte in char.encode()) for char in text)
    return re.sub("%(..)", lambda escape: normal_escape(escape[1]), text)


def normal_escape(digits: str) -> str:
    char = chr(int(digits, 16))
    plain = char.isascii() and (char.isalnum() or char in "-_~")
    return char if plain else f"%{digits.upper()}"


def safe_host(raw: str) -> tuple[str, int | None] | None:
    if len(raw) > len("x" * 255 + ":65535"):
        return None
    name, port = split_port(raw.lower())
    has_port = bool(port) or raw.endswith(":")
    if any(ord(char) > 127 for char in raw) or (has_port and not re.fullmatch("[1-9][0-9]{0,4}", port)):
        return None
    if has_port and int(port) > 65535:
        return None
    number = int(port) if has_port else None
    if re.fullmatch(r"\[[0-9a-f:.]+\]", name):
        try:
            return one_form(name), number
        except ValueError:
            return None
    labels = name.removesuffix(".").split(".")
    if not all(labels) or any(not (char.isalnum() or char in "-_") for label in labels for char in label):
        return None
    return ".".join(labels), number


def safe_path(raw: str) -> str | None:
    """Give the path that is judged, or None for what two programs could read differently."""
    if any(not 0x21 <= ord(char) <= 0x7E for char in raw) or "#" in raw:
        return None
    path = raw.split("?", maxsplit=1)[0]
    if not path.startswith("/") or "\\" in path or "//" in path or ";" in path:
        return None
    result, rest, octets = "", path, b""
    while rest:
        if rest[0] in '"<>[]^`{|}':  # RFC 3986 lets a path hold none of these as they are
            rest = f"%{ord(rest[0]):02X}{rest[1:]}"
        if rest[0] != "%":
            result, octets, rest = result + rest[0], octets + rest[0].encode(), rest[1:]
            continue
        digits = rest[1:3]
        if len(digits) < 2 or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
            return None
        byte = int(digits, 16)
        if byte < 0x20 or byte == 0x7F or chr(byte) in "/\\;.":
            return None
        result, octets, rest = result + normal_escape(digits), octets + bytes([byte]), rest[3:]
    if re.search("%25[0-9A-Fa-f]{2}", result):
        return None
    if any(segment in (".", "..") for segment in result.split("/")):
        return None
    try:
        octets.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return result


# --- Who may pass ------------------------------------------------------------------------------------------------

Block = tuple[str, list[dict[str, Any]]]


def rules_of(route: dict[str, Any]) -> tuple[list[Block], list[Block]]:
    """Give the blocks of allow and of deny: the plain keys as one `or`, then the PPL rules."""
    plain: list[dict[str, Any]] = []
    if route.get("allow_public_unauthenticated_access"):
        plain.append({"accept": None})
    if route.get("cors_allow_preflight"):
        plain.append({"cors_preflight": None})
    if route.get("allow_any_authenticated_user"):
        plain.append({"authenticated_user": None})
    plain += [{"domain": domain} for domain in listed(route.get("allowed_domains", []))]
    claims = route.get("allowed_idp_claims", {})
    for name in sorted(claims):
        plain += [{f"claim/{name}": value} for value in listed(claims[name])]
    for user in listed(route.get("allowed_users", [])):
        plain += [{"user": user}, {"email": user}]
    allow: list[Block] = [("or", plain)]
    deny: list[Block] = []
    for rule in listed(route.get("policy", [])):
        for effect, body in rule.items():
            blocks = [(operator, criteria) for operator, criteria in body.items() if operator != "action"]
            (allow if effect == "allow" else deny).extend(blocks)
    return [block for block in allow if block[1]], [block for block in deny if block[1]]


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


class Judge:
    """Judges blocks and criteria for one request."""

    def __init__(self, visit: Visit, path: str, caller: Caller | None) -> None:
        self.visit = visit
        self.path = path
        self.caller = caller

    def rules(self, blocks: list[Block], *, unknown: bool) -> tuple[bool, list[str]]:
        """Blocks are joined by or; none is false. What nobody can know is `unknown`: it never lets anybody in."""
        judged = [self.block(operator, criteria, unknown) for operator, criteria in blocks]
        truth = any(holds for holds, _ in judged)
        return truth, once([reason for holds, reasons in judged if holds == truth for reason in reasons])

    def block(self, operator: str, criteria: list[dict[str, Any]], unknown: bool) -> tuple[bool, list[str]]:
        findings = []
        for criterion in criteria:
            for name, data in criterion.items():
                holds, reason = self.criterion(name, data)
                if name == "source_ip" and listed(data) and not is_address(self.visit.ip):
                    findings.append((unknown, reason))
                else:
                    findings.append((not holds if operator in ("not", "nor") else holds, reason))
        members = [holds for holds, _ in findings]
        # and: all hold; or: any; not: none of them holds; nor: not all of them hold
        truth = all(members) if operator in ("and", "not") else any(members)
        return truth, once([reason for holds, reason in findings if holds == truth])

    def criterion(self, full_name: str, data: Any) -> tuple[bool, str]:
        name, _, subpath = full_name.partition("/")
        if name == "accept":
            return True, "accept"
        if name == "reject":
            return False, "reject"
        if name == "cors_preflight":
            headers = self.visit.headers
            asks = bool(headers.get("origin")) and bool(headers.get("access-control-request-method"))
            preflight = self.visit.method == "OPTIONS" and asks
            return preflight, "cors-request" if preflight else "non-cors-request"
        if name == "http_method":
            return worded(name, fits_text(data, self.visit.method))
        if name == "http_path":
            return worded(name, fits_text(data, decode(self.path)))
        if name == "source_ip":
            return worded(name, any(inside(self.visit.ip, network) for network in listed(data)))
        if name == "date":
            return worded(name, fits_date(data, self.visit.at))
        if name == "day_of_week":
            return worded(name, fits_day(data, self.visit.at))
        if name == "time_of_day":
            return worded(name, fits_time(data, self.visit.at))
        if self.caller is None:
            return False, "user-unauthenticated"
        return self.of_caller(name, subpath, data, self.caller)

    def of_caller(self, name: str, subpath: str, data: Any, caller: Caller) -> tuple[bool, str]:
        if name == "authenticated_user":
            return worded("user", caller.subject != "")
        if name == "user":
            return worded(name, fits_text(data, caller.subject))
        if name in ("email", "domain"):
            address = caller.claims.get("email")
            if not isinstance(address, str) or address == "":
                return False, f"{name}-unauthorized"
            if caller.claims.get("email_verified") is not True:
                return False, "email-unverified"
            if name == "email":
                return worded(name, fits_text(data, address))
            # Nothing after the `@` is no domain, as no address is none; several are none either.
            domain = address.split("@")[1] if address.count("@") == 1 else ""
            return worded(name, domain != "" and fits_text(data, domain))
        if name == "claim":
            return worded(name, fits_list(data, claim_list(caller.claims, subpath)))
        if name == "groups":
            return worded(name, fits_list(data, claim_list(caller.claims, "cognito:groups")))
        if name == "scope":
            scope = caller.claims.get("scope", "") if caller.token_use == "access" else ""
            scopes = [part for part in scope.split(" ") if part]
            return worded(name, fits_any_text(data, scopes))
        if name == "auth_age":
            signed_in = caller.claims.get("auth_time")
            if type(signed_in) is not int:
                return worded(name, holds=False)
            age = self.visit.at - datetime.fromtimestamp(signed_in, UTC)
            return worded(name, timedelta(seconds=-60) <= age <= duration(data["max"]))
        if name == "identity_provider":
            found = caller.claims.get("identities")
            names = (
                [one["providerName"] for one in found if isinstance(one, dict) and "providerName" in one]
                if (isinstance(found, list))
                else []
            )
            group = caller.issuer.split("/")[-1] + "_"
            held = claim_list(caller.claims, "cognito:groups") if group != "_" else []
            names += [one[len(group) :] for one in held if isinstance(one, str) and one.startswith(group)]
            return worded(name, fits_any_text(data, [one for one in names if isinstance(one, str) and one != ""]))
        value = {"client_id": caller.client_id, "token_use": caller.token_use, "issuer": caller.issuer}[name]
        return worded(name, fits_text(data, value))


def duration(text: str) -> timedelta:
    units = {"s": "seconds", "m": "minutes", "h": "hours"}
    parts = re.findall("([0-9]+)([hms])", text)
    return sum((timedelta(**{units[unit]: int(number)}) for number, unit in parts), timedelta())


def worded(name: str, holds: bool) -> tuple[bool, str]:
    return holds, name.replace("_", "-") + ("-ok" if holds else "-unauthorized")


def decode(path: str) -> str:
    octets = re.sub(rb"%(..)", lambda escape: bytes([int(escape[1], 16)]), path.encode())
    return octets.decode("utf-8")


# --- Matchers ----------------------------------------------------------------------------------------------------


def fits_text(data: Any, value: str) -> bool:
    operators = data if isinstance(data, dict) else {"is": data}
    return all(fits_one(operator, wanted, value) for operator, wanted in operators.items())


def fits_one(operator: str, wanted: Any, value: str) -> bool:
    if operator == "is":
        return value == wanted
    if operator == "not":
        return value != wanted
    if operator == "starts_with":
        return value[: len(wanted)] == wanted
    if operator == "ends_with":
        return value[max(0, len(value) - len(wanted)) :] == wanted
    if operator == "contains":
        return any(value[start : start + len(wanted)] == wanted for start in range(len(value) + 1))
    if operator == "in":
        return any(value == one for one in wanted)
    if operator == "not_in":
        return all(value != one for one in wanted)
    raise AssertionError(operator)


def fits_any_text(data: Any, values: list[str]) -> bool:
    """Some text satisfies what is wanted, and none is excluded; no text satisfies nothing."""
    operators = data if isinstance(data, dict) else {"is": data}
    excluding = {name: wanted for name, wanted in operators.items() if name in ("not", "not_in")}
    wanting = {name: wanted for name, wanted in operators.items() if name not in excluding}
    if not values or not all(fits_text(excluding, value) for value in values):
        return False
    return not wanting or any(fits_text(wanting, value) for value in values)


def fits_list(data: Any, values: list[Any]) -> bool:
    operators = data if isinstance(data, dict) else {"has": data}
    for operator, wanted in operators.items():
        there = any(same(value, wanted) for value in values)
        good = {"has": there, "is": there and len(values) == 1, "exclude": not there}[operator]
        if not good:
            return False
    return True


def same(value: Any, wanted: Any) -> bool:
    """`5` is `5.0`, and neither `"5"` nor `true`."""
    number = (int, float)
    if type(value) in number and type(wanted) in number:
        return bool(value == wanted)
    return type(value) is type(wanted) and bool(value == wanted)


def claim_list(claims: dict[str, Any], name: str) -> list[Any]:
    """Flatten all claims to dotted names; literal names first."""
    if name in claims:
        value = claims[name]
        return [] if isinstance(value, dict) else listed(value)
    for literal, value in sorted(claims.items(), key=lambda one: len(one[0])):  # the shortest name that leads there
        if isinstance(value, dict) and name.startswith(f"{literal}."):
            found = claim_list(value, name[len(literal) + 1 :])
            if found:
                return found
    return []


# --- Address and time --------------------------------------------------------------------------------------------


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def inside(text: str, network: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    net = ipaddress.ip_network(network, strict=False)
    bits, width = unmapped(int(address), address.max_prefixlen)
    net_bits, net_width = unmapped(int(net.network_address), net.max_prefixlen)
    shift = net.max_prefixlen - net.prefixlen
    return width == net_width and bits >> shift == net_bits >> shift


def unmapped(bits: int, width: int) -> tuple[int, int]:
    """An IPv4-mapped IPv6 address is its IPv4 address."""
    return (bits & 0xFFFFFFFF, 32) if width == 128 and bits >> 32 == 0xFFFF else (bits, width)


def fits_date(data: dict[str, str], now: datetime) -> bool:
    zone = ZoneInfo(data.get("timezone", "UTC"))

    def instant(text: str) -> datetime:
        if len(text) == len("2026-01-01"):
            return datetime.combine(date.fromisoformat(text), time(0), zone).astimezone(UTC)
        read = datetime.fromisoformat(text)
        return (read if read.tzinfo else read.replace(tzinfo=zone)).astimezone(UTC)

    now = now.astimezone(UTC)
    return ("after" not in data or now >= instant(data["after"])) and (
        "before" not in data or now < instant(data["before"])
    )


def fits_day(data: Any, now: datetime) -> bool:
    zone = ZoneInfo(data.get("timezone", "UTC") if isinstance(data, dict) else "UTC")
    days = data["days"] if isinstance(data, dict) else data
    week = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    today = now.astimezone(zone).strftime("%a").lower()
    for part in days.lower().split(","):
        first, _, last = part.strip().partition("-")
        if first == "*":
            return True
        day = week.index(first[:3])
        end = week.index((last or first)[:3])
        while week[day] != today and day != end:
            day = (day + 1) % 7
        if week[day] == today:
            return True
    return False


def fits_time(data: dict[str, str], now: datetime) -> bool:
    clock = now.astimezone(ZoneInfo(data["timezone"])).time()
    after, before = data.get("after"), data.get("before")
    return (after is None or clock >= clock_of(after)) and (before is None or clock < clock_of(before))


def clock_of(text: str) -> time:
    for form in ("%I:%M %p", "%I:%M%p", "%I %p", "%I%p", "%H:%M:%S.%f", "%H:%M:%S", "%H:%M"):
        try:
            return datetime.strptime(text.upper(), form).time()  # noqa: DTZ007 - a time of day has no zone of its own
        except ValueError:
            continue
    raise AssertionError(text)
