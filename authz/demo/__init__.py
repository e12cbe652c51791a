"""The local stand behind `make run`: a local Cognito, this service, a real Envoy and an upstream.

stand.py      starts everything in order, stays until Ctrl-C, ends everything: the story of `authz demo`
scenario.py   `--once`: the requests, what is expected of each, and what came
screen.py     what a person sees: progress, addresses, curl lines, live decisions
cognito.py    the user pools, app clients, users and tokens of the demo
auth0.py      a stand-in for Auth0, which the pool federates
upstream.py   what is behind Envoy: it shows what it received; to a browser as page.py draws it
decisions.py  the log of the service while it is written: who asked, what was decided
files.py      authz.yaml, Envoy's configurations and the policies, for the ports of this run; certificate.py for TLS
processes.py  child processes that cannot outlive the stand; tether.py is their first breath
"""
