"""`ebs doctor`: facts of a running system (`reading`), what is wrong with them (`*_rules`, pure), and the fix."""
