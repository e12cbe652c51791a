"""What would have been written to stdout."""

from __future__ import annotations

import json
from typing import Any


class Lines:
    """Plays the writer: keeps what it is given."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, line: str) -> None:
        assert "\n" not in line
        self.lines.append(line)

    @property
    def last(self) -> Any:
        return json.loads(self.lines[-1])
