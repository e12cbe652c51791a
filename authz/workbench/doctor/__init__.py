"""`authz doctor`: what in an Envoy configuration would undo what authz promises.

Rules: what a request meets is judged, not how it is written down: names in snake_case and camelCase, wrapped in
TypedStruct or not, from a file or from a running Envoy; what cannot be seen (routes from RDS in a file) is said, never
taken for good; every finding has an id from a closed list, says where, what was found, and the fix.

Rooms, each importing only those after it: `verb` (options to text), `report`, `examination` (all checks in order),
`managers`, `routes`, `clusters`, `filters`, `headers`, `two_sides` (the checks), `matching` (Envoy's matchers),
`configuration` (what Envoy's file or dump holds), `runtime` (what it says in place of defaults), `promises` (what
authz.yaml says), `findings`, `place` (values that know their path).
"""

from authz.workbench.doctor.examination import examine
from authz.workbench.doctor.findings import Finding, FindingId
from authz.workbench.doctor.promises import Promises

__all__ = ["Finding", "FindingId", "Promises", "examine"]
