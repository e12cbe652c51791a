"""From other proxies to here: `authz import pomerium FILE` and `authz import kong FILE`.

Rules: what cannot be carried over and would widen access stops the import, every such place at once (LoadError); every
setting of the source stands in IMPORT.md with where it went or why it did not; no secret of the source is copied; what
is written was loaded and its tests were run before it is put in place.

Rooms, each importing only those after it: `pomerium` and `kong` (a source to an Import) with their `pomerium_…` and
`kong_…`, `writing` (an Import to a folder), `place` (what lies there already), `report`, `policy_files` and
`envoy_config` with its `envoy_…` (its files), `origins` (where their lines come from), `common` (what both sources
need), `ledger` (what became of each setting), `model` (what comes between), `durations`, `yaml_text`.
"""

from authz.workbench.importers.kong import import_kong
from authz.workbench.importers.pomerium import import_pomerium
from authz.workbench.importers.writing import ImportResult

__all__ = ["ImportResult", "import_kong", "import_pomerium"]
