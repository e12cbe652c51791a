"""What a person has in hand, made into a Request: options, a pasted curl command, or a line of a log."""

from __future__ import annotations

import json
import shlex
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import quote

from authz.model import Json, Request


class InputError(ValueError):
    """What was given cannot be read; the text says what to write instead."""


class Asked(NamedTuple):
    """A request to explain."""

    request: Request
    scheme: str = "https"
    logged: Mapping[str, Json] | None = None  # what a log line says became of it
    address_from: str = ""  # where its address comes from, when that is not the TCP peer


def from_options(url: str, method: str = "GET", headers: Iterable[str] = ()) -> Asked:
    """Read `--url`, `--method`, `--header 'Name: value'`."""
    scheme, host, path = _split_given(url)
    collected: dict[str, tuple[str, ...]] = {}
    for header in headers:
        _add(collected, header)
    host = collected.pop("host", (host,))[0]
    return Asked(Request(method, host, path, collected), scheme)


def split_url(url: str) -> tuple[str, str, str]:
    """Give scheme, host with port, and path with query.

    No URL parser: it would tidy up what we must judge as it is. `user:password@` goes, as clients do not send it on.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "https", url
    if scheme.lower() not in ("http", "https") or not rest:
        raise InputError(f"`{url}` is no http(s) URL: write https://HOST/PATH")
    cut = min((rest.find(mark) for mark in "/?#" if mark in rest), default=len(rest))
    authority, path = rest[:cut].rpartition("@")[2], rest[cut:]
    path = path.partition("#")[0]  # a client keeps the fragment to itself
    if not path.startswith("/"):
        path = "/" + path
    return scheme.lower(), authority, path


def _split_given(url: str) -> tuple[str, str, str]:
    """Split a URL of the command line. A word that is none is not repeated: it may be a token in the wrong place."""
    try:
        return split_url(url)
    except InputError:
        raise InputError("that is no http(s) URL: write https://HOST/PATH") from None


def _add(headers: dict[str, tuple[str, ...]], text: str) -> None:
    name, separator, value = text.partition(":")
    if not separator or not name:
        raise InputError("a header is written `Name: value`, found one without `:`")  # not repeated: it may be a token
    name = name.strip(" ").lower()
    headers[name] = (*headers.get(name, ()), value.strip(" \t"))


# curl's options that take a value and mean nothing to a decision.
_CURL_WITH_VALUE: Final = frozenset({
    "-o", "--output", "-m", "--max-time", "--connect-timeout", "-x", "--proxy", "--cacert", "--cert", "-E", "--key",
    "--capath", "--resolve", "--connect-to",
    "-w", "--write-out", "-c", "--cookie-jar", "--retry", "--retry-delay",
    "-r", "--range", "-K", "--config", "--interface", "-D", "--dump-header", "--limit-rate",
    "--ciphers", "--tls-max", "--unix-socket", "--dns-servers", "--max-redirs",
})  # fmt: skip
_CURL_DATA: Final = frozenset({
    "-d", "--data", "--data-raw", "--data-binary", "--data-ascii", "--data-urlencode", "--json",
})  # fmt: skip
_CURL_FORM: Final = frozenset({"-F", "--form", "--form-string"})
_CURL_SHORT_WITH_VALUE: Final = frozenset("oHXdbAeumxEwcrTKDF")


def from_curl(arguments: Sequence[str]) -> Asked:
    """Read a pasted curl command, as the shell split it: `curl -H 'Authorization: Bearer …' https://…`."""
    try:
        words = shlex.split(arguments[0]) if len(arguments) == 1 else list(arguments)
    except ValueError:
        raise InputError("the curl command has a quote without its end") from None
    if not words or words[0].rpartition("/")[2] != "curl":
        raise InputError(
            "after `--` comes a curl command: authz explain -- curl -H 'Authorization: Bearer …' https://…"
        )
    reader = _Curl()
    rest = iter(_unclustered(words[1:]))
    for word in rest:
        reader.take(word, rest)
    return reader.asked()


def _unclustered(words: Sequence[str]) -> Iterable[str]:
    """Split `-sXPOST` and `--url=…` into words of their own."""
    for word in words:
        if word.startswith("--") and "=" in word:
            name, _, value = word.partition("=")
            yield from (name, value)
        elif word.startswith("-") and not word.startswith("--") and len(word) > 2:
            for position, letter in enumerate(word[1:], 2):
                yield f"-{letter}"
                if letter in _CURL_SHORT_WITH_VALUE:
                    if word[position:]:
                        yield word[position:]
                    break
        else:
            yield word


class _Curl:
    def __init__(self) -> None:
        self._method: str | None = None
        self._urls: list[str] = []
        self._headers: dict[str, tuple[str, ...]] = {}
        self._has_data = False
        self._has_form = False
        self._get = False
        self._path_as_is = False
        self._upload = ""

    def take(self, word: str, rest: Iterable[str]) -> None:
        def value() -> str:
            for following in rest:
                return following
            raise InputError(f"curl's `{word}` wants a value")

        if word in ("-X", "--request"):
            self._method = value()
        elif word in ("-H", "--header"):
            self._header(value())
        elif word in ("-b", "--cookie"):
            cookies = value()
            if "=" in cookies:  # else the name of a file
                _add(self._headers, f"cookie: {cookies}")
        elif word in ("-A", "--user-agent"):
            _add(self._headers, f"user-agent: {value()}")
        elif word in ("-e", "--referer"):
            _add(self._headers, f"referer: {value()}")
        elif word in ("-u", "--user"):
            _add(self._headers, f"authorization: Basic {b64encode(value().encode()).decode()}")
        elif word == "--oauth2-bearer":
            _add(self._headers, f"authorization: Bearer {value()}")
        elif word == "--url":
            self._urls.append(value())
        elif word in ("-I", "--head"):
            self._method = self._method or "HEAD"
        elif word in ("-G", "--get"):
            self._get = True
        elif word in ("--path-as-is", "--no-path-as-is"):
            self._path_as_is = word == "--path-as-is"
        elif word in _CURL_DATA:
            value()
            self._has_data = True
        elif word in _CURL_FORM:
            value()
            self._has_form = True
        elif word in ("-T", "--upload-file"):
            self._upload = value()
        elif word in _CURL_WITH_VALUE:
            value()
        elif not word.startswith("-"):
            self._urls.append(word)

    def _header(self, text: str) -> None:
        if text.startswith("@"):
            raise InputError("curl's `-H @FILE`: write the headers themselves")
        if text.endswith(";") and ":" not in text:  # curl's way to send an empty one
            text = f"{text[:-1]}:"
        elif text.endswith(":"):  # and to send none
            return
        _add(self._headers, text)

    def asked(self) -> Asked:
        # A bare word beside a URL is the value of an option that we do not know.
        urls = [url for url in self._urls if "://" in url] or self._urls
        if len(urls) != 1:
            raise InputError(
                "the curl command has no URL" if not urls else "the curl command has several URLs: keep one"
            )
        scheme, host, path = _split_given(urls[0])
        if not self._path_as_is:
            path = _without_dot_segments(path)
        method = self._method or self._implied_method()
        host = self._headers.pop("host", (host,))[0]
        return Asked(Request(method, host, self._uploaded_to(path), self._headers), scheme)

    def _implied_method(self) -> str:
        """Give what curl sends without `-X`; `-G` moves data alone into the query (measured, curl 7.88)."""
        if self._upload:
            return "PUT"
        return "POST" if self._has_form or (self._has_data and not self._get) else "GET"

    def _uploaded_to(self, path: str) -> str:
        """Give the path with the name of the uploaded file, which curl adds where the URL ends with `/`."""
        place, mark, query = path.partition("?")
        if self._upload in ("", "-", ".") or not place.endswith("/"):
            return path
        return place + quote(self._upload.rpartition("/")[2], safe="", errors="surrogateescape") + mark + query


def _without_dot_segments(path: str) -> str:
    """Give what curl makes of a path (RFC 3986 section 5.2.4). `%2e` stays (measured, curl 7.88; 8.14 takes it too)."""
    place, mark, query = path.partition("?")
    kept: list[str] = []
    segments = place.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept) + mark + query


_HOST_KEYS: Final = ("host", "authority", ":authority")
_PATH_KEYS: Final = ("path", ":path")
_PEER_KEYS: Final = ("source_ip", "client")  # ours, and that of envoy/*.yaml


def from_log_line(line: str) -> Asked:
    """Read one line of Envoy's JSON access log or of our decision log: method, host and path, and what became of it."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        raise InputError("the line is not JSON: paste one line of the decision log or of Envoy's JSON log") from None
    if not isinstance(entry, dict):
        raise InputError("the line is not a JSON object")
    host = _first(entry, _HOST_KEYS)
    path = _first(entry, _PATH_KEYS)
    if host is None or path is None:
        raise InputError(f"the line lacks {'a host' if host is None else 'a path'}: add it to Envoy's log format")
    method = entry.get("method")
    return Asked(
        Request(
            method if isinstance(method, str) else "GET",
            host,
            path,
            {},
            _first(entry, _PEER_KEYS) or "",
        ),
        logged=_logged(entry),
        address_from="the log" if entry.get(_PEER_KEYS[0]) else "",
    )


def _first(entry: Mapping[str, Json], names: Sequence[str]) -> str | None:
    return next((value for name in names if isinstance(value := entry.get(name), str) and value), None)


def _logged(entry: Mapping[str, Json]) -> Mapping[str, Json]:
    """Give the decision that a line tells."""
    known = ("decision", "reason", "reasons", "route", "policy", "policy_revision", "subject", "client_id", "why")
    return {name: entry[name] for name in known if entry.get(name) not in (None, "")}
