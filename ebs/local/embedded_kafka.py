"""One real Apache Kafka as a child process, for the first look and for the tests.

It listens on the loopback address only, dies with the process that started it, and does not get the terminal's Ctrl-C.
Start it from the main thread (see `tether.py`). `kafka_directory.py` says what it writes.
"""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import subprocess
import threading
import uuid
from concurrent.futures import Future
from typing import TYPE_CHECKING

from app.addresses.ports import LOOPBACK, free_port, holder_of, is_free
from app.errors import EmbeddedBrokerError
from app.kafka.cluster import Cluster
from app.kafka.probe import why_unavailable
from app.settings.settings import load
from ebs.local.class_archive import ClassArchive
from ebs.local.kafka_commands import format_command, java_command, server_command, server_properties
from ebs.local.kafka_directory import LEAST_FREE_BYTES, KafkaDirectory
from ebs.local.kafka_runtime import default_cache_dir, ensure_jars, find_java, pinned_jars
from ebs.local.tether import tethered

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ebs.local.kafka_runtime import Progress

DEFAULT_PORT = 9092

_POLL_S = 0.05
_RECOVERY_STOP_S = 30.0


class EmbeddedKafka:
    """A Kafka of one node (KRaft, both roles). Its data stays, so the next start continues where this one ended.

    `version` is one of `kafka_jars/`; without it, EBS_KAFKA_VERSION decides. `port` 0 takes a free one and keeps it.
    `quick_start` has it up in 2 s, but slower under load: off for benchmarks.
    `on_download(done_bytes, total_bytes)` is called during the first start's download, in another thread.
    `extra_properties` (lines that win over ours) and `format_options` make other brokers of it, such as one with users.
    Every failure is an `EmbeddedBrokerError` that names the fix.
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
        least_free_bytes: int = LEAST_FREE_BYTES,
    ) -> None:
        self.files = KafkaDirectory(data_dir, least_free_bytes)
        self.directory = self.files.path
        self.port = port or free_port()
        self.version = version or load().kafka_version
        self._quick_start = quick_start
        self._heap_mb = heap_mb
        self._cache_dir = cache_dir or default_cache_dir()
        self._on_download = on_download
        self._extra_properties = extra_properties
        self._format_options = format_options
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

    async def start(self, *, timeout_s: float = 120.0) -> None:
        """Start the broker and return when it answers.

        The timeout holds for the format of the storage at the first start, and again for the first answer. It does not
        hold for the download of Kafka, once per machine.
        """
        java = await _in_daemon_thread(find_java)
        jars = await _in_daemon_thread(lambda: ensure_jars(self._cache_dir, self._on_download, version=self.version))
        self.files.prepare()
        with self.files.lock() as lock:
            if not is_free(self.port):
                raise EmbeddedBrokerError(
                    f"port {self.port} of {LOOPBACK} is taken{holder_of(self.port)}, so the embedded Kafka cannot "
                    f"listen there: if a Kafka has it, use that one with --broker {self.bootstrap} (EBS_BROKER); if "
                    "not, choose another port with --kafka-port"
                )
            class_path = [jars / jar.filename for jar in pinned_jars(self.version)]
            archive = ClassArchive(java, class_path, jars.parent)
            command = java_command(java, class_path, archive.options(self.files.classes_path))
            if self.files.has_crashed:
                await self._recover(command, lock.fileno(), timeout_s)
            await self._launch(command, lock.fileno(), timeout_s)
            lock.write(f"process {self.pid} at {self.bootstrap}")
        try:
            await self._wait_until_ready(self.bootstrap, timeout_s)
        except EmbeddedBrokerError:
            if (self.exit_code or 0) < 0:  # Java itself crashed, or hung: perhaps by a damaged archive
                archive.discard()
            raise
        if not archive.is_settled:
            self._run_aside(archive.making(self.files.classes_path))

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
        """Freeze the broker (SIGSTOP) and return when it has stopped: connections stay open, nothing answers."""
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

    def _run_aside(self, command: list[str]) -> None:
        """Run a command that ends with this process, if not before."""
        nowhere = subprocess.DEVNULL
        options = {"stdin": nowhere, "stdout": nowhere, "stderr": nowhere, "start_new_session": True}
        thread = threading.Thread(target=subprocess.run, args=(tethered(command),), kwargs=options, daemon=True)
        thread.start()  # it waits, so that nothing is left to be reaped

    async def _recover(self, java: Sequence[str], lock_fd: int, timeout_s: float) -> None:
        """Start once on a port that no client knows, and stop.

        A broker that starts after a crash becomes leader, is fenced, and becomes leader again. So it loads the
        committed offsets twice at the same time into the same memory. The result can be old offsets, or offsets that
        wait for ever for the end of a transaction (seen in 4.1.2 and 4.4.0). After a normal stop it loads them once.
        """
        port = free_port()
        await self._launch(java, lock_fd, timeout_s, recovery_port=port)
        await self._wait_until_ready(f"{LOOPBACK}:{port}", timeout_s)
        await self.stop(grace_s=_RECOVERY_STOP_S)

    async def _launch(
        self, java: Sequence[str], lock_fd: int, timeout_s: float, *, recovery_port: int | None = None
    ) -> None:
        files = self.files
        text = server_properties(
            host=LOOPBACK,
            port=recovery_port or self.port,
            controller_port=free_port(),
            log_dir=files.records_path,
            is_recovering=recovery_port is not None,
        )
        files.properties_path.write_text(text if recovery_port else text + self._extra_properties)
        files.turn_log()
        if not files.is_formatted:
            await self._format(java, timeout_s)
        command = server_command(java, files.properties_path, heap_mb=self._heap_mb, quick_start=self._quick_start)
        with self.files.log_path.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220, S603  # a fork; the command is our own
                tethered(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(),
                start_new_session=True,
                pass_fds=[lock_fd],
            )

    async def _format(self, java: Sequence[str], timeout_s: float) -> None:
        command = format_command(java, self.files.properties_path, _new_cluster_id(), self._format_options)
        with self.files.log_path.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *tethered(command),
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
        return self.files.failure(what, self.version)


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
