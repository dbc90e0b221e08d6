"""What a query over a table reads, writes and calls final. Nothing here knows Kafka's records."""
