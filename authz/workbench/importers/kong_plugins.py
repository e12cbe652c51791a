"""Kong's plugins: which of them run on a route, and which keep people out in a way that cannot be said here.

Of each plugin one instance runs: the route's, else the service's, else the global one (Kong: "Plugin precedence").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from authz.node import Fields, Node, describe
from authz.workbench.importers.common import text_in, texts_in
from authz.workbench.importers.kong_input import is_empty, is_null, maps_in, path_of, switch, unknown_key
from authz.workbench.importers.ledger import Ledger

OIDC: Final = "openid-connect"
CONSUMER_SCOPES: Final = ("consumer", "consumer_group")
SCOPES: Final = ("service", "route", *CONSUMER_SCOPES)
SOME_CONSUMERS: Final = "holds for some consumers alone: delete it here"


class Plugin(NamedTuple):
    """One instance of a plugin."""

    name: str
    node: Fields
    at: str  # empty: it is the whole source
    is_on: bool = True

    @property
    def is_global(self) -> bool:
        """Tell whether it names nothing to which it belongs."""
        return all(self.node.get(scope) is None for scope in SCOPES)

    @property
    def is_for_consumers(self) -> bool:
        """Tell whether it holds for some callers alone."""
        return any(self.node.get(scope) is not None for scope in CONSUMER_SCOPES)

    @property
    def is_harmless(self) -> bool:
        """Tell whether it neither keeps anybody out nor says who is calling."""
        return self.name in _HARMLESS


_HARMLESS: Final = frozenset({
    "acme", "ai-prompt-decorator", "ai-proxy", "aws-lambda", "azure-functions", "canary", "correlation-id", "cors",
    "datadog", "exit-transformer", "file-log", "forward-proxy", "graphql-proxy-cache-advanced",
    "graphql-rate-limiting-advanced", "grpc-gateway", "grpc-web", "http-log", "jq", "kafka-log", "kafka-upstream",
    "loggly", "mocking", "opentelemetry", "prometheus", "proxy-cache", "proxy-cache-advanced", "rate-limiting",
    "rate-limiting-advanced", "redirect", "request-size-limiting", "request-transformer",
    "request-transformer-advanced", "response-ratelimiting", "response-transformer", "response-transformer-advanced",
    "route-by-header", "route-transformer-advanced", "session", "statsd", "statsd-advanced", "syslog", "tcp-log",
    "tls-metadata-headers", "udp-log", "zipkin",
})  # fmt: skip
_STOPPING: Final[Mapping[str, str]] = {
    "acl": "write the groups as `groups_required` (with `groups_claim`) of the openid-connect plugin",
    "ip-restriction": "delete it here, then add `deny: {not: [source_ip: […]]}` to the routes of `policies/`",
    "bot-detection": "delete it here; nothing here judges user agents",
    "request-termination": "delete the route, or the plugin",
    "opa": "write its rules under `policy:` of `policies/`",
    "jwt": "let the openid-connect plugin verify the tokens",
    "request-validator": "delete it here, and let the upstream validate",
}
_MAY_RESTRICT: Final = "may keep somebody out, and is not imported: delete it here, then say the same with rules"
_HTTP: Final = frozenset({"http", "https", "grpc", "grpcs", "ws", "wss"})
_LEFT_KEYS: Final = frozenset({
    "id", "instance_name", "enabled", "run_on", "ordering", "protocols", "tags", "partials", "created_at",
    "updated_at", "ws_id",
})  # fmt: skip
_PLACING_KEYS: Final = frozenset({"name", "plugin", "_config", "service", "route"})
_LEFT_KEYS_ALONE: Final = _LEFT_KEYS | {"apiVersion", "kind", "metadata", "status", "disabled"}


def read_plugins(node: Fields, at: str, ledger: Ledger) -> tuple[Plugin, ...]:
    """Give the plugins that stand in a map."""
    found = maps_in(node.get("plugins"), path_of(at, "plugins"), ledger)
    return tuple(
        Plugin(text_in(plugin.get("name")), plugin, place, switch(plugin, "enabled", place, ledger, usual=True))
        for place, plugin in found
    )


def reference_of(node: Node | None) -> str:
    """Read a reference: a name, or a map with a name or an id."""
    if isinstance(node, Fields):
        return text_in(node.get("name")) or text_in(node.get("id"))
    return text_in(node)


def running(plugins: Iterable[Plugin]) -> tuple[Plugin, ...]:
    """Give what runs of these, which stand from narrow to wide."""
    found: dict[str, Plugin] = {}
    for plugin in plugins:
        if plugin.is_on and not plugin.is_for_consumers:
            found.setdefault(plugin.name, plugin)
    return tuple(found.values())


def judge(plugin: Plugin, at: str, ledger: Ledger) -> None:
    """Note another plugin than openid-connect; stop when it keeps people out."""
    if plugin.is_harmless:
        ledger.left(at, plugin.node, f"`{plugin.name}` keeps nobody out: Envoy has filters of its own for it")
    else:
        why = _STOPPING.get(plugin.name)
        message = f"`{plugin.name}` keeps people out: {why}" if why else f"`{plugin.name}` {_MAY_RESTRICT}"
        ledger.stop(at, plugin.node, message)


def note_idle(plugin: Plugin, ledger: Ledger, *, is_placed: bool) -> None:
    """Note a plugin that runs nowhere; stop when it might have kept somebody out and nobody knows why it does not."""
    if any(entry.covers(plugin.at) for entry in ledger.entries):
        return
    if not plugin.is_on:
        ledger.left(plugin.at, plugin.node, "not enabled")
    elif plugin.is_harmless:
        judge(plugin, plugin.at, ledger)
    elif plugin.is_global or is_placed:
        for key, value in plugin.node.entries:  # `rout: r` makes it global, and another one runs instead of it
            if not _is_known(key.text, plugin) and not is_empty(value):
                ledger.stop(path_of(plugin.at, key.text), value, _unknown(key.text))
        ledger.left(plugin.at, plugin.node, "it runs on no route that is here: narrower ones do, or there is none")
    else:
        scope = "route" if plugin.node.get("route") is not None else "service"
        inside = " in its service" if scope == "route" and plugin.node.get("service") is not None else ""
        ledger.stop(f"{plugin.at}.{scope}", plugin.node, f"no {scope} of this name{inside}: correct it")


def note_keys(plugin: Plugin, ledger: Ledger) -> None:
    """Note everything beside the settings of an openid-connect plugin that runs."""
    for key, value in plugin.node.entries:
        path = path_of(plugin.at, key.text)
        if key.text in _PLACING_KEYS:
            ledger.carried(path, value, "`policies/`: the rules of the routes on which it runs")
        elif key.text in CONSUMER_SCOPES:
            ledger.stop(path, value, SOME_CONSUMERS)
        elif key.text == "protocols" and _HTTP.isdisjoint(texts_in(value)) and not is_empty(value):
            ledger.stop(path, value, "runs on no HTTP request: delete the plugin, or correct its `protocols`")
        elif _is_known(key.text, plugin):
            if key.text != "config":
                ledger.left(path, value, "it decides nothing here")
        elif is_empty(value):
            ledger.left(path, value, "it decides nothing here")
        else:
            ledger.stop(path, value, _unknown(key.text))


def _is_known(key: str, plugin: Plugin) -> bool:
    left = _LEFT_KEYS if plugin.at else _LEFT_KEYS_ALONE
    return key == "config" or key in left or key in _PLACING_KEYS or key in CONSUMER_SCOPES


def _unknown(key: str) -> str:
    return unknown_key(key, (*_PLACING_KEYS, *CONSUMER_SCOPES, *_LEFT_KEYS, "config"))


def config_of(plugin: Plugin, shared: Node | None, ledger: Ledger) -> Fields:
    """Give a plugin's settings, with those that it shares with others (decK: "De-duplicate plugin configuration").

    Its own win, one by one; a null of its own too, as in decK's fillPluginConfig.
    """
    found = plugin.node.get("config")
    if found is not None and not isinstance(found, Fields) and not is_null(found):
        ledger.stop(path_of(plugin.at, "config"), found, f"found {describe(found)}, expected a map")
    own = found if isinstance(found, Fields) else Fields(plugin.node.source, ())
    reference = plugin.node.get("_config")
    if reference is None:
        return own
    common = shared.get(text_in(reference)) if isinstance(shared, Fields) else None
    if not isinstance(common, Fields):
        ledger.stop(path_of(plugin.at, "_config"), reference, "`_plugin_configs` holds no such map: correct it")
        return own
    more = (entry for entry in common.entries if own.get(entry[0].text) is None)
    return Fields(own.source, (*own.entries, *more))
