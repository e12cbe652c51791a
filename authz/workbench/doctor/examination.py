"""All checks in order, on values alone: no file, no network."""

from __future__ import annotations

from collections.abc import Iterator

from authz.document import Node
from authz.errors import LoadError, Problem, Severity
from authz.workbench.doctor.clusters import check_clusters
from authz.workbench.doctor.configuration import Configuration
from authz.workbench.doctor.filters import check_filters
from authz.workbench.doctor.findings import Finding
from authz.workbench.doctor.managers import check_listeners, check_manager
from authz.workbench.doctor.promises import Promises
from authz.workbench.doctor.routes import check_routes
from authz.workbench.doctor.two_sides import check_two_sides

_ORDER = (Severity.ERROR, Severity.WARNING, Severity.NOTE)


def examine(root: Node, promises: Promises) -> list[Finding]:
    """Give every finding once, the worst first. Raises LoadError for what holds no HTTP listener to judge."""
    envoy = Configuration(root)
    if not envoy.managers and not envoy.raw_listeners:
        problem = "no HTTP connection manager in here: give an Envoy bootstrap file, or the address of its admin"
        raise LoadError([Problem(root.source, problem)])
    return sorted(dict.fromkeys(_findings(envoy, promises)), key=lambda one: (_ORDER.index(one.severity), one.source))


def _findings(envoy: Configuration, promises: Promises) -> Iterator[Finding]:
    yield from check_listeners(envoy)
    for manager in envoy.managers:
        yield from check_manager(envoy, manager, promises)
        yield from check_filters(envoy, manager, promises)
        yield from check_routes(manager, promises)
    yield from check_clusters(envoy, promises)
    if promises.routes is not None:
        yield from check_two_sides(envoy, promises.routes)
