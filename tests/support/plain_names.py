"""Topics and groups of a system without a namespace, as constants: most tests run one."""

from __future__ import annotations

from app.names import BARE, DISTRIBUTION, PROCESSING, REDRIVEN_TABLE, STATISTICS, WAITING_TABLE

OBJECTS = BARE.objects
TASK_REQUESTS = BARE.task_requests
TASK_EVENTS = BARE.task_events
OBJECT_EVENTS = BARE.object_events
DEAD_LETTERS = BARE.dead_letters
CONTROL = BARE.control
SCHEDULES = BARE.schedules
WORKERS = BARE.workers
SEEN_CHANGELOG = BARE.seen_changelog
SCHEDULES_CHANGELOG = BARE.schedules_changelog
REDRIVEN_CHANGELOG = BARE.changelog(PROCESSING, REDRIVEN_TABLE)
WAITING_CHANGELOG = BARE.changelog(PROCESSING, WAITING_TABLE)
LEDGER_CHANGELOG = BARE.ledger_changelog
RESULTS_CHANGELOG = BARE.results_changelog
WINDOWS_CHANGELOG = BARE.windows_changelog
EXPIRY_CHANGELOG = BARE.expiry_changelog
DISTRIBUTION_APP = BARE.group(DISTRIBUTION)
PROCESSING_APP = BARE.group(PROCESSING)
STATISTICS_APP = BARE.group(STATISTICS)
