"""How a streaming app reaches Kafka and where it keeps its stores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from app.kafka.cluster import Cluster


@dataclass(frozen=True)
class StreamingOptions:
    """How a streaming app reaches Kafka and where it keeps its stores; times in milliseconds, some in seconds."""

    cluster: Cluster
    data_dir: Path
    worker_id: str = ""
    namespace: str = ""
    session_timeout_ms: int = 10_000
    transaction_timeout_ms: int = 10_000
    request_timeout_ms: int = 30_000
    stall_timeout_s: float = 60.0
    stop_limit_s: float = 60.0
    web_port: int = 6066
    web_host: str = "0.0.0.0"
    logging_config: Mapping[str, Any] | None = None
