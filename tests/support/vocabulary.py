"""The few words that generated policies and requests are made of.

Vocabularies are small on purpose: random hosts and claims would never meet, and every answer would be 404.
"""

from __future__ import annotations

GROUPS = ["admins", "developers", "Admins"]
TEXTS = [
    "alice",
    "bob",
    "alice@example.com",
    "bob@other.example",
    "example.com",
    "a",
    "@",
    "e",
    "a@example.com@other.example",
]
HOSTS = [
    "https://a.example",
    "https://a.example:8443",
    "https://A.Example:443/",
    "http://b.example",
    "http://b.example:443",
    "https://*.example",
    "https://*.example:8443",
    "https://x.*.test",
    "https://*",
]
PATHS = ["/", "/a", "/a/b", "/a/", "/%61", "/caf%c3%a9", "/café", "/ab"]
REGEXES = ["/a|/b", "/[a-c]+", "^/a/.*$", "/a(/b)?", ".*"]
METHODS = ["GET", "POST", "OPTIONS"]
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Auckland"]
CLAIMS = ["cognito:groups", "level", "a.b", "a.b.c", "custom:tenantId", "https://acme.example/roles"]
VALUES = ["admins", "5", 5, 5.0, 1, True, False, "true", 0, "x"]

REQUEST_HOSTS = [
    "a.example",
    "a.example",
    "A.EXAMPLE:8443",
    "a.example.",
    "b.example:443",
    "b.example",
    "c.example:8443",
]
REQUEST_HOSTS += ["x.y.test", "x.y.z.test:81", "other", "u@a.example", "a.example:0", "a..example"]
REQUEST_PATHS = ["/", "/a", "/a", "/a/b", "/a/b?x=//", "/%61", "/a/", "/ab", "/b", "/caf%C3%A9", "/caf%c3%a9", "/zz"]
REQUEST_PATHS += ["/a/../b", "/a%2fb", "//a", "/a;b", "/%", "/%252e", "/a%25", "/a%3Fb", "", "a", "/a#b", "/%c0%af"]
