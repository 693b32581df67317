"""A Faust application whose agents work in exactly-once steps.

    app = create_streaming_app("my-group", input_topics=["in"], options=StreamingOptions(...))
    table = app.Table("counts", partitions=8, help="rows of ...")

    @app.agent(app.input)
    async def count(stream):
        async for step in app.transactions.steps(stream):
            async with step:
                for batch in step.batches:
                    for record in batch.records:
                        step.rows("counts", batch.partition).put(record.key, ...)
                        step.send("out", batch.partition, record.key, ...)

Every topic must exist, with the same number of partitions, before the worker starts (`preflight` is the place).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import uuid
from typing import TYPE_CHECKING, Any, NoReturn

import faust
from aiokafka import errors

from app.errors import EbsError, Fenced, ForeignRows, ForeignTopics, InputsChanged, OffsetsLost
from app.kafka.abandoned_transactions import transactional_id_of
from app.streaming.batching import BatchSchema
from app.streaming.consumer import Consumer, Producer
from app.streaming.ownership import Ownership
from app.streaming.progress_monitor import KafkaEnds, ProgressMonitor, patience_s
from app.streaming.survey import Survey
from app.streaming.tables import StepTableManager, TransactionalTable
from app.streaming.topic_limits import MAX_BATCH_BYTES
from app.streaming.transactions import Transactions
from app.streaming.watchdog import Watchdog, end_hanging_process, why_starved
from app.streaming.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

    from app.kafka.fencing import Membership
    from app.kafka.transactional_producer import TransactionalProducer
    from app.streaming.options import StreamingOptions

log = logging.getLogger(__name__)

EXIT_CONFIGURATION = 1
"""The configuration does not let the worker run; starting it again does not help."""
EXIT_STEP_FAILED = 70
"""A step failed, or its result is not known; start the worker again (sysexits.h: EX_SOFTWARE)."""
EXIT_FENCED = 71
"""The group gave this worker's partitions to another worker; start it again, and it joins the group again."""
EXIT_INPUTS_CHANGED = 73
"""Topics were recreated or got partitions, or the group assigned them to no worker; start the worker again."""
EXIT_UNDECIDED = 74
"""What was done, or whose a topic is, is not known; run the command that its last line names, and start it again."""

_FENCING_ERRORS = (Fenced, errors.ProducerFenced, errors.IllegalGenerationError, errors.UnknownMemberIdError)
_STREAM_BUFFER_BATCHES = 8


class StreamingApp(faust.App):
    """A Faust app with `transactions`; made by `create_streaming_app`."""

    options: StreamingOptions
    transactions: Transactions
    progress_monitor: ProgressMonitor
    watchdog: Watchdog
    is_prepared: bool
    preflight: Callable[[], Awaitable[None]]
    drain: Callable[[], Awaitable[None]]
    describe_work: Callable[[], str]
    role: str
    worker_name: str
    transactional_id: str
    absent_topics: Collection[str]

    async def on_first_start(self) -> None:
        """Make none of Faust's directories: its stores are not used."""

    async def on_start(self) -> None:
        """Wait for the broker and the topics before any of Faust's services, except for its pages, starts."""
        self.watchdog.watch("the event loop", asyncio.get_running_loop())
        self.watchdog.start()
        # First, so that `/livez` and `/readyz` answer while the worker waits for its broker.
        await self.web.maybe_start()
        try:
            await self.preflight()
        except ForeignTopics as error:
            _end_process(error, EXIT_UNDECIDED)
        except EbsError as error:
            _end_process(error, EXIT_CONFIGURATION)
        try:
            await self.transactions.start()
        except errors.KafkaError as error:
            # The broker went away since `preflight`. Faust would end with exit code 1: a setting is wrong.
            end_process(error)
        self.is_prepared = True
        self.add_future(self.progress_monitor.run())
        await super().on_start()

    def before_start(self, prepare: Callable[[], Awaitable[None]]) -> None:
        """Let `prepare` run after what `preflight` does already."""
        before = self.preflight

        async def preflight() -> None:
            await before()
            await prepare()

        self.preflight = preflight

    async def on_stop(self) -> None:
        """Wait for `drain`, finish the current step, then leave the group at once."""
        _end_at_the_next_signal()
        self.watchdog.limit_stop(self.options.stop_limit_s)
        await self.drain()
        await self.transactions.stop()
        await super().on_stop()

    def stand_aside(self, *, aside: bool) -> None:
        """Give all partitions of this worker to the other workers of the group, until it takes part again."""
        self.consumer.stand_aside(aside=aside)

    def input_of(self, *topics: str) -> Any:
        """Return the channel of some of the input topics, for an agent that reads only these."""
        return self.topic(*topics, partitions=self.conf.topic_partitions, schema=BatchSchema())

    def read_also(self, *topics: str) -> Any:
        """Let this app read more topics, in `preflight` at the latest; returns their channel, for an agent."""
        ownership = self.transactions.ownership
        ownership.input_topics = (*ownership.input_topics, *topics)
        return self.input_of(*topics)

    def FlowControlQueue(self, maxsize: int | None = None, *, clear_on_resume: bool = False) -> Any:  # noqa: N802  # Faust's name and signature
        """Return a queue that keeps its records when a rebalance ends: Faust would drop and lose them."""
        return super().FlowControlQueue(maxsize, clear_on_resume=False)


