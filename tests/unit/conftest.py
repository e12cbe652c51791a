"""What several of these tests need."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from authz.shared_memory import shared_memory


@pytest.fixture
def memory() -> Iterator[int]:
    """Give memory that workers share."""
    descriptor = shared_memory()
    yield descriptor
    os.close(descriptor)
