"""Faust made batch-native and exactly-once. Knows nothing of objects or tasks; could be its own library."""
