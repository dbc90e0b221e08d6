"""Group `fraud`: scores each card transaction as it happens, in an application of its own (docs/fraud.md).

What is known of cards, and what becomes of the scores, is in the group `payments`, without which this one has no past.
"""

from __future__ import annotations

from platform_assets.streaming.stream_spec import Group

GROUP = Group(name="fraud", relays=("score_payments",))
