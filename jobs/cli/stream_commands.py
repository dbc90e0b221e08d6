"""The commands of `headrace` that steer stream groups and their streams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import click

from jobs.cli.reason_option import KEPT, reason_option
from resources.account import name_account
from resources.settings import load_settings

_group = click.argument("group", default="")
_stream = click.option("--stream", default="", help="One stream of the group only, while the others go on.")


def _build_control(command: Literal["pause", "resume", "restart"], text: str) -> click.Command:
    """A command that writes down what the supervisor is to do."""

    @click.command(command, help=f"{text} Without a name all groups are meant.")
    @_group
    @_stream
    @reason_option("Shown where the hold is shown, and kept in platform.audit_log.")
    def control(group: str, stream: str, reason: str) -> None:
        import dagster as dg

        from jobs.operations.audit import describe_act, note_act
        from jobs.operations.stream_groups import find_groups
        from jobs.platform.services import prepare_environment
        from jobs.supervision.lease import write_control
        from platform_assets.alerting.catalogue import load_groups
        from resources.lakehouse import LakehouseResource

        settings = load_settings()
        prepare_environment(settings)
        groups = find_groups(load_groups(), group, stream)
        with dg.DagsterInstance.get() as instance:
            for each in groups:
                write_control(instance, each.name, command, name_account(), reason, stream=stream)
                what = f"{each.name}: {command}" + (f" of stream {stream}" if stream else "")
                print(f"{what} is recorded; it is acted on within seconds.")
        chosen = {"groups": [each.name for each in groups], "stream": stream}
        note_act(LakehouseResource.from_settings(settings), describe_act(command, reason, chosen, needs_reason=False))

    return control


pause = _build_control("pause", "Stop a group, and hold it until it is resumed.\n\nIt stops between two batches.")
resume = _build_control(
    "resume",
    "End every hold of a group.\n\nHolds are: pause, Terminate, a crash loop, an error that somebody had to correct.",
)
restart = _build_control("restart", "Stop a group between two batches, and start it again.\n\n")


@click.command
@click.argument("stream")
@reason_option()
def recompute(stream: str, reason: str) -> None:
    """Begin a derived stream anew.

    The next start computes its table again from all events. Its group must not run (headrace pause).
    """
    from jobs.operations.audit import audited, describe_act
    from jobs.operations.recompute import recompute_stream
    from jobs.operations.stream_groups import find_groups
    from platform_assets.streams import load_stream_groups
    from resources.lakehouse import LakehouseResource

    [group] = find_groups(load_stream_groups(), "", stream)
    settings = load_settings()
    act = describe_act("recompute", reason, {"stream": stream})
    with audited(LakehouseResource.from_settings(settings), act):
        lost = recompute_stream(group, stream, settings)
    if lost:
        print(lost)
    print(f"{stream} starts over with the next start of its group. Go on with: headrace resume {group.name}")


@click.command
@_group
@reason_option()
def reset_time(group: str, reason: str) -> None:
    """Set the events' time back after a clock was ahead.

    What that clock has closed is computed again. The group (default: all) must not run (headrace pause).
    """
    from jobs.operations.audit import audited, describe_act
    from jobs.operations.reset_time import reset_time as set_back
    from jobs.operations.stream_groups import find_groups
    from platform_assets.streams import load_stream_groups
    from resources.lakehouse import LakehouseResource

    settings = load_settings()
    groups = find_groups(load_stream_groups(), group, "")
    act = describe_act("reset-time", reason, {"groups": [each.name for each in groups]})
    with audited(LakehouseResource.from_settings(settings), act) as outcome:
        for each in groups:
            for found in set_back(each, settings):
                was, now = (f"{moment:%Y-%m-%d %H:%M:%S} UTC" for moment in (found.before, found.now))
                print(said := f"The time of {found.table} was {was}, and is {now}.")
                outcome.detail = f"{outcome.detail} {said}".strip()
                for name in found.streams:
                    print(f"{name} starts over with the next start: its table is computed from its source again.")
            print(f"Go on with: headrace resume {each.name}")


def _action(name: str, text: str) -> Callable[[Any], Any]:
    return click.option(f"--{name}", "actions", multiple=True, is_flag=True, flag_value=name, help=text)


@click.command
@click.argument("stream")
@_action("rehearse", "Run this code from a copy of the live state over the last batches, and compare with their rows.")
@_action("swap", "Put the replayed table and its state in the place of the live ones; the group pauses for that.")
@_action("undo", "Take back the last swap.")
@_action("abandon", "Remove what has been replayed.")
@click.option("--range", "is_range", is_flag=True, help="Of what is final in a range of event time only.")
@click.option("--since", help="With --range: rows that begin at or after it; ISO-8601 (default: all).")
@click.option("--until", help="With --range: rows that are final then (default: as far as any is).")
@click.option(
    "--offsets", multiple=True,
    help="Of a stream over Kafka: topic/partition/from-until; may be repeated (default: what Kafka holds).",
)  # fmt: skip
@click.option(
    "--unknown-fields", is_flag=True,
    help="Of a stream over Kafka: fill new fields from what unknown_fields has of accepted records.",
)  # fmt: skip
@reason_option(f"With --swap and --undo: {KEPT[0].lower()}{KEPT[1:]}")
def replay(
    stream: str,
    actions: tuple[Literal["rehearse", "swap", "undo", "abandon"], ...],
    is_range: bool,
    since: str | None,
    until: str | None,
    offsets: tuple[str, ...],
    unknown_fields: bool,
    reason: str,
) -> None:
    """Compute a stream's table once more, and compare.

    It is computed next to the live one, and the difference is shown; --swap puts it in the live one's place.
    """
    import dagster as dg

    from jobs.operations.audit import audited
    from jobs.operations.questions import parse_moment
    from jobs.operations.replay.audit import describe_replay
    from jobs.operations.replay.command import replay_stream
    from jobs.operations.replay.row_replay import ReplayScope
    from jobs.platform.services import prepare_environment
    from platform_assets.streams import load_stream_groups
    from resources.embedded.servers import running_servers
    from resources.lakehouse import LakehouseResource

    if len(set(actions)) > 1:
        raise click.UsageError("Only one of --rehearse, --swap, --undo and --abandon can be asked for.")
    action = actions[0] if actions else "compare"
    asked = ReplayScope(parse_moment("--since", since), parse_moment("--until", until), offsets, unknown_fields)
    scope = asked if is_range or asked != ReplayScope() else None
    settings = load_settings()
    act = describe_replay(stream, action, scope, reason)
    prepare_environment(settings)
    groups = load_stream_groups()
    with (
        audited(LakehouseResource.from_settings(settings), act),
        running_servers(settings),
        dg.DagsterInstance.get() as instance,
    ):
        replay_stream(groups, stream, action, settings, instance, name_account(), print, scope)


@click.command
@_group
@reason_option("Kept for ever with the lost range, and in platform.audit_log.")
@click.option(
    "--from", "go_on_from", default="", metavar="WHERE",
    help="Of a topic that was created again, or is another cluster's: beginning, end, or a time (ISO-8601).",
)  # fmt: skip
def acknowledge_loss(group: str, reason: str, go_on_from: str) -> None:
    """Show what Kafka deleted before it was read.

    With --reason it is recorded, and the stream may go on after it.
    """
    from jobs.operations import acknowledge_loss as operation
    from jobs.operations.audit import audited, describe_act
    from jobs.operations.stream_groups import find_groups
    from platform_assets.streaming.ingest.lost_ranges import describe
    from platform_assets.streams import load_stream_groups
    from resources.embedded.servers import running_servers
    from resources.lakehouse import LakehouseResource

    settings = load_settings()
    groups = find_groups(load_stream_groups(), group, "")
    chosen = {"groups": [each.name for each in groups], "from": go_on_from}
    act = describe_act("acknowledge-loss", reason, chosen) if reason else None
    acknowledged = []
    with audited(LakehouseResource.from_settings(settings), act) as outcome, running_servers(settings):
        for each in groups:
            lost = operation.acknowledge_loss(each, settings, name_account(), reason, go_on_from)
            print("\n".join(f"{each.name}: lost {item}" for item in lost) or f"{each.name}: nothing is lost.")
            acknowledged += [str(item) for item in lost]
            outcome.detail = "; ".join(acknowledged) or "nothing is lost"
            if lost:
                then = f"Recorded. Go on with: headrace resume {each.name}"
                print(then if reason else f"Nothing was recorded. {describe(lost)}")
