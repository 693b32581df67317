"""One real Apache Kafka as a child process, for the first look and for the tests.

Everything it writes is in `<data_dir>/kafka/`: `log/` the records, `server.properties`, `kafka.log` its own words
(those of its previous life in `kafka.log.1`). It listens on the loopback address only, dies with the process that
started it, and does not get the terminal's Ctrl-C. Start it from the main thread (see `tether.py`).
"""

from __future__ import annotations

import asyncio
import base64
import fcntl
import os
import re
import shutil
import signal
import subprocess
import threading
import uuid
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING

from app.addresses.ports import LOOPBACK, free_port, holder_of, is_free
from app.errors import EmbeddedBrokerError
from app.kafka.cluster import Cluster
from app.kafka.probe import why_unavailable
from app.settings.settings import load
from ebs.local.class_archive import ClassArchive
from ebs.local.kafka_commands import format_command, java_command, server_command, server_properties
from ebs.local.kafka_runtime import default_cache_dir, ensure_jars, find_java, pinned_jars
from ebs.local.tether import tethered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ebs.local.kafka_runtime import Progress

DEFAULT_PORT = 9092

_POLL_S = 0.05
_LOG_LINES_IN_ERROR = 12
_LEAST_FREE_BYTES = 16 << 20
"""On a disk with less the broker dies at its next write, or while it starts (seen with 4.4 at 60 KB)."""
_RECOVERY_STOP_S = 30.0
_OF_A_NEWER_KAFKA = re.compile(r"MetadataParseException|No MetadataVersion with feature level")
"""What a broker says of metadata that it does not know: 3.9 and 4.1 on data of 4.4, older ones on other data."""


