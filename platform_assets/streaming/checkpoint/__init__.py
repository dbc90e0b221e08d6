"""What Spark has written down of a query: its planned batches, and the plan that its state belongs to."""
