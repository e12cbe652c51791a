"""This service, every call decided as it comes, as if there were no rush: `python -m tests.bench.apart serve …`.

What the groups of `authz/transport/rush.py` bring is measured against it, in the same run.
"""

from __future__ import annotations

import sys

from authz.cli import main
from authz.transport import rush

if __name__ == "__main__":
    rush.GAP_SECONDS = -1.0  # type: ignore[misc]  # no gap is so short
    sys.exit(main())
