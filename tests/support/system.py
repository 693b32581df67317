"""The whole system as processes: an API and a worker of each role, and what their `/metrics` say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import httpx
from api_process import ApiProcess
from fleet import PATIENT, ROLES, Fleet, until
from prometheus_client.parser import text_string_to_metric_families
from worker_pages import read_page

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from fleet import Worker

    from ebs.local.embedded_kafka import EmbeddedKafka

Labels = tuple[tuple[str, str], ...]


class System:
    """Started by `async with`; none of its processes outlives it."""

    def __init__(self, broker: EmbeddedKafka, directory: Path, partitions: int, **environment: str) -> None:
        self.broker = broker
        self.partitions = partitions
        shared = {"EBS_PARTITIONS": str(partitions), **PATIENT, **environment}
        self.fleet = Fleet(broker.bootstrap, directory, shared)
        self._api_environment = shared | {"EBS_BROKER": broker.bootstrap, "EBS_DATA_DIR": str(directory / "api")}
        self._directory = directory
        self.api = self.start_api()

    def start_api(self) -> ApiProcess:
        """Start another API process on the same data."""
        self.api = ApiProcess(self._directory, **self._api_environment)
        return self.api

    async def __aenter__(self) -> Self:
        self.fleet.start_all()
        await self.is_ready()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.fleet.stop()
        self.api.client.close()
        self.api.kill()

    async def is_ready(self) -> None:
        """Wait until everything that runs is ready."""
        await until(
            lambda: (
                all(read_page(worker, "/readyz").status == 200 for worker in self.fleet.workers.values())
                and self._api_is_ready()
            ),
            "workers and API to be ready",
            fleet=self.fleet,
        )

    def worker(self, role: str) -> Worker:
        """Return the first worker of a role."""
        return self.fleet.workers[f"{role}-1"]

    def pages(self) -> list[str]:
        """Return the API's `/metrics` and one of each role."""
        return [
            self.api.client.get("/metrics").text,
            *(read_page(self.worker(role), "/metrics").text for role in ROLES),
        ]

    def _api_is_ready(self) -> bool:
        try:
            return self.api.client.get("/readyz").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False


def samples_of(page: str) -> dict[tuple[str, Labels], float]:
    """Return the samples of a page by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def value_of(page: str, name: str, **labels: str) -> float | None:
    """Return one sample, None if it is not there; `queue` is a label of all that a processing worker tells."""
    samples = samples_of(page)
    with_queue = tuple(sorted({"queue": "default", **labels}.items()))
    return samples.get((name, tuple(sorted(labels.items()))), samples.get((name, with_queue)))
