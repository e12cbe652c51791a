"""The application as a browser sees it: who you are by the headers that authz set, and where you may try to go.

It knows nothing but those headers, like any application behind Envoy. One page for every path, no script, nothing from
another host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final, NamedTuple
from urllib.parse import unquote

from authz.demo.cognito import PROVIDER

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'"


class Place(NamedTuple):
    """A part of the application; the rule is in policies/97-app.yaml."""

    path: str
    name: str
    who: str


PLACES: Final = (
    Place("/", "Your page", "whoever is signed in"),
    Place("/developers", "Developers", "the groups developers and admins"),
    Place("/admin", "Administration", "the group admins"),
    Place("/staff", "Staff", "a verified e-mail address at example.com"),
    Place("/partners", "Partners", f"whoever signed in through {PROVIDER}"),
    Place("/public", "Public", "everyone, signed in or not"),
)


_LONG: Final = 24  # Cognito names federated users after their id at the provider


def page(path: str, headers: Mapping[str, Sequence[str]], credentials: Sequence[str]) -> str:
    """Draw the page for a path; `headers` are those received, `credentials` the places where a token was found."""
    here = max((one for one in PLACES if path.startswith(one.path)), key=lambda one: len(one.path))
    return _PAGE.format(
        title=escape(here.name),
        person=_person(headers) if "x-auth-subject" in headers else _NOBODY,
        places="".join(_place(one, is_here=one is here) for one in PLACES),
        received=_received(headers),
        credentials=f"A token is in: {escape(', '.join(credentials))}" if credentials else "No token is among them.",
    )


def _person(headers: Mapping[str, Sequence[str]]) -> str:
    email = _one(headers, "x-auth-email")
    groups = [unquote(group) for group in _one(headers, "x-auth-groups").split(",") if group]
    chips = "".join(f"<li>{escape(group)}</li>" for group in groups) or '<li class="none">no group</li>'
    name = _one(headers, "x-auth-username") or _one(headers, "x-auth-subject")
    return f"""<p class="who">Signed in as</p>
<h1 id="name"{' class="long"' if len(name) > _LONG else ""}>{escape(name)}</h1>
<p id="email">{escape(email) or "no e-mail address that counts"}</p>
<ul class="chips" id="groups" aria-label="Groups">{chips}</ul>
<p><a class="button" href="/sign-out">Sign out</a></p>"""


_NOBODY: Final = f"""<p class="who">Nobody is signed in</p>
<h1 id="name">Hello, whoever you are</h1>
<p>This page is for everyone. For the others authz wants to know who you are.</p>
<p><a class="button" href="/">Sign in</a> <a class="button" href="/sign-in/auth0">Sign in with {PROVIDER}</a></p>"""


def _place(place: Place, *, is_here: bool) -> str:
    current = ' aria-current="page"' if is_here else ""
    return f'<li><a href="{place.path}"{current}>{escape(place.name)}</a><span>for {escape(place.who)}</span></li>'


def _received(headers: Mapping[str, Sequence[str]]) -> str:
    rows = [(name, value) for name in sorted(headers) if name.startswith("x-auth-") for value in headers[name]]
    if not rows:
        return "<dt>nothing</dt><dd></dd>"
    return "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows)


def _one(headers: Mapping[str, Sequence[str]], name: str) -> str:
    return ",".join(headers.get(name, ()))


_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · authz demo</title>
<link rel="icon" href="data:,">
<style>
:root {{ color-scheme: light dark; --ink: #1c2430; --soft: #566070; --paper: #f3f5f8; --card: #fff; --line: #dfe4ea;
  --accent: #1f5fd0; --on-accent: #fff; --chip: #e6eefc }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e9edf3; --soft: #a3adbb; --paper: #11151b; --card: #1a2029;
  --line: #2c3541; --accent: #8ab4ff; --on-accent: #0d1830; --chip: #23324d }} }}
* {{ box-sizing: border-box }}
body {{ margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif }}
main {{ max-width: 64rem; margin: 0 auto; padding: 3rem 1.25rem; display: grid; gap: 1.25rem }}
@media (min-width: 50rem) {{ main {{ grid-template-columns: 3fr 2fr }} }}
main > div {{ display: grid; gap: 1.25rem; align-content: start; min-width: 0 }}
header {{ grid-column: 1 / -1; color: var(--soft) }}
header strong {{ color: var(--ink); font-size: 1.15rem; display: block }}
section {{ background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 1.5rem }}
h1 {{ font-size: 1.75rem; line-height: 1.2; margin: 0 0 .25rem; overflow-wrap: anywhere }}
h2 {{ font-size: 1rem; margin: 0 0 .5rem }}
h1.long {{ font-size: 1.2rem }}
p {{ margin: 0 0 1rem }}
section > :last-child {{ margin-bottom: 0 }}
.who {{ color: var(--soft); font-size: .9rem; margin: 0 }}
ul {{ list-style: none; margin: 0; padding: 0 }}
.chips {{ display: flex; flex-wrap: wrap; gap: .4rem; margin-bottom: 1.5rem }}
.chips li {{ background: var(--chip); border-radius: 99px; padding: .1rem .75rem; font-size: .9rem;
  overflow-wrap: anywhere }}
.chips .none {{ background: none; border: 1px dashed var(--line); color: var(--soft) }}
.places li {{ border-top: 1px solid var(--line); padding: .6rem 0 }}
.places li:first-child {{ border: 0 }}
.places span {{ display: block; color: var(--soft); font-size: .85rem }}
a {{ color: var(--accent); font-weight: 600; text-underline-offset: .2em }}
a[aria-current] {{ color: var(--ink); text-decoration: none }}
a[aria-current]::after {{ content: " (you are here)"; font-weight: 400; color: var(--soft); font-size: .85rem }}
.button {{ display: inline-block; background: var(--accent); color: var(--on-accent); text-decoration: none;
  padding: .5rem 1.1rem; border-radius: 9px; margin: 0 .5rem 0 0 }}
:focus-visible {{ outline: 3px solid var(--accent); outline-offset: 3px }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.25rem; margin: 1rem 0;
  overflow-wrap: anywhere; font: .85rem/1.5 ui-monospace, monospace }}
dt {{ color: var(--soft) }}
dd {{ margin: 0 }}
@media (max-width: 34rem) {{ dl {{ grid-template-columns: 1fr }} dd {{ margin-bottom: .5rem }} }}
</style>
</head>
<body>
<main>
<header><strong>{title}</strong>An application behind Envoy. It never sees a token: authz tells it who you are.</header>
<div>
<section>
{person}
</section>
<section>
<h2>What this application was told</h2>
<dl>{received}</dl>
<p id="credentials">{credentials}</p>
</section>
</div>
<section>
<h2>Places</h2>
<ul class="places">{places}</ul>
</section>
</main>
</body>
</html>
"""
