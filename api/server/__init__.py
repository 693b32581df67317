"""The HTTP server itself: problems, paths, streams, connections; nothing of objects or tasks."""
