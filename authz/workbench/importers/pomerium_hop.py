"""Where requests go: the half of a Pomerium route that becomes Envoy's."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from authz.node import Fields, Node, describe
from authz.workbench.importers.common import SECRET_NAME, is_on, split_address, target_of, text_in, texts_in
from authz.workbench.importers.durations import WANTED_DURATION, seconds_of
from authz.workbench.importers.ledger import Ledger
from authz.workbench.importers.model import Target, Upstream

READ_BY_HOP: Final = (
    "to", "redirect", "response", "timeout", "idle_timeout", "allow_websockets", "prefix_rewrite",
    "regex_rewrite_pattern",
    "regex_rewrite_substitution", "host_rewrite", "host_rewrite_header", "preserve_host_header", "tls_skip_verify",
    "tls_server_name", "tls_upstream_server_name", "tls_custom_ca", "tls_custom_ca_file", "set_request_headers",
    "remove_request_headers", "set_response_headers", "connect_timeout",
)  # fmt: skip


class Hop:
    """Envoy's half of a route: an upstream and what is done on the way there, or an answer without one."""

    def __init__(self, ledger: Ledger, node: Fields, at: str, timeout: str) -> None:
        """Read the route at `at`; `timeout` holds where it names none."""
        self._ledger = ledger
        self._node = node
        self._at = at
        self.upstream: Upstream | None = None
        self.action: dict[str, Any] = {}
        self.extra = self._headers()
        for name, read in (("redirect", self._redirect), ("response", self._response)):
            value = node.get(name)
            if isinstance(value, Fields):
                self.action = read(value)
                self._note(name)
                self._leave_others()
                return
        self.upstream = self._upstream()
        if self.upstream is None:
            self.action = {"direct_response": {"status": 503}}
            self._leave_others()
            return
        self.action = self._forward(timeout)

    def _note(self, name: str, where: str = "`envoy.yaml`: the route") -> None:
        value = self._node.get(name)
        if value is not None:
            self._ledger.carried(f"{self._at}.{name}", value, where)

    def _leave_others(self) -> None:
        for name in READ_BY_HOP:
            value = self._node.get(name)
            path = f"{self._at}.{name}"
            if value is not None and not any(entry.covers(path) for entry in self._ledger.entries):
                self._ledger.left(path, value, "nothing is forwarded on this route")

    # --- to -----------------------------------------------------------------------------------------------------------

    def _upstream(self) -> Upstream | None:
        node = self._node.get("to")
        if node is None:
            self._ledger.remember(
                f"`envoy.yaml`: `{self._at}` has no `to`; it answers 503 until you write where it goes"
            )
            return None
        targets: list[Target] = []
        schemes = set()
        for url in texts_in(node):
            address, _, weight = url.partition(",")
            parts = split_address(address.strip())
            if parts is None or parts.scheme not in ("http", "https", "h2c"):
                self._ledger.stop(f"{self._at}.to", node, "expected an http, https or h2c URL: correct it")
                return None
            if parts.username or parts.password:
                self._ledger.remember(
                    f"`{self._at}.to` holds a user name or password, which is not copied: "
                    f"let Envoy set "
                    "the header from a file"
                )
            if re.fullmatch(r"/:[0-9]+/?", parts.path):
                text = f"`{parts.scheme}://{parts.hostname}{parts.path.rstrip('/').removeprefix('/')}`"
                self._ledger.stop(f"{self._at}.to", node, f"the port stands after the slash: write {text}")
            elif parts.path not in ("", "/"):
                self._ledger.stop(f"{self._at}.to", node, "found a path in the URL: write it as `prefix_rewrite`")
            schemes.add(parts.scheme)
            targets.append(target_of(parts, int(weight) if weight.strip().isdecimal() and int(weight) > 0 else None))
        if len(schemes) != 1:
            self._ledger.stop(f"{self._at}.to", node, "expected URLs of one scheme: split the route")
            return None
        self._note("to", "`envoy.yaml`: a cluster")
        own_ca = [name for name in ("tls_custom_ca", "tls_custom_ca_file") if self._node.get(name) is not None]
        for name in own_ca:
            self._note(name, "`envoy.yaml`: put the authorities into `secrets/upstream-ca.pem`")
        for name in ("tls_skip_verify", "tls_server_name", "tls_upstream_server_name", "connect_timeout"):
            self._note(name, "`envoy.yaml`: the route's cluster")
        return Upstream(
            targets=tuple(targets),
            tls=schemes == {"https"},
            server_name=text_in(self._node.get("tls_upstream_server_name"))
            or text_in(self._node.get("tls_server_name")),
            verified=not is_on(self._node.get("tls_skip_verify")),
            own_ca=bool(own_ca),
            http2=schemes == {"h2c"},
            connect_timeout=self._connect_timeout(),
        )

    def _connect_timeout(self) -> str:
        seconds = self._duration("connect_timeout")
        return "5s" if seconds in (None, "0s") else str(seconds)  # Envoy takes no 0

    def _duration(self, name: str) -> str | None:
        """Give a duration as protobuf writes it, in seconds."""
        node = self._node.get(name)
        seconds = None if node is None else seconds_of(text_in(node))
        if node is not None and seconds is None:
            self._ledger.stop(f"{self._at}.{name}", node, WANTED_DURATION)
        return seconds

    def _forward(self, timeout: str) -> dict[str, Any]:
        node, route = self._node, dict[str, Any]()
        route["timeout"] = self._duration("timeout") or timeout
        idle = self._duration("idle_timeout")
        if idle is not None:
            route["idle_timeout"] = idle
        if is_on(node.get("allow_websockets")):
            route["timeout"] = "0s"
            route["upgrade_configs"] = [{"upgrade_type": "websocket"}]
        if node.get("prefix_rewrite") is not None:
            route["prefix_rewrite"] = text_in(node.get("prefix_rewrite"))
        elif node.get("regex_rewrite_pattern") is not None:
            pattern = {"regex": text_in(node.get("regex_rewrite_pattern"))}
            substitution = text_in(node.get("regex_rewrite_substitution"))
            route["regex_rewrite"] = {"pattern": pattern, "substitution": substitution}
        if node.get("host_rewrite") is not None:
            route["host_rewrite_literal"] = text_in(node.get("host_rewrite"))
        elif node.get("host_rewrite_header") is not None:
            route["host_rewrite_header"] = text_in(node.get("host_rewrite_header"))
        elif not is_on(node.get("preserve_host_header")) and self.upstream is not None:
            route["host_rewrite_literal"] = self.upstream.targets[0].host
        for name in _FORWARDING:
            self._note(name)
        return route

    # --- answers without an upstream ----------------------------------------------------------------------------------

    def _redirect(self, node: Fields) -> dict[str, Any]:
        known: Mapping[str, Callable[[Node], Any]] = {
            "https_redirect": is_on,
            "scheme_redirect": text_in,
            "host_redirect": text_in,
            "port_redirect": lambda port: int(text_in(port)) if text_in(port).isdecimal() else 443,
            "path_redirect": text_in,
            "prefix_rewrite": text_in,
            "response_code": lambda code: _REDIRECT_CODES.get(text_in(code), "MOVED_PERMANENTLY"),
            "strip_query": is_on,
        }
        return {"redirect": {key.text: known[key.text](value) for key, value in node.entries if key.text in known}}

    def _response(self, node: Fields) -> dict[str, Any]:
        status = text_in(node.get("status"))
        answer: dict[str, Any] = {"status": int(status) if status.isdecimal() and 200 <= int(status) < 600 else 200}
        body = text_in(node.get("body"))
        if body:
            answer["body"] = {"inline_string": body}
        return {"direct_response": answer}

    # --- headers ------------------------------------------------------------------------------------------------------

    def _headers(self) -> dict[str, Any]:
        extra: dict[str, Any] = {}
        for name, where in (("set_request_headers", "request_headers_to_add"),
                            ("set_response_headers", "response_headers_to_add")):  # fmt: skip
            added = self._added(name)
            if added:
                extra[where] = added
        removed = self._node.get("remove_request_headers")
        if removed is not None:
            names = [name for name in texts_in(removed, ",") if _header_problem(name) is None]
            extra["request_headers_to_remove"] = names
            self._note("remove_request_headers", f"`envoy.yaml`: the route: {', '.join(names) or 'none that it could'}")
        return extra

    def _added(self, name: str) -> list[dict[str, Any]]:
        node = self._node.get(name)
        added = []
        for key, value in node.entries if isinstance(node, Fields) else ():
            path = f"{self._at}.{name}.{key.text}"
            text = text_in(value)
            if SECRET_NAME.search(key.text):
                self._ledger.secret(
                    path, value, "Envoy's `credential_injector` filter sets it from a file in `secrets/`"
                )
            elif (problem := _header_problem(key.text, text)) is not None:
                self._ledger.left(path, value, problem)
            elif "${" in text:
                self._ledger.left(
                    path,
                    value,
                    "Pomerium fills it in from its session; `identity_headers:` of `authz.yaml` hand claims on",
                )
            else:
                self._ledger.carried(path, value, "`envoy.yaml`: the route")
                header = {"key": key.text, "value": text.replace("%", "%%")}
                added.append({"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"})
        if node is not None and not isinstance(node, Fields):
            self._ledger.left(f"{self._at}.{name}", node, f"found {describe(node)}, expected a map")
        return added


_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def _header_problem(name: str, value: str = "") -> str | None:
    """Say why Envoy would not start with a route that changes this header; None when it would."""
    if name.startswith(":") or name.lower() == "host":
        return "Envoy lets routes change no such header: write `host_rewrite` or a rewrite of the path"
    if not _HEADER.fullmatch(name):
        return "no header can be named so"
    return "no header can hold a control character" if re.search(r"[\x00-\x08\n-\x1f\x7f]", value) else None


_FORWARDING: Final = (
    "timeout", "idle_timeout", "allow_websockets", "prefix_rewrite",
    "regex_rewrite_pattern",
    "regex_rewrite_substitution", "host_rewrite", "host_rewrite_header", "preserve_host_header",
)  # fmt: skip
_REDIRECT_CODES: Final = {
    "301": "MOVED_PERMANENTLY", "302": "FOUND", "303": "SEE_OTHER", "307": "TEMPORARY_REDIRECT",
    "308": "PERMANENT_REDIRECT",
}  # fmt: skip
