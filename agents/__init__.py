"""One Faust app a role: distribution, processing, statistics. `faust -A agents.<role> worker` runs one."""
