"""All rules in the order in which people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.topics.catalogue import catalogue
from ebs.doctor.durability_rules import check_durability
from ebs.doctor.queue_rules import check_retired_queues
from ebs.doctor.running_rules import check_former_retry_topics, check_groups, check_letters, check_workers
from ebs.doctor.schedule_rules import check_schedules
from ebs.doctor.settings_rules import check_clocks, check_settings
from ebs.doctor.topic_rules import check_broker, check_topics

if TYPE_CHECKING:
    from app.settings.settings import Settings
    from ebs.doctor.facts import Finding, SystemFacts


def diagnose(settings: Settings, facts: SystemFacts) -> list[Finding]:
    """Return everything that is to be said."""
    specs = catalogue(settings, queues=facts.queues)
    return [
        *check_topics(specs, settings, facts),
        *check_durability(specs, settings, facts),
        *check_broker(settings, facts),
        *check_settings(settings, facts),
        *check_groups(settings, facts),
        *check_retired_queues(settings, facts),
        *check_former_retry_topics(settings, facts),
        *check_workers(facts),
        *check_clocks(facts),
        *check_letters(facts),
        *check_schedules(facts),
    ]
