"""Pure functions: no I/O, no clock, no Kafka. Agents decode, call one of these, and send."""
