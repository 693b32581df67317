"""The benchmark of the front: `make bench-front`, or `make bench-front BENCH="--objects 100000 --only view"`.

- view: an API process builds its view of so many objects and ledger rows, and is started again;
- get: GET of one object while the pipeline runs at 100 objects/s;
- submit: POST of single objects, and of batches of 1,000 as NDJSON, to one API process that also keeps its view;
- lag: how far behind the view is while the pipeline works off preloaded objects as fast as it can;
- tabs: CPU of an API process with 100 open tabs of the dashboard, above that with none, at 10 objects/s.

Each part has a broker of its own. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvloop
from aiokafka import AIOKafkaProducer
from api_process import ApiProcess
from feed import feed, feeding
from fleet import said, until
from histories import made_fact
from open_tabs import open_tabs
from pipeline import PARTITIONS, Line, run_parts, running_system, usage_of
from plain_names import LEDGER_CHANGELOG
from raw_http import get_load, post_load

from app.events import ObjectCreated, TaskFinished, TaskStarted, task_id_of
from app.rules.ledger import apply_object_created, apply_task_event
from app.rules.ledger_rows import ObjectRow, encode_row
from app.rules.placement import partition_of
from app.rules.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ebs.local.embedded_kafka import EmbeddedKafka

GET_CONNECTIONS = 16
GET_S = 15.0
GET_WARM_UP_S = 15.0
"""Under the same load, not measured: the broker's compiler takes a core of two meanwhile."""
POST_S = 10.0
BATCH_COUNT = 1_000
_ROWS_A_CALL = 20_000
TABS = 100
TABS_S = 30.0
TABS_ROUNDS = 3
TABS_OBJECTS = 5_000
_DYING = {"EBS_PROJECT": "dashboard_handlers", "GATES": "/nonexistent"}


@contextmanager
def api_on(broker: EmbeddedKafka) -> Iterator[ApiProcess]:
    """Run an API process whose view lies beside the broker's data; it need not be ready yet."""
    directory: Path = broker.directory
    environment = {"EBS_BROKER": broker.bootstrap, "EBS_PARTITIONS": str(PARTITIONS), "EBS_DATA_DIR": str(directory)}
    api = ApiProcess(directory, **environment, EBS_STATS_DB=str(directory / "stats.db"), EBS_LOG_LEVEL="warn")
    try:
        yield api
    finally:
        api.stop()


async def ready(api: ApiProcess, since: str) -> float:
    """Return the seconds from one status (`/livez` or the start) until the process is ready."""
    if since == "alive":
        await until(lambda: api.status("/livez") == 200, "the process", timeout_s=60)
    began_s = time.perf_counter()
    await until(lambda: api.status("/readyz") == 200, "the view", timeout_s=600)
    return time.perf_counter() - began_s


async def view(objects: int) -> list[Line]:
    """Build a view of objects that have all finished, then start the process again."""
    async with running_system() as (broker, _):
        ids = await feed(broker.bootstrap, objects, partitions=PARTITIONS)
        await write_rows(broker.bootstrap, ids)
        with api_on(broker) as api:
            built_s = await ready(api, "alive")
            counted = api.client.get("/api/objects?limit=1").json()["counts"]
            if counted != {"FINISHED": objects}:
                raise SystemExit(f"the view is wrong: {counted}")
        with api_on(broker) as api:
            restarted_s = await ready(api, "start")
            pages = await get_load(api.url, ["/api/objects?limit=50"], connections=1, duration_s=3)
    records = 2 * objects
    return [
        Line(f"first build of {objects:,} objects: records/s", f"{records / built_s:,.0f}", "100,000"),
        Line("restart with that view: start to ready", f"{restarted_s:.1f} s", "5 s"),
        Line("a page of 50 of them, p99", f"{pages.quantile(0.99):.1f} ms", ""),
    ]


