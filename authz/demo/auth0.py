"""A stand-in for Auth0: an OpenID provider (oidc-provider-mock) that the demo's user pool federates.

Its sign-in page asks for no password: it lists who is there. The package's pages load their style from another host and
would take any name; here they get a style of our own, so that the demo needs no network, and one button: the form that
takes any name is cut out.
"""

from __future__ import annotations

import argparse
import os
import re
from typing import Any, Final

import flask
import oidc_provider_mock
import uvicorn

from authz.demo.cognito import FEDERATED

_STYLE: Final = """<title>Sign in · Auth0 (a stand-in)</title><style>
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;background:light-dark(#f4f1ee,#1b1917);color:light-dark(#26211d,#ece7e2);
margin:0;min-height:100vh;display:grid;place-items:center}
main{background:light-dark(#fff,#262320);border-radius:12px;padding:2rem 2.5rem;max-width:26rem;
box-shadow:0 2px 16px rgb(0 0 0/.12);overflow-wrap:anywhere}
h1{font-size:1.4rem;margin:0 0 .5rem}h2{font-size:1rem}p{font-size:.85rem;opacity:.75}
button{font:inherit;padding:.55rem 1rem;border:0;border-radius:8px;background:#eb5424;color:#fff;cursor:pointer}
</style>"""
_OUTSIDE_STYLE: Final = re.compile(r'<link\s+rel="stylesheet"[^>]*>')
_ANY_NAME: Final = re.compile(
    r'<style>\s*\.form-grid.*?</style>\s*<div class="form-grid">.*?</form>\s*</div>', re.DOTALL
)


def application() -> flask.Flask:
    """Build the server, with the one person whom it knows."""
    # The local Cognito turns a boolean into "True", and takes only "true" for verified: so the flag is a text here.
    claims = {"email": FEDERATED.email, "email_verified": "true"}
    person = oidc_provider_mock.User(sub=FEDERATED.subject, claims=claims)
    app: flask.Flask = oidc_provider_mock.app(user_claims=[person])

    @app.after_request
    def restyle(response: Any) -> Any:  # noqa: ANN401 - flask's own type has a parameter of no interest here
        if response.mimetype == "text/html":
            text = response.get_data(as_text=True).replace("Authorize Client", "Auth0 (a stand-in)")
            text = text.replace("Authenticate predefined users", "Sign in as")
            text = text.replace(f">{FEDERATED.subject}</button>", f">{FEDERATED.name}</button>")
            response.set_data(_OUTSIDE_STYLE.sub(_STYLE, _ANY_NAME.sub("", text)))
        return response

    return app


def main() -> None:
    """Serve on 127.0.0.1 until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"  # loopback without TLS is allowed
    port = parser.parse_args().port
    uvicorn.run(application(), interface="wsgi", host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main()
