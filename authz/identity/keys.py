"""The keys that tokens are verified under: a generation of them, and who knows which one is current."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey


@dataclass(frozen=True, slots=True, eq=False)
class KeySet:
    """The keys of one generation. Its identity is the generation: a refresh that brings the same keys keeps it."""

    keys: Mapping[str, RSAPublicKey] = field(repr=False)


class KeySource(Protocol):
    """Who knows a pool's keys."""

    @property
    def current(self) -> KeySet | None:
        """The key set that is good now; None: there is none."""
