"""What topics look like on a broker, and whether that is what the catalogue wants; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from app.topics.catalogue import TopicSpec


@dataclass(frozen=True)
class TopicShape:
    """A topic as a broker describes it; its configuration is None where we may not read it."""

    name: str
    partition_count: int
    replication_factor: int
    cleanup_policy: frozenset[str] | None = None
    max_message_bytes: int | None = None

    @property
    def is_compacted(self) -> bool:
        """Whether records need a key, as far as is known."""
        return "compact" in (self.cleanup_policy or ())


def explain_mismatch(
    catalogue: Iterable[TopicSpec], found: Mapping[str, TopicShape], bootstrap: str, made_by_us: Container[str] = ()
) -> str | None:
    """Say what is wrong with the topics that exist and how to put it right; None if they fit.

    Only of what is `made_by_us` it says how to delete it.

    Replication is the operator's business: it may differ. A partition count may not (all topics are co-partitioned
    and keys were placed by it), nor a clean-up policy (`delete` lets rows of a changelog vanish, `compact` events).
    """
    existing = [(spec, found[spec.name]) for spec in catalogue if spec.name in found]
    wrong = [(spec, shape) for spec, shape in existing if spec.partition_count != shape.partition_count]
    if wrong:
        counts = {shape.partition_count for spec, shape in existing if not spec.is_single}
        only_setting = len(counts) == 1 and not any(spec.is_single for spec, _ in wrong)
        may_delete = all(spec.name in made_by_us for spec, _ in wrong)
        return _explain_partitions(wrong, only_setting=only_setting, may_delete=may_delete, bootstrap=bootstrap)
    for spec, shape in existing:
        policy = spec.config.get("cleanup.policy", "delete")
        if shape.cleanup_policy is not None and shape.cleanup_policy != set(policy.split(",")):
            found_policy = ",".join(sorted(shape.cleanup_policy))
            # Brackets are how kafka-configs.sh takes a list, quotes keep shells off them.
            wanted = f"'cleanup.policy=[{policy}]'" if "," in policy else f"cleanup.policy={policy}"
            return (
                f"topic {spec.name} has cleanup.policy={found_policy}, this application needs {policy}: set it with "
                f"kafka-configs.sh --bootstrap-server {bootstrap} --alter --entity-type topics "
                f"--entity-name {spec.name} --add-config {wanted}"
            )
    return None


def _explain_partitions(
    wrong: Sequence[tuple[TopicSpec, TopicShape]], *, only_setting: bool, may_delete: bool, bootstrap: str
) -> str:
    spec, shape = wrong[0]
    others = f" (and {len(wrong) - 1} more topics are wrong)" if len(wrong) > 1 else ""
    setting = f"set EBS_PARTITIONS={shape.partition_count} (--partitions {shape.partition_count})"
    names = ",".join(spec.name for spec, _ in wrong)
    anew = (
        "recreate the topics, which drops what is in them "
        f"(kafka-topics.sh --bootstrap-server {bootstrap} --delete --topic '{names}')"
    )
    own = "set EBS_NAMESPACE, so that this system has topics of its own"
    fixes = [*([setting] if only_setting else []), anew if may_delete else own]
    return (
        f"topic {spec.name} has {_partitions(shape.partition_count)}{others}, this application is set to "
        f"{spec.partition_count}: {', or '.join(fixes)}"
    )


def _partitions(count: int) -> str:
    return "1 partition" if count == 1 else f"{count} partitions"
