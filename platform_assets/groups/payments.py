"""Group `payments`: what cards pay, what of it is scored and reported as fraud, and every stream over that."""

from __future__ import annotations

from platform_assets.streaming.stream_spec import Group

GROUP = Group(name="payments", topics=("transactions", "fraud_reports", "fraud_scores"))
