"""The directory of the embedded Kafka: its records, its log, and the lock that one broker at a time holds."""

from __future__ import annotations

import fcntl
import re
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from app.errors import EmbeddedBrokerError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LEAST_FREE_BYTES = 16 << 20
"""On a disk with less the broker dies at its next write, or while it starts (seen with 4.4 at 60 KB)."""

_LOG_LINES_IN_ERROR = 12
_OF_A_NEWER_KAFKA = re.compile(r"MetadataParseException|No MetadataVersion with feature level")
"""What a broker says of metadata that it does not know: 3.9 and 4.1 on data of 4.4, older ones on other data."""


class KafkaDirectory:
    """`<data_dir>/kafka`: `log/` has the records, `server.properties`, `kafka.log` what Kafka itself logs.

    Errors are `EmbeddedBrokerError`s that name the fix.
    """

    def __init__(self, data_dir: Path, least_free_bytes: int = LEAST_FREE_BYTES) -> None:
        self.path = data_dir.absolute() / "kafka"
        self.properties_path = self.path / "server.properties"
        self.records_path = self.path / "log"
        self.log_path = self.path / "kafka.log"
        self.classes_path = self.path / "classes.list"
        self._least_free_bytes = least_free_bytes

    def prepare(self) -> None:
        """Create the directory; raises if Kafka could not use it, or if its disk is full."""
        if "," in str(self.path):
            raise EmbeddedBrokerError(
                f"Kafka reads {self.path} as two directories: choose one without a comma with --data-dir"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EmbeddedBrokerError(
                f"{self.path} cannot be made ({error.strerror}): choose another directory with --data-dir "
                "(EBS_DATA_DIR)"
            ) from None
        if full := self.why_no_room():
            raise EmbeddedBrokerError(f"{full}, or choose another directory with --data-dir (EBS_DATA_DIR)")

    def why_no_room(self) -> str:
        """Return why the disk is too full for the broker, "" if it is not."""
        free_bytes = shutil.disk_usage(self.path).free
        if free_bytes >= self._least_free_bytes:
            return ""
        return (
            f"the disk of {self.path} is full ({free_bytes >> 10} KiB are free, Kafka needs "
            f"{self._least_free_bytes >> 20} MiB): make room there"
        )

    @property
    def is_formatted(self) -> bool:
        """Whether Kafka has laid out its storage here."""
        return (self.records_path / "meta.properties").exists()  # Kafka's formatter writes it last

    @property
    def has_crashed(self) -> bool:
        """Whether the last broker ended without a stop: Kafka marks each stop by a file."""
        return self.is_formatted and not (self.records_path / ".kafka_cleanshutdown").exists()

    @contextmanager
    def lock(self) -> Iterator[TextIO]:
        """Lock the directory; the broker inherits the lock, so it holds exactly as long as that process lives."""
        with (self.path / "broker.lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise EmbeddedBrokerError(
                    f"another broker ({lock.read() or 'just starting'}) works on {self.path}: stop it, use it "
                    "with --broker, or choose another directory with --data-dir (EBS_DATA_DIR)"
                ) from None
            lock.truncate(0)
            yield lock

    def turn_log(self) -> None:
        """Begin a new `kafka.log`; the last one becomes `kafka.log.1`."""
        if self.log_path.exists():
            self.log_path.replace(self.log_path.with_name("kafka.log.1"))

    def failure(self, what: str, version: str) -> EmbeddedBrokerError:
        """Return the error of a broker of this version; it ends with the last lines of the log."""
        log = self.log_path.read_text(errors="replace")
        if _OF_A_NEWER_KAFKA.search(log):
            return EmbeddedBrokerError(
                f"a newer Kafka than {version} wrote the data in {self.path}, and {version} cannot read "
                "it: unset EBS_KAFKA_VERSION or name the newer version, or choose another directory with --data-dir "
                "(EBS_DATA_DIR)"
            )
        lines = log.splitlines()[-_LOG_LINES_IN_ERROR:]
        return EmbeddedBrokerError(
            "\n  ".join([f"the embedded Kafka {what}; the last lines of {self.log_path} say why:", *lines])
        )
