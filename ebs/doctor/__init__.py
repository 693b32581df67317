"""`ebs doctor`: reads facts of a running system (`reading`), finds faults (`*_rules`, pure), and names the fix."""
