"""Publishing by transactions of Kafka: each version of a table reaches its topic once.

| layer | file | answers for |
|---|---|---|
| values | `record_writer.py` | a table's rows and keys as the records of its topic |
| Kafka | `position.py` | how far a topic is published, as a record of Kafka's |
| Kafka | `transactional_sender.py` | records and position in one transaction |
| Kafka | `start_positions.py` | where to begin, and whether the topic is still the same |
| work | `table_publisher.py`, `publish_group.py` | one table's next transaction; all of a host |
| catalogue | `selection.py`, `catalogue.py` | which streams are published so, and their group |
"""
