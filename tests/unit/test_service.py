"""What the wiring itself decides."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from authz.service import refuse_a_taken_socket
from authz.settings import Listen


def test_a_socket_that_somebody_answers_on_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "authz.sock")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen()
        with pytest.raises(OSError, match="another process listens"):
            refuse_a_taken_socket(Listen(path=path))


def test_a_socket_file_left_behind_is_none(tmp_path: Path) -> None:
    path = str(tmp_path / "authz.sock")
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(path)
    refuse_a_taken_socket(Listen(path=path))


def test_a_tcp_address_needs_no_look() -> None:
    refuse_a_taken_socket(Listen("127.0.0.1", 9191))