async def write_rows(bootstrap: str, ids: list[str]) -> None:
    """Write the ledger rows of finished objects of three tasks, as a compacted changelog has them."""
    at_ms = time.time_ns() // 1_000_000
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap, enable_idempotence=True, max_batch_size=1 << 19
    ) as producer:
        for start in range(0, len(ids), _ROWS_A_CALL):
            sent = []
            builders = {number: producer.create_batch() for number in range(PARTITIONS)}
            for object_id in ids[start : start + _ROWS_A_CALL]:
                key, row = object_id.encode(), encode_row(finished_row(object_id, at_ms))
                number = partition_of(key, PARTITIONS)
                if builders[number].append(key=key, value=row, timestamp=None) is None:
                    sent.append(await producer.send_batch(builders[number], LEDGER_CHANGELOG, partition=number))
                    builders[number] = producer.create_batch()
                    builders[number].append(key=key, value=row, timestamp=None)
            for number, builder in builders.items():
                if builder.record_count():
                    sent.append(await producer.send_batch(builder, LEDGER_CHANGELOG, partition=number))
            await asyncio.gather(*sent)


def finished_row(object_id: str, at_ms: int) -> ObjectRow:
    """Return the row of an object whose three tasks are finished."""
    row, tally = ObjectRow(), Tally()
    created = ObjectCreated(object_id=object_id, name="", content="", at_ms=at_ms, task_count=3)
    apply_object_created(row, created, tally)
    for sequence in range(3):
        common = (object_id, task_id_of(object_id, sequence), 0, "default", sequence, 3, 1, at_ms)
        apply_task_event(row, made_fact("c", *common), tally)
        apply_task_event(row, TaskStarted("s", *common, "w", 5), tally)
        apply_task_event(row, TaskFinished("f", *common, "w", 5, 9), tally)
    return row


async def get() -> list[Line]:
    """GET objects while the pipeline runs at 100 objects/s."""
    async with running_system() as (broker, fleet):
        fleet.start_all()
        await until(lambda: said(fleet.workers.values(), "are ready: "), "all workers", fleet=fleet)
        ids = await feed(broker.bootstrap, 2_000, partitions=PARTITIONS)
        with api_on(broker) as api:
            await ready(api, "start")
            paths = [f"/api/objects/{object_id}" for object_id in ids]
            count = int(100 * (GET_WARM_UP_S + GET_S + 5))
            feeding = asyncio.create_task(feed(broker.bootstrap, count, partitions=PARTITIONS, rate_per_s=100))
            await get_load(api.url, paths, connections=GET_CONNECTIONS, duration_s=GET_WARM_UP_S)
            load = await get_load(api.url, paths, connections=GET_CONNECTIONS, duration_s=GET_S)
            await feeding
    return [
        Line("GET of an object at 100 objects/s: a second", f"{load.per_s:,.0f}", "2,000"),
        Line("the same, median / p99", f"{load.quantile(0.5):.1f} / {load.quantile(0.99):.1f} ms", "p99 20 ms"),
    ]


async def lag(objects: int) -> list[Line]:
    """Look at the view's own figure while the pipeline works as fast as it can."""
    async with running_system() as (broker, fleet):
        with api_on(broker) as api:
            await ready(api, "start")
            await feed(broker.bootstrap, objects, partitions=PARTITIONS)
            await until(lambda: api.client.get("/livez").headers["ebs-view-lag-records"] == "0", "the view")
            fleet.start_all()
            lags_ms: list[int] = []
            while True:
                answer = await asyncio.to_thread(api.client.get, "/api/statistics")
                told = answer.json()
                if told["tasks_started"]:
                    lags_ms.append(int(answer.headers["ebs-view-lag-ms"]))
                if told["tasks_finished"] == 3 * objects:
                    break
                await asyncio.sleep(0.05)
    lags_ms.sort()
    p99_ms = lags_ms[int(len(lags_ms) * 0.99)]
    return [Line("view lag at full load, p99 / max", f"{p99_ms} / {lags_ms[-1]} ms", "1,000 ms")]


