"""From silver on: what a query over a table reads, writes and says is final. Nothing here knows Kafka's records."""
