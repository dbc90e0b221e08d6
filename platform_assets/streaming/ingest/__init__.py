"""From Kafka into silver: what a record is, which are repeats, how far time is, and each batch's account of offsets."""
