"""Where in the source the lines of the written files come from: what is not written yet cannot be opened."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from authz.document import parse
from authz.errors import Problem
from authz.model import Source
from authz.node import Fields, Items, Node, Problems
from authz.workbench.importers.common import text_in
from authz.workbench.importers.ledger import Ledger
from authz.workbench.importers.model import Import


class Origins:
    """Knows the source's places behind the files of one import."""

    def __init__(self, imported: Import, source: Path, files: Mapping[str, str], ledger: Ledger) -> None:
        self._routes = {route.id: route.source for route in imported.routes}
        self._source = Source(str(source), 1, 1)
        self._files = files
        self._ledger = ledger

    def placed(self, problem: Problem) -> Problem:
        """Move a problem of a written file to the source."""
        name = problem.source.file
        message = f"the imported `{name}` does not load: {problem.message}"
        return problem._replace(source=self._of(name, problem.source.line), message=message)

    def of_route(self, route_id: str | None) -> Source:
        """Give a route's place; the source itself where there is none."""
        return self._routes.get(route_id or "", self._source)

    def _of(self, name: str, line: int) -> Source:
        root = parse(self._files[name].encode(), name, Problems())
        if isinstance(root, Items):
            return self.of_route(_route_at(root, line))
        return self._of_setting(root, line) if isinstance(root, Fields) and name == "authz.yaml" else self._source

    def _of_setting(self, root: Fields, line: int) -> Source:
        """Give the place of the setting that the ledger says went under this key of `authz.yaml`."""
        keys = [key.text for key, _ in root.entries if key.source.line <= line]
        mark = f"`authz.yaml`: `{keys[-1]}" if keys else ""
        return next((one.source for one in self._ledger.entries if keys and mark in one.text), self._source)


def _route_at(policies: Items, line: int) -> str | None:
    found: Node | None = None
    for node in policies:
        found = node if node.source.line <= line else found
    return text_in(found.get("id")) if isinstance(found, Fields) else None
