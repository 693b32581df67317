"""The front: HTTP API, its read view, and the `ebs` command."""
