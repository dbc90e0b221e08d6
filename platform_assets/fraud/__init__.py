"""Fraud alerts: what is known of a card when it pays, what a model learns from that, and how it is judged."""
