"""The simulated shop: shoppers' events, recorded clickstreams, and the producer that sends either to Kafka."""
