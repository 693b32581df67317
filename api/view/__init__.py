"""The read view: topics in, answers out. Each API process has its own, with its own offsets."""