def create_streaming_app(
    app_id: str,
    *,
    role: str = "",
    worker_prefix: str = "",
    input_topics: Sequence[str],
    partition_count: int,
    options: StreamingOptions,
    preflight: Callable[[], Awaitable[None]],
    fatal: Callable[[BaseException], NoReturn] | None = None,
    notes_table: str = "",
    why_no_row: Callable[[str, bytes | None, bytes | None], str] = lambda _table, _key, _value: "",
    watched_topics: Sequence[str] = (),
) -> StreamingApp:
    """Make the Faust app of one role; `app_id` is its consumer group, `fatal` (for tests) ends the process.

    `worker_prefix` begins the default name of its workers; without it, `role` or the group's name does.

    `notes_table` names the table that keeps where the group is, too (`offset_notes`), and `why_no_row` says why a
    record of a table's changelog is no row of it (`foreign_rows`); a change of the `watched_topics`
    ends the worker, so that it begins anew with them.
    """
    fatal = fatal or (lambda error: end_process(error, app.describe_work()))
    app = StreamingApp(
        app_id,
        broker=f"kafka://{options.cluster.bootstrap}",
        store="memory://",
        datadir=str(options.data_dir / "faust"),
        topic_partitions=partition_count,
        topic_disable_leader=True,
        topic_allow_declare=False,
        stream_buffer_maxsize=_STREAM_BUFFER_BATCHES,
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        broker_session_timeout=options.session_timeout_ms / 1000,
        broker_request_timeout=max(90.0, options.session_timeout_ms / 1000 + 1),
        web_port=options.web_port,
        web_bind=options.web_host,
        logging_config=options.logging_config,
        Table=TransactionalTable,
        TableManager=StepTableManager,
    )
    instance = options.worker_id or uuid.uuid4().hex[:12]
    app.options = options
    app.role = role or app_id
    app.worker_name = options.worker_id or f"{worker_prefix or app.role}-{instance}"
    app.transactional_id = transactional_id_of(app_id, instance)
    app.preflight = preflight
    app.drain = _nothing_to_drain
    app.describe_work = str
    ownership = Ownership(
        group_id=app_id,
        input_topics=input_topics,
        tables=lambda: app.tables.values(),  # noqa: PLW0108  # app.tables is made at first use, after this
        stores=Workspace(options.data_dir / "stores" / app_id, instance),
        cluster=options.cluster,
        fatal=fatal,
        notes_table=notes_table,
        why_no_row=why_no_row,
    )
    app.transactions = Transactions(
        ownership=ownership,
        new_producer=_producer_factory(app),
        fatal=fatal,
        compression=options.cluster.compression,
    )
    _watch(app, dict.fromkeys((*input_topics, *watched_topics)))
    app.is_prepared = False
    app.absent_topics = ()
    app.transport.Consumer = Consumer
    app.transport.Producer = Producer
    app.input = app.input_of(*input_topics)
    return app


def _watch(app: StreamingApp, topics: Iterable[str]) -> None:
    """Start the watchdogs of the app's progress, of its event loop, and of these topics."""
    options = app.options
    app.progress_monitor = ProgressMonitor(
        app.transactions,
        KafkaEnds(options.cluster, patience_s(options.stall_timeout_s)),
        limit_s=options.stall_timeout_s,
        is_stopping=lambda: app.should_stop,
        survey=Survey(
            options.cluster,
            topics,
            app.transactions.ownership,
            transactional_id=app.transactional_id,
            patience_s=patience_s(options.stall_timeout_s),
            stands_aside=lambda: app.consumer.assignor.aside,
            absent=lambda: app.absent_topics,
        ),
    )
    app.watchdog = Watchdog(
        options.stall_timeout_s,
        verdict=lambda: app.progress_monitor.verdict or why_starved(),
        end=lambda silence: end_hanging_process(silence, app.describe_work),
        describe_work=lambda: app.describe_work(),  # noqa: PLW0108  # it is set after this
    )


def _producer_factory(app: StreamingApp) -> Callable[[Callable[[], Membership]], TransactionalProducer]:
    def new_producer(membership: Callable[[], Membership]) -> TransactionalProducer:
        return app.options.cluster.within(app.options.request_timeout_ms).new_transactional_producer(
            app.transactional_id,
            membership=membership,
            transaction_timeout_ms=app.options.transaction_timeout_ms,
            max_batch_size=MAX_BATCH_BYTES,
        )

    return new_producer


async def _nothing_to_drain() -> None:
    """Stand in for `StreamingApp.drain` where an app has no work of its own in flight."""


def end_process(error: BaseException, work: str = "") -> NoReturn:
    """End the process at once, without Faust's clean-up: after an unknown result nothing may be committed.

    `work` says in words which tasks were running.
    """
    _end_process(error, exit_code_of(error), work)


def exit_code_of(error: BaseException) -> int:
    """Return the exit code of a process that an error ends."""
    if isinstance(error, OffsetsLost | ForeignRows):
        return EXIT_UNDECIDED
    if isinstance(error, InputsChanged):
        return EXIT_INPUTS_CHANGED
    return EXIT_FENCED if isinstance(error, _FENCING_ERRORS) else EXIT_STEP_FAILED


def _end_at_the_next_signal() -> None:
    """Let a second SIGTERM or Ctrl-C end the process at once: uncommitted records are read again, as after a crash."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, os._exit, 128 + number)


def _end_process(error: BaseException, code: int, work: str = "") -> NoReturn:
    if code in {EXIT_CONFIGURATION, EXIT_UNDECIDED}:
        print(f"error: {error}", file=sys.stderr, flush=True)  # noqa: T201  # logging may not be set up yet
    else:
        text = "the worker ends (exit code %d): %s: %s%s"
        log.critical(text, code, type(error).__name__, error, work and f"; {work}", exc_info=error)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
