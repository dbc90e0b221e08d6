"""Delta tables: made, opened, read, written, and what their commits say. Nothing here knows Kafka or a query."""
