"""What every client of Kafka needs; it knows nothing of objects, tasks or the names of our topics.

- Reaching a cluster: `settings`, `security`, `cluster` (the factory of every client), `probe` and `waiting` (is a
  broker there, and if not, why).
- Changes to aiokafka, each with its reason in the file: `reading` with `unpacking`, `single_records`, `codecs` and
  `unreadable` (no record can end or flood a reader), `transactional_producer` with `transaction_handlers` (the end of a
  transaction is known).
- Requests that aiokafka 0.14 does not know: `protocol`, `transaction_protocol`, `topic_metadata`, `log_dirs`.
- Questions: `admin` (configurations, leaders), `groups` (offsets and members), `fencing` (stable offsets),
  `abandoned_transactions`.
- `types` and `errors`: aiokafka's own, for everybody else.
"""
