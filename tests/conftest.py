"""What all tests share: the event loop that the programs run on, the limit of a hang, how properties are tried."""

from hypothesis import HealthCheck, settings

from app.event_loop import use_uvloop

pytest_plugins = ["time_limits", "fork_server"]

# Whether a test file runs alone or with others, as the first import of an agent would install it anyway.
use_uvloop()

# How long an example takes is the machine's business: a busy one would fail what is right. And everybody tries the same
# examples, so that a run says something about the change; `--hypothesis-profile default` looks for others.
settings.register_profile(
    "ebs", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True, database=None
)
settings.load_profile("ebs")
