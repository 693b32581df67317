"""A worker's probes on its own port: the status code is the whole contract (200, else 503), `?verbose` explains it.

`/livez` fails when the worker makes no progress (`app.streaming.standstill_rule`); an unreachable broker
does not make it fail. `/readyz` fails until the worker has joined its group and restored its partitions, and
again while no broker answers, the broker cannot read a partition, a topic that functions send to does not exist, or the
worker makes no progress.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from app.streaming.progress_monitor import owned_ratio

if TYPE_CHECKING:
    from app.streaming.application import StreamingApp

_NO_STORE = {"Cache-Control": "no-store"}


class HealthCheck(NamedTuple):
    """One thing that was looked at; `detail` is for people."""

    name: str
    ok: bool
    detail: str


def register_health(app: StreamingApp) -> None:
    """Add `/livez` and `/readyz` to a worker's web server."""

    @app.page("/livez")
    async def livez(web: Any, request: Any) -> Any:
        return _answer(web, request, [check_progress(app)])

    @app.page("/readyz")
    async def readyz(web: Any, request: Any) -> Any:
        checks = [
            check_broker(app),
            check_membership(app),
            check_partitions(app),
            check_output_topics(app),
            check_progress(app),
        ]
        return _answer(web, request, checks, app.options.namespace)


def check_progress(app: StreamingApp) -> HealthCheck:
    """Return whether the work moves."""
    verdict = app.progress_monitor.verdict
    excuse = app.progress_monitor.why_excused()
    detail = verdict or (f"nothing needs to move: {excuse}" if excuse else "work moves, or there is none")
    return HealthCheck("progress", verdict is None, detail)


def check_broker(app: StreamingApp) -> HealthCheck:
    """Return whether the broker answers, as of the last look a few seconds ago."""
    if not app.is_prepared:
        return HealthCheck("broker", ok=False, detail="the worker waits for the Kafka broker and its topics")
    refused = app.progress_monitor.refused()
    if refused:
        return HealthCheck("broker", ok=False, detail="; ".join(refused.values()))
    if app.progress_monitor.ends is None:
        return HealthCheck(
            "broker", ok=False, detail=app.progress_monitor.why_away or "the Kafka broker does not answer"
        )
    return HealthCheck("broker", ok=True, detail="the broker is reachable")


def check_membership(app: StreamingApp) -> HealthCheck:
    """Return whether the worker has its place in the group."""
    ownership = app.transactions.ownership
    if app.should_stop:
        return HealthCheck("membership", ok=False, detail="the worker stops")
    if ownership.membership is None:
        return HealthCheck("membership", ok=False, detail="the worker has not joined its group yet")
    if ownership.is_suspended:
        return HealthCheck("membership", ok=False, detail="a rebalance goes on")
    generation = ownership.membership.generation
    return HealthCheck("membership", ok=True, detail=f"a member of {ownership.group_id} in generation {generation}")


def check_partitions(app: StreamingApp) -> HealthCheck:
    """Return whether all partitions of the worker are restored; no partitions are fine if other workers have all."""
    survey = app.progress_monitor.survey
    if survey is not None and survey.unowned:
        unowned = ", ".join(map(str, survey.unowned))
        said = f"no worker has partitions {unowned}: this worker will soon restart and join the group again"
        return HealthCheck("partitions", ok=False, detail=said)
    ownership = app.transactions.ownership
    numbers = sorted(ownership.partitions)
    closed = [number for number in numbers if not ownership.partitions[number].active]
    if not closed:
        said = f"works partitions {', '.join(map(str, numbers))}" if numbers else "owns no partition: others have all"
        return HealthCheck("partitions", ok=True, detail=said)
    rows = sum(one.row_count for one in ownership.restoring)
    done = f"{owned_ratio(ownership):.0%} restored, {rows} rows"
    return HealthCheck("partitions", ok=False, detail=f"partitions {', '.join(map(str, closed))} are not ready: {done}")


def check_output_topics(app: StreamingApp) -> HealthCheck:
    """Return whether the topics exist to which the functions of this worker send (EBS_OUTPUT_TOPICS)."""
    absent = ", ".join(app.absent_topics)
    if not absent:
        return HealthCheck("output topics", ok=True, detail="the topics that functions send to exist")
    said = f"topic {absent} of EBS_OUTPUT_TOPICS does not exist: tasks that send to it wait (`ebs doctor` says more)"
    return HealthCheck("output topics", ok=False, detail=said)


def _answer(web: Any, request: Any, checks: list[HealthCheck], namespace: str = "") -> Any:
    failed = [check.detail for check in checks if not check.ok]
    body: dict[str, Any] = {"status": "unavailable", "reasons": failed} if failed else {"status": "ok"}
    if namespace:
        body["namespace"] = namespace
    if "verbose" in request.query:
        body["checks"] = [check._asdict() for check in checks]
    return web.json(body, status=503 if failed else 200, headers=_NO_STORE)
