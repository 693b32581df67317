"""The processing engine: what runs, waits and is committed; handlers themselves are run by `agents.execution`."""
