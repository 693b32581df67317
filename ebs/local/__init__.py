"""The whole system on one machine, without Docker: an embedded Kafka and a supervisor for processes."""
