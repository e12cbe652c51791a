"""What would have been written to stdout."""

from __future__ import annotations

import json
from typing import Any

from authz.lines import Line


class Lines:
    """Plays the writer: keeps what it is given."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, line: Line) -> None:
        text = str(line)
        assert "\n" not in text
        self.lines.append(text)

    @property
    def last(self) -> Any:
        return json.loads(self.lines[-1])
