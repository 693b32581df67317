"""Everything this project raises, drawn as a tree.

    EbsError
    ├── SettingsError            a setting cannot be used; names the variable and the fix      exit 1
    ├── BrokerError
    │   ├── BrokerUnavailable    nobody answers at EBS_BROKER                                  retried with back-off
    │   ├── AccessRefused        the broker does not take our credentials, or we not its certificate    exit 1
    │   ├── OutcomeUnknown       records were sent, the broker has not said whether it has them     503, safe to repeat
    │   ├── RecordRefused        the broker will not take a record, however often it is sent        503
    │   ├── TopicMismatch        a topic exists with another shape; names the fix              exit 1
    │   ├── ForeignTopics        a topic exists that is not known to be this system's          exit 74
    │   └── EmbeddedBrokerError  the broker that we start ourselves did not come up            exit 1
    ├── ProgramFailed            a supervised program ends right after each start               exit 1
    ├── DecodeError              bytes that are not the event that their topic promises        -> dead-letters
    │   ├── Unreadable           a piece of the log that cannot be unpacked into records       -> dead-letters
    │   └── RecordTooLarge       a record that is larger than its topic takes                  -> dead-letters
    ├── ApiError, ObjectFailed   what a client of the API raises (`ebs.client.errors`)
    ├── Retry, Reject            what a handler raises (`ebs.errors`)                      retried; -> dead-letters
    ├── HandlerError             a handler ended in a way that is none                         retried
    │   ├── TimeLimitExceeded    it took longer than EBS_TASK_TIME_LIMIT_S
    │   ├── ProcessDied          the process that it ran in is gone
    │   ├── NoProcess            no process could be had for it
    │   └── HandlerCrashed       workers ended with it, and so did a process that it had for itself  -> dead-letters
    ├── HandlersStuck            handlers that do not end have taken all places of a worker    ends the process
    └── StreamingError
        ├── StepFailed           a step that cannot be committed                               ends the process
        │   └── TransactionInDoubt    a transaction whose outcome nobody knows
        ├── Fenced               another worker owns the partitions now                        ends the process
        ├── RestoreFailed        a changelog could not be read to its end                      ends the process
        ├── StoreFailed          a table cannot be written to disk                             ends the process
        ├── InputsChanged        topics are others than at the start, or assigned to nobody    ends the process
        ├── OffsetsLost          what was worked cannot be known; names the command that decides    exit 74
        └── ForeignRows          a changelog has records that are no rows; names the command likewise    exit 74

Crash only: no worker handles an error of the last group. The process ends, the supervisor starts it again, and the
stable committed offsets say where to go on.
"""

from __future__ import annotations

from ebs.errors import EbsError as EbsError  # noqa: PLC0414  # the root of this tree is what users import
from ebs.errors import SettingsError as SettingsError  # noqa: PLC0414  # clients raise it, too


class BrokerError(EbsError):
    """Something about the Kafka broker."""


class BrokerUnavailable(BrokerError):
    """No broker answers at the configured address."""


class AccessRefused(BrokerError):
    """The broker and we do not trust each other: a wrong password, mechanism or certificate."""


class OutcomeUnknown(BrokerError):
    """Records were sent, but the broker did not say in time whether it has them."""


class RecordRefused(BrokerError):
    """The broker refused a record for good, such as for its size; nothing of it was stored."""


class TopicMismatch(BrokerError):
    """A topic exists, but not as this application needs it."""


class ForeignTopics(BrokerError):
    """A topic has a name of ours, and it is not known whether this system made it: nothing is written to it."""


class EmbeddedBrokerError(BrokerError):
    """The broker started by `ebs up` or by the tests did not become ready."""


class ProgramFailed(EbsError):
    """A program under the supervisor cannot work: it ended right after its start, again and again."""


class DecodeError(EbsError):
    """A record's bytes are not a valid event; the record belongs into the dead letters."""


class Unreadable(DecodeError):
    """Bytes on a topic's log cannot be unpacked into records: a wrong checksum, an unknown codec or format, or junk."""


class RecordTooLarge(DecodeError):
    """What would have to be sent because of a record is larger than its topic takes."""


class HandlerError(EbsError):
    """A handler neither returned nor raised an ordinary exception."""


class TimeLimitExceeded(HandlerError):
    """An attempt took longer than it may."""


class ProcessDied(HandlerError):
    """The process that a handler ran in ended before the handler did, such as for want of memory."""


class NoProcess(HandlerError):
    """There is no process for a handler: none starts, or the worker stops. Nothing is known of the handler."""


class HandlerCrashed(HandlerError):
    """A handler ended, or blocked, the workers that ran it among others, and then a process where it ran alone."""


class Postponed(HandlerError):
    """An attempt cannot run now, for a reason that is not the task's: it waits for `delay_s`, and does not count."""

    def __init__(self, message: str, delay_s: float) -> None:
        super().__init__(message)
        self.delay_s = delay_s


class HandlersStuck(EbsError):
    """No task can start any more in this process: handlers that were left behind hold every place."""


class StreamingError(EbsError):
    """Base of the errors that end a worker process."""


class StepFailed(StreamingError):
    """A step's transaction failed, or cannot be committed as it is."""


class TransactionInDoubt(StepFailed):
    """A request of a transaction was sent and not answered, and may still arrive: nobody can say what it will do."""


class Fenced(StreamingError):
    """The group coordinator refused this worker: its member id or generation is from the past (KIP-447)."""


class RestoreFailed(StreamingError):
    """A table's changelog could not be read up to its high watermark."""


class StoreFailed(StreamingError):
    """The store of a table cannot be opened or written: no room, or no right."""


class InputsChanged(StreamingError):
    """A topic was deleted, recreated or given partitions while a worker ran, or its group has assigned it to nobody."""


class ForeignRows(StreamingError):
    """A table's changelog has records that are no rows of it: a person has to decide."""


class OffsetsLost(StreamingError):
    """A group has worked a partition, and nobody can know how far: a person has to decide."""
