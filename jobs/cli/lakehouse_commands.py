"""The commands of `headrace` that look into the tables, re-ingest records, and copy the lakehouse."""

from __future__ import annotations

import click

from jobs.cli.reason_option import because_option, reason_option
from jobs.cli.shown_text import show
from resources.account import name_account
from resources.settings import load_settings

_place = click.argument("place")


@click.command
@click.option("--group", default="", help="Only those of this group's topics (default: of all).")
@click.option("--reason", "reasons", multiple=True, help="Only those quarantined for it; may be repeated.")
@click.option("--since", help="Only those that arrived at or after it; ISO-8601.")
@click.option("--until", help="Only those that arrived before it.")
@click.option("--offset", "offsets", multiple=True, help="Only topic/partition/offset; may be repeated.")
@click.option("--accept", is_flag=True, help="Take them in; the group pauses for that.")
@because_option
def requeue(
    group: str,
    reasons: tuple[str, ...],
    since: str | None,
    until: str | None,
    offsets: tuple[str, ...],
    accept: bool,
    reason: str,
) -> None:
    """Show which quarantined records would be accepted now.

    With --accept they are taken in, each once.
    """
    import dagster as dg

    from jobs.operations.audit import audited, describe_act
    from jobs.operations.requeue import build_record_filter, describe_taken, requeue_records
    from jobs.operations.stream_groups import find_groups
    from jobs.platform.services import prepare_environment
    from platform_assets.streams import load_stream_groups
    from resources.embedded.servers import running_servers
    from resources.lakehouse import LakehouseResource

    record_filter = build_record_filter(reasons, since, until, offsets)
    settings = load_settings()
    chosen = {"group": group, "reasons": reasons, "since": since, "until": until, "offsets": offsets}
    act = describe_act("requeue", reason, chosen) if accept else None
    prepare_environment(settings)
    taken = []
    with (
        audited(LakehouseResource.from_settings(settings), act) as outcome,
        running_servers(settings),
        dg.DagsterInstance.get() as instance,
    ):
        for each in find_groups(load_stream_groups(), group, ""):
            found = requeue_records(each, record_filter, settings, instance, name_account(), accept=accept)
            accepted, repeated = found.count("accepted"), found.count("deduplicated")
            were = "were" if accept else "would be"
            taken.append(describe_taken(each.name, found))
            outcome.detail = "; ".join(taken)
            print(f"{each.name}: {accepted:,} records {were} accepted, {repeated:,} repeat an accepted event.")
            for reason, count in sorted(found.refused.items()):
                print(f"{each.name}: {count:,} stay in quarantine: {reason}")
            if found.marks and not accept:
                print("Nothing was changed. To take them in, say --accept.")


@click.command
@click.option("--event-id", help="All records of this event.")
@click.option("--offset", help="One record, as topic/partition/offset.")
@click.option("--user", help="Rows of this user in all tables, at the time --at or in the window --window.")
@click.option("--payment", help="A card transaction, by its id: score, reasons, alert, reports, the card's last day.")
@click.option(
    "--at", "--window", "at", help="A moment, or a window's start; ISO-8601; goes with --user (default: now)."
)
def explain(event_id: str | None, offset: str | None, user: str | None, payment: str | None, at: str | None) -> None:
    """Say where a record is, and what became of it."""
    from jobs.operations.explain import explain as find_sentences
    from jobs.operations.explained_payments import explain_payment
    from platform_assets.streams import load_streams
    from resources.embedded.servers import running_servers
    from resources.kafka import KafkaResource
    from resources.lakehouse import LakehouseResource

    if sum(asked is not None for asked in (event_id, offset, user, payment)) != 1:
        raise click.UsageError("Exactly one of --event-id, --offset, --user and --payment is needed.")
    settings = load_settings()
    if payment is not None:
        for sentence in explain_payment(LakehouseResource.from_settings(settings), payment):
            print(show(sentence))
        return
    with running_servers(settings), KafkaResource.from_settings(settings) as kafka:
        lakehouse = LakehouseResource.from_settings(settings)
        for sentence in find_sentences(load_streams(), lakehouse, kafka, event_id, offset, user, at):
            print(show(sentence))


@click.command
@_place
@reason_option()
def backup(place: str, reason: str) -> None:
    """Copy all tables and checkpoints to a PLACE.

    PLACE is an empty path or object store URI. No group may run meanwhile (headrace pause).
    """
    from jobs.operations.audit import audited, describe_act, leave_out_secrets
    from jobs.operations.backup import back_up
    from platform_assets.streams import load_all_stream_groups
    from resources.lakehouse import LakehouseResource

    settings = load_settings()
    act = describe_act(
        "backup", reason, {"place": leave_out_secrets(place)}, needs_reason=False, has_private_errors="://" in place
    )
    with audited(LakehouseResource.from_settings(settings), act):
        versions = back_up(load_all_stream_groups(), settings, place)
    _print_versions(versions)


@click.command
@_place
@reason_option()
def restore(place: str, reason: str) -> None:
    """Copy the backup at PLACE into an empty lakehouse."""
    from jobs.operations import backup as operation
    from jobs.operations.audit import audited, describe_act, leave_out_secrets
    from platform_assets.streams import load_all_stream_groups
    from resources.lakehouse import LakehouseResource

    settings = load_settings()
    act = describe_act("restore", reason, {"place": leave_out_secrets(place)}, has_private_errors="://" in place)
    with audited(LakehouseResource.from_settings(settings), act):
        versions = operation.restore(load_all_stream_groups(), settings, place)
    _print_versions(versions)


def _print_versions(versions: dict[str, int]) -> None:
    print("\n".join(f"{name}: version {version}" for name, version in versions.items()))
    print(f"{len(versions)} tables are there, with their checkpoints.")
