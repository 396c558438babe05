"""From the settings to processes that serve: one, or several under a parent that replaces those that die."""

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable
from types import FrameType

from sqlhttp_gateway.app import check_usable, create_app
from sqlhttp_gateway.cache.stamps import Stamps
from sqlhttp_gateway.descriptors import most_connections, raise_limit, shortage
from sqlhttp_gateway.errors import ConfigurationError
from sqlhttp_gateway.observe.logs import configure_logging
from sqlhttp_gateway.observe.reporter import Place
from sqlhttp_gateway.observe.slots import Slots
from sqlhttp_gateway.reload import in_effect
from sqlhttp_gateway.serve import END_SIGNAL, RELOAD_SIGNAL, STOP_SIGNALS, GatewayServer
from sqlhttp_gateway.settings import Settings
from sqlhttp_gateway.siblings import Lines
from sqlhttp_gateway.sockets import Sockets, address, bind_all

STARTUP_FAILURE = 3  # uvicorn's exit status when the application could not start; a new try would fail as well
RESPAWN_PAUSE = 1.0  # seconds before a worker that died is replaced, so that one that always dies does no harm
LATE = 10.0
"""Seconds that a worker has beyond those of its drain, or when it is told to end at once; one that hangs is killed."""
_SIGNALS = (*STOP_SIGNALS, RELOAD_SIGNAL, END_SIGNAL)

log = logging.getLogger(__name__)


def serve(settings: Settings, *, read: Callable[[], Settings]) -> int:
    """Serve until SIGTERM or SIGINT, then drain; the process's exit status. At SIGHUP the settings are `read` again.

    Raises:
        ConfigurationError: an address cannot be had, or a connection string or certificate cannot be used.
    """
    configure_logging(settings.log)
    with bind_all(settings) as sockets:
        scheme = "https" if settings.listen.tls_certificate is not None and settings.listen.https else "http"
        url = address(sockets[0].http, scheme)
        log.info("listening on %s, %d worker(s), pid %d", url, len(sockets), os.getpid())
        _make_room(settings)
        if len(sockets) == 1:
            return GatewayServer(settings, sockets[0], read=read).serve_until_told()
        create_app(settings)  # so that a wrong connection string is one message here, not one from each worker
        return Workers(settings, sockets, read=read).supervise()


def _make_room(settings: Settings) -> None:
    """For as many programs as are wanted, and say how many each worker takes."""
    limit = raise_limit(settings).soft
    if short := shortage(settings, limit):
        log.warning("%s", short)
    log.info(
        "%d programs may be connected to each worker, which may open %d files",
        *(most_connections(settings, limit), limit),
    )


class Workers:
    """The parent of several worker processes: replaces one that dies, and hands on the signals that it gets."""

    def __init__(self, settings: Settings, sockets: list[Sockets], *, read: Callable[[], Settings]) -> None:
        self._settings = settings
        self._sockets = sockets
        self._read = read
        self._slots = Slots(len(sockets))
        self._lines = Lines(len(sockets))
        self._stamps = Stamps()
        self._running: dict[int, int] = {}  # each worker's number, by its pid
        self._stopping = False
        self._status = 0

    def supervise(self) -> int:
        """Run one worker on each set of sockets until a signal comes and all have drained; the exit status."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._stop)
        signal.signal(RELOAD_SIGNAL, self._reload)
        for worker in range(len(self._sockets)):
            self._spawn(worker)
        while self._running:
            pid, status = os.wait()
            self._ended(pid, os.waitstatus_to_exitcode(status))
        return self._status

    def _spawn(self, number: int) -> None:
        while not self._stopping and not self._fork(number):
            time.sleep(RESPAWN_PAUSE)

    def _fork(self, number: int) -> bool:
        """Whether there is a worker more, or none is wanted; False when the system has no room for it just now."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # a stop between fork and entry would miss this worker
        try:
            if not self._stopping:
                pid = os.fork()
                if pid == 0:
                    self._work(number)
                self._running[pid] = number
            return True
        # Too many processes, which is a BlockingIOError, or no memory: the other workers must not end of it.
        except OSError as error:
            log.error("worker %d cannot be started, trying again: %s", number, error.strerror)
            return False
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def _work(self, number: int) -> None:
        status = 1
        try:
            own = self._sockets[number]
            for each in self._sockets:
                each.close(but=own)  # a copy kept here would hold connections that nobody accepts
            place = Place(self._slots, number, self._lines)
            server = GatewayServer(
                self._settings, self._sockets[number], place=place, stamps=self._stamps, read=self._read
            )
            server.take_signals()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            status = server.serve_until_told()
        except BaseException:
            log.exception("worker %d failed", os.getpid())
        finally:
            logging.shutdown()
            os._exit(status)  # what the parent has open is the parent's to close

    def _ended(self, pid: int, status: int) -> None:
        number = self._running.pop(pid, None)
        if number is not None and self._stopping and status == -signal.SIGKILL:
            log.error("worker %d did not end in time, or was killed", pid)
            self._status = self._status or 1
        if number is None or self._stopping:
            return
        if status == STARTUP_FAILURE:
            log.error("worker %d could not start; stopping", pid)
            self._status = STARTUP_FAILURE
            self._stop(signal.SIGTERM, None)
            return
        log.error("worker %d ended with status %d; starting another", pid, status)
        time.sleep(RESPAWN_PAUSE)
        self._spawn(number)

    def _reload(self, number: int, frame: FrameType | None) -> None:
        """Each worker reads for itself, and the first tells; here it is only for workers that are yet to come."""
        # What no worker takes up, none could begin with: those that die would be replaced no more.
        with contextlib.suppress(ConfigurationError, OSError):
            wanted = in_effect(self._settings, self._read())
            check_usable(wanted)
            self._settings = wanted
        self._send(RELOAD_SIGNAL)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        drain = self._settings.drain
        wanted, left = (END_SIGNAL, 0.0) if self._stopping else (signal.SIGTERM, drain.notice + drain.grace)
        self._stopping = True
        signal.signal(signal.SIGALRM, self._kill)
        signal.setitimer(signal.ITIMER_REAL, left + LATE)
        for each in self._sockets:
            each.close()
        self._send(wanted)

    def _kill(self, number: int, frame: FrameType | None) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        for pid in list(self._running):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
