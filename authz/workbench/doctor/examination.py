"""All checks in order, on values alone: no file, no network."""

from __future__ import annotations

from collections.abc import Iterator

from authz.errors import LoadError, Problem, Severity
from authz.node import Node
from authz.workbench.doctor.clusters import check_clusters
from authz.workbench.doctor.configuration import Configuration
from authz.workbench.doctor.filters import check_filters
from authz.workbench.doctor.findings import LOOK_THERE, Finding, FindingId, finding
from authz.workbench.doctor.managers import check_listeners, check_manager
from authz.workbench.doctor.place import written_twice
from authz.workbench.doctor.promises import Promises
from authz.workbench.doctor.routes import check_routes
from authz.workbench.doctor.trailers import check_trailers
from authz.workbench.doctor.two_sides import check_two_sides

_ORDER = (Severity.ERROR, Severity.WARNING, Severity.NOTE)


def examine(root: Node, promises: Promises) -> list[Finding]:
    """Give every finding once, the worst first. Raises LoadError for what holds no HTTP listener to judge."""
    envoy = Configuration(root)
    if not (envoy.managers or envoy.raw_listeners or envoy.unseen):
        problem = "no HTTP connection manager in here: give an Envoy bootstrap file, or the address of its admin"
        raise LoadError([Problem(root.source, problem)])
    found = (_in_a_dump(one) if envoy.is_dump else one for one in _findings(envoy, promises))
    return sorted(dict.fromkeys(found), key=lambda one: (_ORDER.index(one.severity), one.source))


def _in_a_dump(one: Finding) -> Finding:
    return one._replace(fix=LOOK_THERE) if one.id is FindingId.NOT_SEEN else one


def _findings(envoy: Configuration, promises: Promises) -> Iterator[Finding]:
    for field, other in written_twice(envoy.root):
        found = f"the same as `{other}` beside it: Envoy takes one of the two, and no more than chance says which"
        yield finding(FindingId.FIELD_WRITTEN_TWICE, field, found)
    yield from check_listeners(envoy)
    for manager in envoy.managers:
        yield from check_manager(envoy, manager, promises)
        yield from check_filters(envoy, manager, promises)
        yield from check_routes(manager, promises)
        yield from check_trailers(envoy, manager, promises)
    yield from check_clusters(envoy, promises)
    if promises.routes is not None:
        yield from check_two_sides(envoy, promises.routes)
