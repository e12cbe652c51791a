"""Several workers, one endpoint each, watched over by a process that decides nothing and never loads gRPC.

Rules: the configuration is read once, so that a worker that is started again is like the others, whatever became of the
file. A worker that ends is started again, at once the first time, then later and later; one that was told to end, by a
SIGTERM of its own, always at once, so that an operator can restart one after the other. One that no longer answers is
ended, because its endpoint is of no use. No client is given its port while it is away (`hold`). When the supervisor
ends, however that may be, so do the workers. Standard output is the supervisor's: workers write into pipes, which are
copied by whole lines, so that no line is torn by another process's. The first worker starts alone: what keeps it from
starting is told once, and ends everything.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from prometheus_client import Counter, Gauge
from prometheus_client.exposition import generate_latest

from authz.channel import EXPOSITION, MISSING, UP, Orders, read_missing, receive, send, write_orders
from authz.event_log import configure_logging
from authz.gathering import Gathering, read_exposition
from authz.lines import LineWriter
from authz.memory import share_arenas
from authz.metrics import CONTENT_TYPE, Registry
from authz.output import Output
from authz.settings import Listen, Settings
from authz.shared_memory import Shared, shared_memory
from authz.startup import heed, let_the_end_be
from authz.transport.admin import AdminServer, start_admin

FIRST_DELAY_SECONDS: Final = 0.1
LONGEST_DELAY_SECONDS: Final = 5.0
STEADY_SECONDS: Final = 30.0  # who lived that long starts with the first delay again
ANSWER_SECONDS: Final = 2.0  # a scraper waits 10 s, a readiness probe often 1 s
START_SECONDS: Final = 60.0  # 10,000 routes take five on a slow machine
LAST_LINES_SECONDS: Final = 0.1  # of one that ended, before ours about it; a blocked output keeps no worker away longer
PROBE_SECONDS: Final = 2.0
HUNG_SECONDS: Final = 10.0
DRAIN_SECONDS: Final = 10.0  # workers need 1.5 s to be noticed and up to 5 s for calls in flight
TELL_SECONDS: Final = 0.5
THRESHOLDS: Final = (700, 2, 2)  # of the collector


log: Final = logging.getLogger("authz.supervisor")


def hold(listen: Listen) -> socket.socket | None:
    """Keep the port from clients that connect to it while nobody listens; None if it cannot be kept or is no port.

    The kernel takes the local port of an outgoing connection from a range that may contain ours. A client that tries
    again and again then meets itself in the end, and such a connection keeps everybody from listening there until a
    minute after its end. It never takes a port that a socket is bound to. This one does not listen, so that the worker
    can, and a stranger who listens there already is still noticed. So it is on Linux; elsewhere it would be in the way.
    """
    if sys.platform != "linux" or listen.path is not None or not listen.port:
        return None
    holder: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            listen.host or None, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        holder = socket.socket(family, kind, protocol)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(address)
    except OSError:  # the worker will say why
        if holder is not None:
            holder.close()
        return None
    return holder


class Worker:
    """One worker: a process, and after its end the next one."""

    def __init__(self, index: int, settings: Settings, output: Output, shared: Shared | None) -> None:
        self.index = index
        self.up = asyncio.Event()
        self._settings = settings
        self._output = output
        self._shared = shared
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: deque[asyncio.Future[bytes]] = deque()

    async def live(self) -> int:
        """Start the process, and give its exit code when it has ended (negative: the signal that killed it)."""
        ours, theirs = socket.socketpair()
        try:
            process, copying = await self._start(theirs)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._process = process
        log.info(
            "worker started",
            extra={"fields": {"worker": self.index, "pid": process.pid, "listen": self._settings.listen.target}},
        )
        hearing = asyncio.create_task(self._hear(ours))
        try:
            return await process.wait()
        finally:
            self._process = None
            self.up.clear()
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)
            await asyncio.to_thread(copying.join, LAST_LINES_SECONDS)

    async def _start(self, channel: socket.socket) -> tuple[asyncio.subprocess.Process, threading.Thread]:
        source, sink = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-P", "-m", "authz", "worker"),
                stdin=asyncio.subprocess.PIPE,
                stdout=sink,
                pass_fds=[channel.fileno(), *(() if self._shared is None else (self._shared.descriptor,))],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},  # what we found, it finds
                start_new_session=True,  # Ctrl-C reaches the supervisor alone, which ends the workers in order
            )
        except BaseException:
            os.close(source)
            raise
        finally:
            os.close(sink)
        copying = self._output.copy_from(source)
        assert process.stdin is not None  # noqa: S101 - started with a pipe
        process.stdin.write(write_orders(Orders(self._settings, os.getpid(), channel.fileno(), self._shared)))
        with suppress(ConnectionError):  # it has ended already: its exit code tells
            await process.stdin.drain()
        process.stdin.close()
        with suppress(ConnectionError):
            await process.stdin.wait_closed()
        return process, copying

    async def _hear(self, connection: socket.socket) -> None:
        with connection:
            reader, self._writer = await asyncio.open_connection(sock=connection)
            try:
                if await receive(reader) == UP:
                    self.up.set()
                while True:
                    answer = await receive(reader)
                    question = self._waiting.popleft()
                    if not question.done():  # whoever asked has given up
                        question.set_result(answer)
            except (asyncio.IncompleteReadError, ConnectionError):
                pass  # it ended
            finally:
                self._writer.close()
                self._writer = None
                self.up.clear()
                while self._waiting:
                    self._waiting.popleft().cancel()

    async def ask(self, question: bytes, seconds: float = ANSWER_SECONDS) -> bytes | None:
        """Ask, and give the answer; None when there is none, or not in time."""
        if self._writer is None or not self.up.is_set():
            return None
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        with suppress(ConnectionError):
            await send(self._writer, question)
        done, _ = await asyncio.wait({answer}, timeout=seconds)
        if not done:
            answer.cancel()
        return answer.result() if done and not answer.cancelled() else None

    @property
    def pid(self) -> int | None:
        """The process that is there now; None between one and the next."""
        return None if self._process is None else self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send the signal to the process, if there is one."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)


class Supervisor:
    """Keeps the workers running, and answers for them on the admin port (`Pages`)."""

    def __init__(self, settings: Settings, output: Output) -> None:
        self._settings = settings
        self._memory = _shared_memory()
        self._workers = [
            Worker(index, replace(settings, listen=listen, admin=None, warnings=()), output, self._shared_by(index))
            for index, listen in enumerate(settings.endpoints)
        ]
        self._stop = asyncio.Event()
        self._all_up = False
        self._exit_code = 0
        self._gathering = Gathering()
        self._registry = Registry()
        self._states = Gauge("authz_workers", "Workers, by how they are.", ["state"], registry=self._registry)
        self._restarts = Counter(
            "authz_worker_restarts", "Workers started again after an end.", ["worker"], registry=self._registry
        )
        for worker in self._workers:
            self._restarts.labels(str(worker.index))

    def _shared_by(self, worker: int) -> Shared | None:
        return None if self._memory is None else Shared(self._memory, worker, len(self._settings.endpoints))

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT and give the exit code: 0, or that of the worker that could not start."""
        held = [hold(listen) for listen in self._settings.endpoints]
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            heed(loop, number, self._stop.set)
        heed(loop, signal.SIGHUP, self._reload)
        keeping: list[asyncio.Task[None]] = []
        admin: AdminServer | None = None
        try:
            for some in (self._workers[:1], self._workers[1:]):
                if self._stop.is_set():
                    break
                keeping += [asyncio.create_task(self._keep(worker)) for worker in some]
                for task in keeping:
                    task.add_done_callback(self._stop_at_failure)
                await self._up_or_stopped(some)
            if not self._stop.is_set():
                admin = await self._start_admin()
                self._all_up = True
                _forget_what_stays()
                log.info("all workers listen", extra={"fields": {"workers": len(self._workers)}})
            await self._stop.wait()
        finally:
            await self._end(keeping)
            if admin is not None:
                await admin.close()
            for holder in filter(None, held):
                holder.close()
            if self._memory is not None:
                os.close(self._memory)
        return self._exit_code

    async def _up_or_stopped(self, workers: Sequence[Worker]) -> None:
        stopped = asyncio.create_task(self._stop.wait())
        up = [asyncio.create_task(worker.up.wait()) for worker in workers]
        for one in up:
            await asyncio.wait({one, stopped}, return_when=asyncio.FIRST_COMPLETED)
        for task in (*up, stopped):
            task.cancel()
        await asyncio.gather(*up, stopped, return_exceptions=True)

    async def _start_admin(self) -> AdminServer | None:
        admin = self._settings.admin
        if admin is None:
            return None
        return await start_admin(admin, self)

    async def _keep(self, worker: Worker) -> None:
        """Let the worker live again and again."""
        delay = 0.0
        while True:
            began = time.monotonic()
            probing = asyncio.create_task(self._probe(worker))
            code = await self._life(worker)
            probing.cancel()
            await asyncio.gather(probing, return_exceptions=True)
            self._gathering.ended(str(worker.index))
            if self._stop.is_set():
                return
            if not self._all_up:
                if code <= 0:  # else it has told why on stderr
                    told = {"worker": worker.index, "exit": ending(code)}
                    log.error("a worker ended while all were started, and so do we", extra={"fields": told})
                self._exit_code = code if code > 0 else 1
                self._stop.set()
                return
            told_to_end = code in (0, -signal.SIGTERM)  # the second, before it could listen to signals
            delay = 0.0 if told_to_end or time.monotonic() - began >= STEADY_SECONDS else delay
            log.log(
                logging.INFO if told_to_end else logging.ERROR,
                "a worker ended, another one is started",
                extra={"fields": {"worker": worker.index, "exit": ending(code), "after_seconds": delay}},
            )
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), delay)
            if self._stop.is_set():
                return
            self._restarts.labels(str(worker.index)).inc()
            delay = min(max(FIRST_DELAY_SECONDS, 2 * delay), LONGEST_DELAY_SECONDS)

    async def _life(self, worker: Worker) -> int:
        try:
            return await worker.live()
        except OSError as error:  # no process, no memory, no descriptor left: perhaps later
            log.error("a worker cannot be started: %s", error.strerror, extra={"fields": {"worker": worker.index}})  # noqa: TRY400 - why is known
            return 1

    def _stop_at_failure(self, task: asyncio.Task[None]) -> None:
        """End everything when a worker would no longer be watched over; `_end` raises what happened."""
        if not task.cancelled() and task.exception() is not None:
            self._stop.set()

    async def _probe(self, worker: Worker) -> None:
        """End the worker when it does not come up, or its event loop no longer turns."""
        try:
            await asyncio.wait_for(worker.up.wait(), START_SECONDS)
        except TimeoutError:
            log.error("a worker does not come up and is ended", extra={"fields": {"worker": worker.index}})  # noqa: TRY400 - nothing failed here
            worker.signal(signal.SIGKILL)
            return
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            if not await self._answers(worker):
                log.error("a worker does not answer and is ended", extra={"fields": {"worker": worker.index}})
                worker.signal(signal.SIGKILL)
                return

    async def _answers(self, worker: Worker) -> bool:
        """Tell whether it answers, or may be ending: then its end of the channel is closed a moment before."""
        if worker.up.is_set():
            return await worker.ask(MISSING, HUNG_SECONDS) is not None or not worker.up.is_set()
        await asyncio.sleep(HUNG_SECONDS)
        return worker.up.is_set()

    async def _end(self, keeping: Sequence[asyncio.Task[None]]) -> None:
        """Let all workers drain together; force who takes too long."""
        self._stop.set()
        late, until = set(keeping), time.monotonic() + DRAIN_SECONDS
        while late and time.monotonic() < until:
            self._tell(signal.SIGTERM)  # again and again: one that was just being started could not be told yet
            _, late = await asyncio.wait(late, timeout=TELL_SECONDS)
        if late:
            self._tell(signal.SIGKILL)
        await asyncio.gather(*keeping)

    def _tell(self, number: signal.Signals) -> None:
        for worker in self._workers:
            worker.signal(number)

    def _reload(self) -> None:
        """Let all look at policies and keys at once. One that is just starting does so anyway, and does not listen."""
        for worker in self._workers:
            if worker.up.is_set():
                worker.signal(signal.SIGHUP)

    # --- the admin port

    async def missing(self) -> Sequence[str]:
        """Name what is missing in which worker; nothing means that all are ready."""
        found = await asyncio.gather(*map(self._missing_of, self._workers))
        return [
            f"worker {worker.index}: {line}"
            for worker, lines in zip(self._workers, found, strict=True)
            for line in lines
        ]

    async def exposition(self) -> tuple[bytes, str]:
        """Give the metrics of all workers together, and our own."""
        self._set_states(await asyncio.gather(*map(self._missing_of, self._workers)))
        asked = [worker.pid for worker in self._workers]
        expositions = await asyncio.gather(*(worker.ask(EXPOSITION) for worker in self._workers))
        for worker, pid, exposition in zip(self._workers, asked, expositions, strict=True):
            if exposition is not None:
                families = await asyncio.to_thread(read_exposition, exposition.decode())
                if worker.pid == pid:  # of one that has ended meanwhile, the sums are kept already
                    self._gathering.heard(str(worker.index), families)
        together = await asyncio.to_thread(generate_latest, self._gathering)
        return together + generate_latest(self._registry), CONTENT_TYPE

    async def _missing_of(self, worker: Worker) -> Sequence[str]:
        if not worker.up.is_set():
            return [_DOWN]
        answer = await worker.ask(MISSING)
        return ["does not answer"] if answer is None else read_missing(answer)

    def _set_states(self, missing: Sequence[Sequence[str]]) -> None:
        states = ["ready" if not lines else "down" if lines == [_DOWN] else "not-ready" for lines in missing]
        for state in ("ready", "not-ready", "down"):
            self._states.labels(state).set(states.count(state))


_DOWN: Final = "not running"


def _shared_memory() -> int | None:
    """Give memory for what the workers know together; None: each will know its own."""
    try:
        return shared_memory()
    except OSError:
        return None


def _forget_what_stays() -> None:
    """Let the collector see only what comes from now on, and all of that often: it is little.

    Else its full looks, after 70,000 objects more, would let cycles of scrapers' connections gather for half an hour.
    """
    gc.freeze()
    gc.collect()
    gc.set_threshold(*THRESHOLDS)


def ending(code: int) -> str:
    """Put an exit code into words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def supervise(settings: Settings) -> int:
    """Run the workers that the settings ask for, until a signal. Gives the exit code.

    Raises OSError when the admin address cannot be bound.
    """
    share_arenas()
    output = Output()
    source, sink = os.pipe()
    output.copy_from(source)
    writer = LineWriter(sink)
    configure_logging(writer, settings.log.level, settings.log.format)
    for problem in settings.warnings:
        log.warning("%s", problem)
    try:
        return asyncio.run(Supervisor(settings, output).run())
    finally:
        let_the_end_be()
        writer.close(timeout=2.0)
        os.close(sink)
        output.finish(2.0)
