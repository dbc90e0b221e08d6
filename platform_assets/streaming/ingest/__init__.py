"""What a record is, which ones repeat, how far time is, and each batch's account of offsets: from Kafka into silver."""
