"""TLS on the gRPC port: certificates that follow their files. Which proxies may ask, `guard.py` says.

Rules. The files are looked at before every handshake, and every few seconds besides, so that a bad renewal is told
before the next connection. gRPC asks before a handshake, in a thread of its own: it hardly waits for somebody who looks
already, and whose disk may be slow. Certificate, key and client authorities change together or not at all:
files that are missing, half written or no pair leave the last good ones in force, and the log says so once. A new
`client_ca` counts for new connections; those that are open were let in by the old one and stay. TLS is 1.2 at least:
gRPC offers nothing older.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import grpc
from cryptography import x509

from authz.settings import TlsSettings
from authz.settings.key_pairs import why_no_pair

LOOK_SECONDS: Final = 2.0
LONGEST_WAIT_SECONDS: Final = 0.05  # of a handshake, for somebody else's look
_SETTLED_SECONDS: Final = 2.0  # a file system's clock may be so coarse: two writes in it look like one

log: Final = logging.getLogger("authz")


class _Contents(NamedTuple):
    certificate: bytes
    key: bytes
    client_ca: bytes | None


_Marks: TypeAlias = tuple[tuple[int, int, int, int], ...]


class Certificates:
    """The files of `tls:`. Raises OSError or RuntimeError when they are no good at the start."""

    def __init__(self, tls: TlsSettings, wall: Callable[[], float] = time.time) -> None:
        self._files = [Path(tls.certificate), Path(tls.key), *(() if tls.client_ca is None else (Path(tls.client_ca),))]
        self._wall = wall
        self._turn = threading.Lock()  # gRPC's threads and ours look at the files
        self._seen: _Marks | None = None
        self._complaint = ""
        self._in_force = self._read()
        if (complaint := _why_unusable(self._in_force)) is not None:
            raise RuntimeError(f"tls: {complaint}")
        self._handed = self._in_force

    def credentials(self) -> grpc.ServerCredentials:
        """Give credentials that follow the files."""
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._in_force),
            self.changed,  # type: ignore[arg-type]  # the stubs forget None, which means no change
            require_client_authentication=len(self._files) == 3,
        )

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Give what to show from this handshake on; None when nothing is new."""
        if self._turn.acquire(timeout=LONGEST_WAIT_SECONDS):
            try:
                self._look()
            finally:
                self._turn.release()
        in_force = self._in_force
        if self._handed is in_force:
            return None
        self._handed = in_force
        return _configuration(in_force)

    async def watch(self, seconds: float = LOOK_SECONDS) -> None:
        """Look at the files now and then, so that the log tells of them before the next handshake."""
        while True:
            await asyncio.sleep(seconds)
            await asyncio.to_thread(self.look)

    def look(self) -> None:
        """Look at the files, and take what is good."""
        with self._turn:
            self._look()

    def _look(self) -> None:
        try:
            marks = self._marks()
            if marks == self._seen:
                return
            found = self._read()
        except OSError as error:
            self._refuse(f"{error.filename} cannot be read: {error.strerror}")
            return
        newest = max(mark[0] for mark in marks) / 1e9
        self._seen = marks if abs(self._wall() - newest) > _SETTLED_SECONDS else None
        if found == self._in_force:
            self._complaint = ""
        elif (complaint := _why_unusable(found)) is not None:
            self._refuse(complaint)
        else:
            self._in_force, self._complaint = found, ""
            log.info("certificates loaded", extra={"fields": {"certificate": str(self._files[0])}})

    def _refuse(self, complaint: str) -> None:
        if complaint != self._complaint:
            self._complaint = complaint
            log.error("certificates refused, the last good ones stay in force: %s", complaint)

    def _marks(self) -> _Marks:
        stats = [file.stat() for file in self._files]
        return tuple((stat.st_ctime_ns, stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in stats)

    def _read(self) -> _Contents:
        certificate, key, *client_ca = map(_read_regular, self._files)
        return _Contents(certificate, key, client_ca[0] if client_ca else None)


def _read_regular(path: Path) -> bytes:
    """Read a file; OSError for a pipe in its place, which would keep every handshake waiting."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return file.read()


def _why_unusable(contents: _Contents) -> str | None:
    if (complaint := why_no_pair(contents.certificate, contents.key)) is not None:
        return f"certificate and key: {complaint}"
    if contents.client_ca is None:
        return None
    try:
        x509.load_pem_x509_certificates(contents.client_ca)
    except ValueError:
        return "client_ca: no usable certificate"
    return None


def _configuration(contents: _Contents) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(contents.key, contents.certificate)], contents.client_ca)
