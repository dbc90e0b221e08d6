"""The Dagster job by which a person pauses, resumes or restarts streams from the web UI."""

# No postponed annotations in this file: Dagster reads those of ops at definition time.
from collections.abc import Sequence

import dagster as dg

from jobs.operations.stream_groups import build_group_field, choose_group
from jobs.supervision.lease import write_control
from platform_assets.streaming.stream_spec import StreamGroup
from resources.settings import load_settings


def build_control_streams_job(groups: Sequence[StreamGroup]) -> dg.JobDefinition:
    """Builds `control_streams` over these groups. What it records is acted on within seconds; its run ends at once."""

    @dg.op(
        description="Records a pause, a resume or a restart of a group, or of one stream while the others go on.",
        config_schema={
            "command": dg.Field(
                dg.Enum("ControlCommand", [dg.EnumValue(name) for name in ("pause", "resume", "restart")]),
                description="pause: stop at a batch boundary and hold. resume: end every hold. restart: stop and start",
            ),
            "group": build_group_field(groups),
            "stream": dg.Field(str, default_value="", description="One stream of it (empty: the whole group)"),
            "reason": dg.Field(str, default_value="", description="Why: shown where the hold is, and kept"),
        },
    )
    def record_command(context: dg.OpExecutionContext) -> None:
        from jobs.operations.audit import describe_act, note_act
        from resources.lakehouse import LakehouseResource

        config = context.op_config
        group = choose_group(groups, config["group"], config["stream"])
        by = f"run {context.run_id[:8]}"
        write_control(context.instance, group.name, config["command"], by, config["reason"], stream=config["stream"])
        chosen = {"groups": [group.name], "stream": config["stream"]}
        act = describe_act(config["command"], config["reason"], chosen, run=context.run, needs_reason=False)
        note_act(LakehouseResource.from_settings(load_settings()), act)
        context.log.info(f"{config['command']} of {config['stream'] or group.name} is recorded.")

    @dg.job(
        name="control_streams",
        description="Pauses, resumes or restarts a stream group or one of its streams (choose in the Launchpad).",
        executor_def=dg.in_process_executor,
    )
    def control_streams() -> None:
        record_command()

    return control_streams
