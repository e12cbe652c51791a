"""What a person has in hand becomes the request that Envoy would have sent us."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authz.model import Request
from authz.workbench.inputs import InputError, from_curl, from_log_line, from_options, split_url

TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln"


def curl(command: str) -> Request:
    return from_curl(shlex.split(command)).request


class TestUrls:
    @pytest.mark.parametrize(
        ("url", "parts"),
        [
            pytest.param("https://app.example.com/a/b?c=d", ("https", "app.example.com", "/a/b?c=d"), id="usual"),
            pytest.param("http://app.example.com:8080", ("http", "app.example.com:8080", "/"), id="port, no path"),
            pytest.param("HTTPS://App.Example.com/", ("https", "App.Example.com", "/"), id="upper case"),
            pytest.param("app.example.com/a", ("https", "app.example.com", "/a"), id="no scheme"),
            pytest.param("https://a.example?x=1", ("https", "a.example", "/?x=1"), id="query right after the host"),
            pytest.param("https://a.example/x#part", ("https", "a.example", "/x"), id="fragment"),
            pytest.param("https://a.example#part", ("https", "a.example", "/"), id="fragment right after the host"),
            pytest.param("https://me:pw@a.example/x@y", ("https", "a.example", "/x@y"), id="user and password"),
            pytest.param("https://[::1]:8443/x", ("https", "[::1]:8443", "/x"), id="IPv6"),
            pytest.param("https://a.example//x/../%2e", ("https", "a.example", "//x/../%2e"), id="nothing tidied up"),
        ],
    )
    def test_are_read(self, url: str, parts: tuple[str, str, str]) -> None:
        assert split_url(url) == parts

    @pytest.mark.parametrize("url", ["ftp://a.example/", "https://", "", "://a", f"file://{TOKEN}"])
    def test_that_are_none_are_refused_and_on_the_command_line_not_repeated(self, url: str) -> None:
        with pytest.raises(InputError, match="write https://HOST/PATH"):
            split_url(url)
        for read in (from_options, lambda url: from_curl(["curl", "--url", url])):
            with pytest.raises(InputError, match="write https://HOST/PATH") as caught:
                read(url)
            assert TOKEN not in str(caught.value)


class TestOptions:
    def test_make_a_request(self) -> None:
        asked = from_options("http://a.example/x?y=1", "POST", ["X-One: 1", "x-one:2", "Accept: */*"])
        headers = {"x-one": ("1", "2"), "accept": ("*/*",)}
        assert asked.request == Request("POST", "a.example", "/x?y=1", headers)
        assert asked.scheme == "http"

    def test_a_host_header_is_the_host(self) -> None:
        request = from_options("https://127.0.0.1/x", headers=["Host: a.example"]).request
        assert (request.host, dict(request.headers)) == ("a.example", {})

    @pytest.mark.parametrize("header", [TOKEN, f":{TOKEN}", "", f"Bearer {TOKEN}"])
    def test_a_header_without_a_name_is_refused_and_not_repeated(self, header: str) -> None:
        with pytest.raises(InputError, match="`Name: value`") as caught:
            from_options("https://a.example/", headers=[header])
        assert TOKEN[:8] not in str(caught.value)


class TestCurl:
    @pytest.mark.parametrize(
        ("command", "method", "headers"),
        [
            pytest.param("curl {url}", "GET", {}, id="alone"),
            pytest.param("/usr/bin/curl -sSL {url}", "GET", {}, id="with a path and a cluster of flags"),
            pytest.param("curl -X DELETE {url}", "DELETE", {}, id="-X"),
            pytest.param("curl -XDELETE {url}", "DELETE", {}, id="-XDELETE"),
            pytest.param("curl -sXDELETE {url}", "DELETE", {}, id="-sXDELETE"),
            pytest.param("curl --request=PUT {url}", "PUT", {}, id="--request="),
            pytest.param("curl {url} --request PUT", "PUT", {}, id="options after the URL"),
            pytest.param("curl -I {url}", "HEAD", {}, id="-I"),
            pytest.param("curl -I -X GET {url}", "GET", {}, id="-X beats -I"),
            pytest.param("curl -d a=1 {url}", "POST", {}, id="data"),
            pytest.param("curl --json '{{}}' {url}", "POST", {}, id="--json"),
            pytest.param("curl --data-raw 'x -H y' -X PATCH {url}", "PATCH", {}, id="-X beats data"),
            pytest.param("curl -G -d a=1 {url}", "GET", {}, id="-G"),
            pytest.param("curl -F a=b {url}", "POST", {}, id="-F"),
            pytest.param("curl --form a=@file --form-string c=d {url}", "POST", {}, id="--form and --form-string"),
            pytest.param("curl -sFa=b -G {url}", "POST", {}, id="-G takes nothing from a form"),
            pytest.param("curl -X PUT -F a=b {url}", "PUT", {}, id="-X beats a form"),
            pytest.param("curl -T file {url}", "PUT", {}, id="-T"),
            pytest.param("curl --upload-file=file {url}", "PUT", {}, id="--upload-file="),
            pytest.param("curl -G -T file {url}", "PUT", {}, id="-G takes nothing from a file"),
            pytest.param("curl -X PATCH -Tfile {url}", "PATCH", {}, id="-X beats a file"),
            pytest.param("curl -T '' {url}", "GET", {}, id="no file"),
            pytest.param("curl --url {url}", "GET", {}, id="--url"),
            pytest.param("curl -o /dev/null -w '%{{http_code}}' -m 5 {url}", "GET", {}, id="options with values"),
            pytest.param("curl -o/dev/null -m5 {url}", "GET", {}, id="values glued to their options"),
            pytest.param("curl --unheard-of 5 {url}", "GET", {}, id="an unknown option with a value"),
            pytest.param("curl -k -# --compressed --http2 {url}", "GET", {}, id="flags"),
            pytest.param("curl -H 'X-A: 1' -H 'x-a: 2' {url}", "GET", {"x-a": ("1", "2")}, id="a header twice"),
            pytest.param("curl -H 'X-A;' {url}", "GET", {"x-a": ("",)}, id="an empty header"),
            pytest.param("curl -H 'Accept:' {url}", "GET", {}, id="a header taken out"),
            pytest.param("curl --oauth2-bearer abc {url}", "GET", {"authorization": ("Bearer abc",)}, id="bearer"),
            pytest.param("curl -u me:pw {url}", "GET", {"authorization": ("Basic bWU6cHc=",)}, id="basic"),
            pytest.param("curl -b 'a=1; b=2' {url}", "GET", {"cookie": ("a=1; b=2",)}, id="cookies"),
            pytest.param("curl -b jar.txt {url}", "GET", {}, id="a cookie file"),
            pytest.param("curl -A me -e https://b.example/ {url}", "GET",
                         {"user-agent": ("me",), "referer": ("https://b.example/",)}, id="agent and referer"),
        ],
    )  # fmt: skip
    def test_says_method_and_headers(self, command: str, method: str, headers: dict[str, tuple[str, ...]]) -> None:
        request = curl(command.format(url="https://a.example/x?y=1"))
        assert request == Request(method, "a.example", "/x?y=1", headers)

    def test_a_host_header_is_the_host(self) -> None:
        assert curl("curl -H 'Host: b.example' https://127.0.0.1/").host == "b.example"

    # As curl 7.88 sends them.
    @pytest.mark.parametrize(
        ("file", "url", "path"),
        [
            ("my file.txt", "https://a.example/d/", "/d/my%20file.txt"),
            ("./some/file", "https://a.example", "/file"),
            ("file", "https://a.example/d/?q=1", "/d/file?q=1"),
            ("file", "https://a.example/d", "/d"),
            ("-", "https://a.example/d/", "/d/"),
            (".", "https://a.example/d/", "/d/"),
            ("\udcff", "https://a.example/", "/%FF"),
        ],
    )
    def test_a_file_is_sent_to_its_name(self, file: str, url: str, path: str) -> None:
        assert from_curl(["curl", "-T", file, url]).request == Request("PUT", "a.example", path, {})

    # As curl 7.88 sends them.
    @pytest.mark.parametrize(
        ("written", "sent"),
        [
            ("/a/../b", "/b"),
            ("/a/./b", "/a/b"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/..", "/"),
            ("/a/b/../../../c", "/c"),
            ("/a//../b", "/a/b"),
            ("//x/../b", "//b"),
            ("/a/..//b", "//b"),
            ("/a/b//..", "/a/b/"),
            ("/a/../b?x=/c/../d", "/b?x=/c/../d"),
            ("?x=/../y", "/?x=/../y"),
            ("/a/..?q", "/?q"),
            ("/a/..#f", "/"),
            ("/a/..;x/.hidden/..b/...", "/a/..;x/.hidden/..b/..."),
            ("/a/%2e%2e/.%2E/b", "/a/%2e%2e/.%2E/b"),
        ],
    )
    def test_dot_segments_are_taken_out(self, written: str, sent: str) -> None:
        url = f"https://wild.example{written}"
        assert from_curl(["curl", url]).request.path == sent
        assert from_curl(["curl", "--path-as-is", "--no-path-as-is", url]).request.path == sent
        assert from_curl(["curl", "--path-as-is", url]).request.path == split_url(url)[2]
        assert from_options(url).request.path == split_url(url)[2]

    def test_and_then_an_uploaded_files_name_is_added(self) -> None:
        assert from_curl(["curl", "-T", "file", "https://a.example/a/b/.."]).request.path == "/a/file"
        assert from_curl(["curl", "-T", "file", "--path-as-is", "https://a.example/a/.."]).request.path == "/a/.."

    def test_the_scheme_is_kept(self) -> None:
        assert from_curl(["curl", "http://a.example"]).scheme == "http"

    def test_one_quoted_text_is_split_as_a_shell_would(self) -> None:
        command = f"curl -H 'Authorization: Bearer {TOKEN}' 'https://a.example/x'"
        assert from_curl([command]).request == curl(command)
        assert from_curl([command]).request.header("authorization") == f"Bearer {TOKEN}"

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            pytest.param([], "after `--` comes a curl command", id="nothing"),
            pytest.param(["wget", "https://a.example"], "after `--` comes a curl command", id="another program"),
            pytest.param(["curl"], "has no URL", id="no URL"),
            pytest.param(["curl", "-s"], "has no URL", id="flags alone"),
            pytest.param(["curl", "https://a.example", "https://b.example"], "several URLs", id="two URLs"),
            pytest.param(["curl", "https://a.example", "-H"], "`-H` wants a value", id="an option without its value"),
            pytest.param(["curl", "https://a.example", "-H", TOKEN], "without `:`", id="a header without a name"),
            pytest.param(["curl", "https://a.example", "-H", "@file"], "write the headers", id="headers of a file"),
            pytest.param(["curl 'https://a.example"], "a quote without its end", id="an open quote"),
        ],
    )
    def test_what_cannot_be_read_is_said(self, words: list[str], message: str) -> None:
        with pytest.raises(InputError, match=message) as caught:
            from_curl(words)
        assert TOKEN[:8] not in str(caught.value)

    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
    @given(
        st.lists(st.one_of(st.text(max_size=12), st.sampled_from(["-H", "-d", "-X", "https://a/", "-sX"])), max_size=6)
    )
    def test_any_words_are_a_request_or_an_input_error(self, words: list[str]) -> None:
        try:
            asked = from_curl(["curl", *words])
        except InputError:
            return
        assert asked.request.path.startswith("/")


# As envoy/api.yaml writes it, and as our decision log does.
ENVOY = {
    "time": "2026-01-31T08:00:00.000Z", "request_id": "6f1c", "client": "192.0.2.7", "method": "POST",
    "host": "app.example.com", "path": "/orders", "status": 403, "flags": "UAEX", "duration_ms": 2,
    "decision_id": "a-1", "decision": "deny", "reason": "claim-unauthorized", "route": "orders",
    "policy_revision": "08add46cab255777", "subject": "0a1b",
}  # fmt: skip
OURS = {
    "time": "2026-01-31T08:00:00.000Z", "level": "info", "msg": "decision", "decision_id": "a-1", "request_id": None,
    "decision": "deny", "reasons": ["claim-unauthorized"], "route": "orders", "policy": "policies/a.yaml:3",
    "policy_revision": "08add46cab255777", "method": "POST", "host": "app.example.com", "path": "/orders",
    "source_ip": "192.0.2.7", "subject": None, "client_id": None, "token_use": None, "duration_us": 90,
    "why": {"condition": "x"},
}  # fmt: skip


class TestLogLines:
    def test_of_envoy(self) -> None:
        asked = from_log_line(json.dumps(ENVOY))
        assert asked.request == Request("POST", "app.example.com", "/orders", {}, "192.0.2.7")
        assert asked.logged == {
            "decision": "deny",
            "reason": "claim-unauthorized",
            "route": "orders",
            "policy_revision": "08add46cab255777",
            "subject": "0a1b",
        }

    def test_of_ours(self) -> None:
        asked = from_log_line(json.dumps(OURS) + "\n")
        assert asked.request == Request("POST", "app.example.com", "/orders", {}, "192.0.2.7")
        assert asked.logged is not None
        assert (asked.logged["reasons"], asked.logged["why"]) == (["claim-unauthorized"], {"condition": "x"})
        assert "subject" not in asked.logged

    def test_of_envoy_with_other_names(self) -> None:
        asked = from_log_line(json.dumps({"authority": "a.example", ":path": "/x", "decision": "allow"}))
        assert asked.request[:3] == ("GET", "a.example", "/x")
        assert asked.logged == {"decision": "allow"}

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            pytest.param("not json", "the line is not JSON", id="not JSON"),
            pytest.param("[" * 100_000, "the line is not JSON", id="endless nesting"),
            pytest.param("[]", "not a JSON object", id="a list"),
            pytest.param('{"path": "/"}', "lacks a host", id="no host"),
            pytest.param('{"host": "a"}', "lacks a path", id="no path"),
            pytest.param('{"host": "", "path": "/"}', "lacks a host", id="an empty host"),
            pytest.param('{"host": 5, "path": "/"}', "lacks a host", id="a host that is no text"),
        ],
    )
    def test_that_cannot_be_read_say_what_is_missing(self, line: str, message: str) -> None:
        with pytest.raises(InputError, match=message):
            from_log_line(line)

    json_values = st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    )

    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
    @given(st.dictionaries(st.sampled_from([*OURS, ":path", "authority"]), json_values))
    def test_any_object_is_a_request_or_an_input_error(self, line: dict[str, Any]) -> None:
        try:
            asked = from_log_line(json.dumps(line))
        except InputError:
            return
        assert isinstance(asked.request.method, str)
        assert isinstance(asked.request.source_ip, str)