class EmbeddedKafka:
    """A Kafka of one node (KRaft, both roles); its data outlives it, so the next start goes on where this one ended.

    `version` is one of `kafka_jars/`; without it, EBS_KAFKA_VERSION decides. `port` 0 takes a free one and keeps it.
    `quick_start` has it up in 2 s, but slower under load: off for benchmarks.
    `on_download(done_bytes, total_bytes)` hears about the first start's fetching, in another thread. `extra_properties`
    (lines that win over ours) and `format_options` make other brokers of it, such as one with users.
    All that fails is an `EmbeddedBrokerError` that says what to do about it.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int = DEFAULT_PORT,
        *,
        version: str | None = None,
        quick_start: bool = True,
        heap_mb: int = 512,
        cache_dir: Path | None = None,
        on_download: Progress | None = None,
        extra_properties: str = "",
        format_options: Sequence[str] = (),
        least_free_bytes: int = _LEAST_FREE_BYTES,
    ) -> None:
        self.directory = data_dir.absolute() / "kafka"
        self.port = port or free_port()
        self.log_path = self.directory / "kafka.log"
        self._classes = self.directory / "classes.list"
        self.version = version or load().kafka_version
        self._quick_start = quick_start
        self._heap_mb = heap_mb
        self._cache_dir = cache_dir or default_cache_dir()
        self._on_download = on_download
        self._extra_properties = extra_properties
        self._format_options = format_options
        self._least_free_bytes = least_free_bytes
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """Return HOST:PORT for clients."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int | None:
        """Return the process id while the broker runs (or is paused), else None."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def exit_code(self) -> int | None:
        """Return how the latest life ended (negative: by that signal), None while it lasts."""
        return self._process.poll() if self._process is not None else None

    def why_no_room(self) -> str:
        """Return why the disk is too full for the broker, "" if it is not."""
        free_bytes = shutil.disk_usage(self.directory).free
        if free_bytes >= self._least_free_bytes:
            return ""
        return (
            f"the disk of {self.directory} is full ({free_bytes >> 10} KiB are free, Kafka needs "
            f"{self._least_free_bytes >> 20} MiB): make room there"
        )

    async def start(self, *, timeout_s: float = 120.0) -> None:
        """Start the broker and return when it answers; fetching Kafka, once a machine, is outside of the timeout.

        So long may its storage take, which is laid out at the first start, and so long its answer.
        """
        java = await _in_daemon_thread(find_java)
        jars = await _in_daemon_thread(lambda: ensure_jars(self._cache_dir, self._on_download, version=self.version))
        self._prepare_directory()
        if full := self.why_no_room():
            raise EmbeddedBrokerError(f"{full}, or choose another directory with --data-dir (EBS_DATA_DIR)")
        with self._sole_use() as lock_fd:
            if not is_free(self.port):
                raise EmbeddedBrokerError(
                    f"port {self.port} of {LOOPBACK} is taken{holder_of(self.port)}, so the embedded Kafka cannot "
                    f"listen there: if a Kafka has it, use that one with --broker {self.bootstrap} (EBS_BROKER); if "
                    "not, choose another port with --kafka-port"
                )
            class_path = [jars / jar.filename for jar in pinned_jars(self.version)]
            archive = ClassArchive(java, class_path, jars.parent)
            command = java_command(java, class_path, archive.options(self._classes))
            if self._has_crashed():
                await self._recover(command, lock_fd, timeout_s)
            await self._launch(command, lock_fd, timeout_s)
        try:
            await self._wait_until_ready(self.bootstrap, timeout_s)
        except EmbeddedBrokerError:
            if (self.exit_code or 0) < 0:  # Java itself crashed, or hung: perhaps by a damaged archive
                archive.discard()
            raise
        if not archive.is_settled:
            self._run_aside(archive.making(self._classes))

    async def stop(self, *, grace_s: float = 3.5) -> None:
        """Stop the broker: ask it to, and kill it after `grace_s`. One that is gone already is no error."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # a paused one cannot hear
        try:
            async with asyncio.timeout(grace_s):
                await self.wait_until_ended()
        except TimeoutError:
            self.kill()

    async def wait_until_ended(self) -> None:
        """Return when the broker's process is gone, for whatever reason."""
        while self.pid is not None:  # noqa: ASYNC110  # a pidfd would tell, but only on Linux
            await asyncio.sleep(_POLL_S)

    def kill(self) -> None:
        """Kill the broker, as `kill -9` does, and return when it is gone."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def pause(self) -> None:
        """Freeze the broker (SIGSTOP) and return when it stands: connections stay open, nothing answers."""
        self._signal(signal.SIGSTOP)
        if self._process is not None:
            # A signal is not obeyed at once: a broker on a busy machine answered once more.
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Let a paused broker go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _prepare_directory(self) -> None:
        if "," in str(self.directory):
            raise EmbeddedBrokerError(
                f"Kafka reads {self.directory} as two directories: choose one without a comma with --data-dir"
            )
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EmbeddedBrokerError(
                f"{self.directory} cannot be made ({error.strerror}): choose another directory with --data-dir "
                "(EBS_DATA_DIR)"
            ) from None

    @contextmanager
    def _sole_use(self) -> Iterator[int]:
        """Lock the directory; the broker inherits the lock, so that it holds exactly as long as that process lives."""
        with (self.directory / "broker.lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise EmbeddedBrokerError(
                    f"another broker ({lock.read() or 'just starting'}) works on {self.directory}: stop it, use it "
                    "with --broker, or choose another directory with --data-dir (EBS_DATA_DIR)"
                ) from None
            lock.truncate(0)
            yield lock.fileno()
            lock.write(f"process {self.pid} at {self.bootstrap}")

    def _run_aside(self, command: list[str]) -> None:
        """Run a command that ends with this process, if not before."""
        nowhere = subprocess.DEVNULL
        options = {"stdin": nowhere, "stdout": nowhere, "stderr": nowhere, "start_new_session": True}
        thread = threading.Thread(target=subprocess.run, args=(tethered(command),), kwargs=options, daemon=True)
        thread.start()  # it waits, so that nothing is left to be reaped

    def _has_crashed(self) -> bool:
        """Return whether the latest life left data without a stop: Kafka marks each stop by a file."""
        log_dir = self.directory / "log"
        return (log_dir / "meta.properties").exists() and not (log_dir / ".kafka_cleanshutdown").exists()

    async def _recover(self, java: Sequence[str], lock_fd: int, timeout_s: float) -> None:
        """Live once on a port that nobody knows, and stop.

        A broker that starts after a crash finds itself leader, is fenced, and becomes leader again. So it loads the
        committed offsets twice at once into the same memory, which may end with old offsets, or with some that wait for
        ever for the end of a transaction (seen in 4.4.0: "Ignored load completion"). After a stop it loads once.
        """
        port = free_port()
        await self._launch(java, lock_fd, timeout_s, recovery_port=port)
        await self._wait_until_ready(f"{LOOPBACK}:{port}", timeout_s)
        await self.stop(grace_s=_RECOVERY_STOP_S)

    async def _launch(
        self, java: Sequence[str], lock_fd: int, timeout_s: float, *, recovery_port: int | None = None
    ) -> None:
        properties = self.directory / "server.properties"
        log_dir = self.directory / "log"
        text = server_properties(
            host=LOOPBACK,
            port=recovery_port or self.port,
            controller_port=free_port(),
            log_dir=log_dir,
            is_recovering=recovery_port is not None,
        )
        properties.write_text(text if recovery_port else text + self._extra_properties)
        if self.log_path.exists():
            self.log_path.replace(self.log_path.with_name("kafka.log.1"))
        if not (log_dir / "meta.properties").exists():  # Kafka's formatter writes it last
            await self._format(java, properties, timeout_s)
        command = server_command(java, properties, heap_mb=self._heap_mb, quick_start=self._quick_start)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220, S603  # a fork; the command is our own
                tethered(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(),
                start_new_session=True,
                pass_fds=[lock_fd],
            )

    async def _format(self, java: Sequence[str], properties: Path, timeout_s: float) -> None:
        cluster_id = _new_cluster_id()
        with self.log_path.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *tethered(format_command(java, properties, cluster_id, self._format_options)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(),
                start_new_session=True,
            )
            try:
                async with asyncio.timeout(timeout_s):
                    exit_code = await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
                raise self._failure(f"did not lay out its storage within {timeout_s:g} s") from None
            if exit_code != 0:
                raise self._failure("could not lay out its storage")

    async def _wait_until_ready(self, bootstrap: str, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                while await why_unavailable(Cluster(bootstrap)) is not None:
                    if self.pid is None:
                        raise self._failure(f"ended with exit code {self.exit_code} while it started")
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            self.kill()
            raise self._failure(f"did not answer within {timeout_s:g} s") from None

    def _failure(self, what: str) -> EmbeddedBrokerError:
        log = self.log_path.read_text(errors="replace")
        if _OF_A_NEWER_KAFKA.search(log):
            return EmbeddedBrokerError(
                f"a newer Kafka than {self.version} wrote the data in {self.directory}, and {self.version} cannot read "
                "it: unset EBS_KAFKA_VERSION or name the newer version, or choose another directory with --data-dir "
                "(EBS_DATA_DIR)"
            )
        lines = log.splitlines()[-_LOG_LINES_IN_ERROR:]
        return EmbeddedBrokerError(
            "\n  ".join([f"the embedded Kafka {what}; the last lines of {self.log_path} say why:", *lines])
        )


def _new_cluster_id() -> str:
    """Return a random id as Kafka writes them; none that begins with a dash, which its own tool takes for an option."""
    while (cluster_id := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return cluster_id


async def _in_daemon_thread(work: Callable[[], Path]) -> Path:
    """Return what blocking work returns; Ctrl-C need not wait for it, as it would for `asyncio.to_thread`."""
    outcome: Future[Path] = Future()
    outcome.set_running_or_notify_cancel()

    def run() -> None:
        try:
            outcome.set_result(work())
        except Exception as error:  # noqa: BLE001  # it is raised where the result is awaited
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(outcome)


def _environment() -> dict[str, str]:
    # Java names files by the locale: without one it could not write into a directory such as `dätä`.
    return {**os.environ, "LC_ALL": "C.UTF-8"}
