"""The configuration: a file, the environment and the serve flags become one frozen Settings, or every problem at once.

Rules: a flag goes before its environment twin, that before the file, that before the default. No check is skipped by
leaving a setting out: what decides who may come in is mandatory. An unknown key is an error: a setting that is silently
ignored could widen access. `${NAME}` in a value is taken from the environment, `$$` is a dollar sign. Relative paths
start at the folder of the file that names them.
The keys `routes` and `policy` hold policies; `policy/parser.py` reads them.

Rooms, each importing only those after it: `loading` (the whole), `environment`, `pools`, `regions`, `headers`,
`sections`, `addresses`, `key_pairs`, `refusals` (its parts), `values` (maps and single values), `types` (what comes
out), `templates`.
"""

from authz.settings.loading import load_settings
from authz.settings.types import (
    DEFAULT_ADMIN,
    DEFAULT_IDENTITY_HEADERS,
    DEFAULT_LISTEN,
    DEFAULT_TOKENS,
    ClaimSettings,
    IdentityHeaders,
    Listen,
    LogLevel,
    LogSettings,
    Pool,
    Settings,
    TlsSettings,
)

__all__ = [
    "DEFAULT_ADMIN",
    "DEFAULT_IDENTITY_HEADERS",
    "DEFAULT_LISTEN",
    "DEFAULT_TOKENS",
    "ClaimSettings",
    "IdentityHeaders",
    "Listen",
    "LogLevel",
    "LogSettings",
    "Pool",
    "Settings",
    "TlsSettings",
    "load_settings",
]
