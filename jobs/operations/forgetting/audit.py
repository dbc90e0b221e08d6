"""What the erasure of a user is called in `platform.audit_log`, in which no user may be named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.operations.audit import Act, describe_act, find_user_hash
from platform_assets.errors import UsageError
from platform_assets.streaming.register.named_users import judge_fields
from platform_assets.streaming.register.sought_names import Sought

if TYPE_CHECKING:
    from platform_assets.streaming.register.found_traces import AlsoErased
    from resources.lakehouse import LakehouseResource


def describe_erasure(lakehouse: LakehouseResource, user: str, also: AlsoErased, reason: str) -> Act:
    """The act. Raises `UsageError` without a reason, and for one that names the user: it would outlive the erasure."""
    if user.strip() and judge_fields([("reason", reason)], Sought.one(user)):
        raise UsageError(
            "The reason names the user, and is kept for ever. Say it without, such as by a request's number."
        )
    chosen = {"also_unsure": also.everything, "also_offsets": [str(each) for each in sorted(also.places)]}
    return describe_act(
        "forget-user", reason, chosen, has_private_errors=True, find_user_hash=lambda: find_user_hash(lakehouse, user)
    )
