"""The model: the product's own workers on a Kafka in memory, in a time and with an order of events of its own.

From the bottom up: `loop` (virtual time), `process` (what can be killed and frozen), `faults` (what goes wrong, by a
seed), `network` (connections that carry requests, and what the faults do to them), `log`, `coordinator`, `group`,
`broker` (Kafka), `consumer`, `readers`, `workers` (the product's roles on top), `plan` (what a seed stands for),
`schedule` (one run), `checker` (what must hold after it), `sabotage` (mechanisms taken out).
"""
