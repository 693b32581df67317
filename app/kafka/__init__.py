"""What every client of Kafka needs: its making, the protocol's requests, administration, patches to aiokafka."""
