"""The command `headrace forget-user`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from jobs.cli.reason_option import reason_option
from resources.account import name_account
from resources.settings import load_settings

if TYPE_CHECKING:
    from jobs.operations.forgetting.command import Forgotten

# The number of rows shown to a person; after their erasure the next ones are shown.
_MOST_SHOWN = 100


@click.command
@click.argument("user")
@reason_option("Kept in platform.forgotten_users and platform.audit_log; name nobody in it.", required=True)
@click.option(
    "--wait-seconds", type=click.FloatRange(min=0), default=600.0, show_default=True,
    help="For batch runs that may read the old files, before they are stopped.",
)  # fmt: skip
@click.option("--also-unsure", is_flag=True, help="Erase as well what mentions the user and may be somebody else's.")
@click.option(
    "--also-offset", "also_offsets", multiple=True,
    help="Of what mentions the user erase this record only, topic/partition/offset; may be repeated.",
)  # fmt: skip
def forget_user(user: str, reason: str, wait_seconds: float, also_unsure: bool, also_offsets: tuple[str, ...]) -> int:
    """Erase all rows of one USER, and keep the user out.

    The files that had them are removed as well. USER is the user_id; - reads it from standard
    input, so that no shell keeps it.
    """
    import dagster as dg

    from jobs.operations.audit import audited
    from jobs.operations.forgetting import command as operation
    from jobs.operations.forgetting.audit import describe_erasure
    from jobs.operations.forgetting.topics import demand_all_enabled
    from jobs.platform.reports_run import compute_changed_days
    from jobs.platform.services import prepare_environment
    from platform_assets.alerting.catalogue import load_groups
    from platform_assets.streaming.register.found_traces import AlsoErased
    from platform_assets.streams import load_all_stream_groups
    from platform_assets.tables.coordinates import Coordinates
    from resources.embedded.servers import running_servers
    from resources.lakehouse import LakehouseResource

    user = sys.stdin.readline().rstrip("\n") if user == "-" else user
    also = AlsoErased(also_unsure, frozenset(map(Coordinates.parse, also_offsets)))
    settings, groups = load_settings(), load_groups()
    lakehouse = LakehouseResource.from_settings(settings)
    act = describe_erasure(lakehouse, user, also, reason)
    demand_all_enabled(load_all_stream_groups(), groups, lakehouse)
    prepare_environment(settings)
    with (
        audited(lakehouse, act) as outcome,
        running_servers(settings),
        dg.DagsterInstance.get() as instance,
    ):
        done = operation.forget_user(
            groups, user, settings, instance, name_account(), reason, wait_seconds, print, also,
            compute_changed_days,
        )  # fmt: skip
        outcome.detail = (
            f"{sum(done.rows.values()):,} rows erased; {len(done.proof.found)} of {done.proof.files:,} files have the "
            f"user; {len(done.unsure):,} rows are unsure"
        )
    _print_outcome(done)
    return 1 if done.proof.found or done.unsure else 0


def _print_outcome(done: Forgotten) -> None:
    for name, rows in sorted(done.rows.items()):
        print(f"{name}: {rows:,} rows erased")
    proof = done.proof
    print(f"Proof: {proof.files:,} files, {proof.bytes / 1e6:,.1f} MB, were read; {len(proof.found)} have the user.")
    for path in proof.found:
        print(f"  {path} still has the user.")
    if done.unsure:
        print(
            f"{len(done.unsure):,} rows mention the user and may be somebody else's: look at them in their tables. To "
            "erase those that are the user's, call this again with --also-offset topic/partition/offset for each of "
            "them, or with --also-unsure for all."
        )
    for record in done.unsure[:_MOST_SHOWN]:
        print(f"  unsure: {record}")
    for text in done.waits:
        print(f"Waits: {text}")