async def submit() -> list[Line]:
    """POST single objects and batches to an API process; what it says it took must lie on the topic."""
    item = json.dumps({"name": "report", "content": "x" * 150, "kind": "mail", "tasks": 3}).encode()
    common = {"connections": 32, "duration_s": POST_S}
    async with running_system() as (broker, _):
        with api_on(broker) as api:
            await ready(api, "start")
            single = await post_load(
                api.url, "/api/objects", item, media_type="application/json", status="202", **common
            )
            batch = await post_load(
                api.url,
                "/api/objects/batch",
                (item + b"\n") * BATCH_COUNT,
                media_type="application/x-ndjson",
                status="207",
                **(common | {"connections": 4}),
            )
            taken = len(single.took_ms) + BATCH_COUNT * len(batch.took_ms)
            await until(lambda: objects_in(api) >= taken, "all objects in the view", timeout_s=120)
            if objects_in(api) != taken:
                raise SystemExit(f"{taken} objects were accepted, and {objects_in(api)} are there")
    return [
        Line("POST of single objects: a second", f"{single.per_s:,.0f}", "1,500"),
        Line("the same, median / p99", f"{single.quantile(0.5):.1f} / {single.quantile(0.99):.1f} ms", ""),
        Line("POST of batches of 1,000, NDJSON: objects/s", f"{batch.per_s * BATCH_COUNT:,.0f}", "30,000"),
        Line("the same, median / p99", f"{batch.quantile(0.5):.0f} / {batch.quantile(0.99):.0f} ms", ""),
    ]


async def tabs() -> list[Line]:
    """Watch six pages with 100 tabs and with none, in turn, while objects flow in."""
    async with running_system(_DYING) as (broker, fleet):
        fleet.start_all()
        await until(lambda: said(fleet.workers.values(), "are ready: "), "all workers", fleet=fleet)
        (shown, *_) = await feed(broker.bootstrap, TABS_OBJECTS, partitions=PARTITIONS)
        await feed(broker.bootstrap, 100, partitions=PARTITIONS, kind="letter")
        pages = ("", "objects", f"objects/{shown}", "statistics/windows", "workers", "dead-letters")
        paths = [f"/live/{pages[number % len(pages)]}" for number in range(TABS)]
        with api_on(broker) as api:
            await ready(api, "start")
            await until(lambda: ended_in(api) == TABS_OBJECTS + 100, "all objects to end", timeout_s=120)
            alone, watched, events = [], [], []
            async with feeding(broker.bootstrap, partitions=PARTITIONS, rate_per_s=10):
                for _ in range(TABS_ROUNDS):
                    alone.append(await cores_of(api, TABS_S))
                    async with open_tabs(api.url, paths) as opened:
                        watched.append(await cores_of(api, TABS_S))
                        events += [tab.events_count / TABS_S for tab in opened]
    more = statistics.median(watched) - statistics.median(alone)
    return [
        Line("CPU of an API process without tabs, cores", f"{statistics.median(alone):.2f}", ""),
        Line(f"{TABS} open tabs of the dashboard: cores more", f"{more:.2f}", "0.30"),
        Line(
            "the same: updates of a tab a second, median / least",
            f"{statistics.median(events):.2f} / {min(events):.2f}",
            "",
        ),
    ]


async def cores_of(api: ApiProcess, duration_s: float) -> float:
    """Return how many cores a process takes over a while."""
    before, began_s = usage_of(api.process.pid).cpu_s, time.perf_counter()
    await asyncio.sleep(duration_s)
    return (usage_of(api.process.pid).cpu_s - before) / (time.perf_counter() - began_s)


def ended_in(api: ApiProcess) -> int:
    """Return how many objects have ended, as the view has them."""
    counts = api.client.get("/api/objects?limit=1").json()["counts"]
    return sum(counts.get(state, 0) for state in ("FINISHED", "FAILED"))


def objects_in(api: ApiProcess) -> int:
    """Return how many objects the view has."""
    return sum(api.client.get("/api/objects?limit=1").json()["counts"].values())


async def main(options: argparse.Namespace) -> None:
    """Run what was asked for."""
    parts = {
        "view": [lambda: view(options.objects)],
        "get": [get],
        "submit": [submit],
        "lag": [lambda: lag(max(1, options.objects // 10))],
        "tabs": [tabs],
    }
    await run_parts(parts, options.only)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=1_000_000, help="objects in the view (default: 1,000,000)")
    parser.add_argument("--only", choices=["view", "get", "submit", "lag", "tabs"], help="one part only")
    uvloop.run(main(parser.parse_args()))
