"""The Dagster job by which a person replays a stream from the web UI, as with `headrace replay`."""

# No postponed annotations in this file: Dagster reads those of ops at definition time.
from collections.abc import Sequence
from typing import get_args

import dagster as dg

from jobs.operations.replay.action import ReplayAction
from platform_assets.errors import HeadraceError
from platform_assets.private_rows import render_rows
from platform_assets.streaming.stream_spec import StreamGroup
from resources.settings import load_settings


def build_replay_job(groups: Sequence[StreamGroup]) -> dg.JobDefinition:
    """Builds `replay_stream` over these groups. The run fails with one line where the command would end with one."""

    @dg.op(
        description="Recomputes a stream's table next to the live one, and compares, swaps, undoes or abandons.",
        config_schema={
            "stream": dg.Field(str, description="The stream"),
            "action": dg.Field(
                dg.Enum("ReplayAction", [dg.EnumValue(name) for name in get_args(ReplayAction)]),
                default_value="compare",
                description="rehearse: run this code from a copy of the live state over the last batches, and compare. "
                "compare: make the shadow and show the difference. swap: put it in the live table's place. "
                "undo: take back the last swap. abandon: remove the shadow",
            ),
            "range": dg.Field(bool, default_value=False, description="Of what is final in a range of event time only"),
            "since": dg.Field(str, default_value="", description="With range: rows that begin from then on; ISO-8601"),
            "until": dg.Field(str, default_value="", description="With range: rows that are final then; ISO-8601"),
            "offsets": dg.Field(
                [str], default_value=[], description="Of a stream over Kafka: topic/partition/from-until, instead"
            ),
            "unknown_fields": dg.Field(
                bool, default_value=False, description="Of a stream over Kafka: fill new fields from unknown_fields"
            ),
            "reason": dg.Field(str, default_value="", description="Why: swap and undo ask for it, and keep it"),
        },
    )
    def replay(context: dg.OpExecutionContext) -> None:
        from jobs.operations.audit import audited
        from jobs.operations.questions import parse_moment
        from jobs.operations.replay.audit import describe_replay
        from jobs.operations.replay.command import replay_stream
        from jobs.operations.replay.row_replay import ReplayScope
        from resources.embedded.servers import running_servers
        from resources.lakehouse import LakehouseResource

        config, settings = context.op_config, load_settings()
        try:
            since, until = (parse_moment(name, config[name] or None) for name in ("since", "until"))
            asked = ReplayScope(since, until, tuple(config["offsets"]), config["unknown_fields"])
            scope = asked if config["range"] or asked != ReplayScope() else None
            act = describe_replay(config["stream"], config["action"], scope, config["reason"], context.run)
            with audited(LakehouseResource.from_settings(settings), act), running_servers(settings):
                found = replay_stream(
                    groups, config["stream"], config["action"], settings, context.instance,
                    f"run {context.run_id[:8]}", context.log.info, scope,
                )  # fmt: skip
        except HeadraceError as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        if found is not None:
            context.add_output_metadata(
                {
                    "rows": found.rows,
                    "added": found.added,
                    "missing": found.missing,
                    "changed": found.changed,
                    "first_differences": dg.MetadataValue.md(render_rows(found.shown_samples)),
                    **({} if found.until is None else {"final_until": dg.MetadataValue.timestamp(found.until)}),
                    **({"notes": dg.MetadataValue.md("\n\n".join(found.notes))} if found.notes else {}),
                }
            )

    @dg.job(
        name="replay_stream",
        description="Recomputes a stream's table from all events, shows what differs, and swaps it in on demand.",
        executor_def=dg.in_process_executor,
    )
    def replay_stream_job() -> None:
        replay()

    return replay_stream_job
