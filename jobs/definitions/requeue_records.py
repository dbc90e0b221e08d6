"""The Dagster job by which a person re-ingests quarantined records, as with `headrace requeue`."""

# No postponed annotations in this file: Dagster reads those of ops at definition time.
from collections.abc import Sequence

import dagster as dg

from jobs.operations.stream_groups import build_group_field, choose_group
from platform_assets.errors import HeadraceError
from platform_assets.streaming.stream_spec import StreamGroup
from resources.settings import load_settings

_MOMENT = "ISO-8601, of their arrival (empty: no bound)"


def build_requeue_job(groups: Sequence[StreamGroup]) -> dg.JobDefinition:
    """Builds `requeue_records` over these groups. The run fails with one line where the command would end with one."""

    @dg.op(
        description="Parses quarantined records with the current parser; with `accept` ingests what it accepts.",
        config_schema={
            "group": build_group_field(groups),
            "accept": dg.Field(bool, default_value=False, description="Take them in; the group pauses for that"),
            "reasons": dg.Field([str], default_value=[], description="Only those quarantined for one of these"),
            "since": dg.Field(str, default_value="", description=f"Only those from then on: {_MOMENT}"),
            "until": dg.Field(str, default_value="", description=f"Only those before: {_MOMENT}"),
            "offsets": dg.Field([str], default_value=[], description="Only these, as topic/partition/offset"),
            "reason": dg.Field(str, default_value="", description="Why: accept asks for it, and it is kept"),
        },
    )
    def requeue(context: dg.OpExecutionContext) -> None:
        from jobs.operations.audit import audited, describe_act
        from jobs.operations.requeue import build_record_filter, describe_taken, requeue_records
        from resources.embedded.servers import running_servers
        from resources.lakehouse import LakehouseResource

        config, settings = context.op_config, load_settings()
        group = choose_group(groups, config["group"])
        try:
            bounds = (config["since"] or None, config["until"] or None)
            record_filter = build_record_filter(config["reasons"], *bounds, config["offsets"])
            chosen = {name: config[name] for name in ("group", "reasons", "since", "until", "offsets")}
            act = describe_act("requeue", config["reason"], chosen, run=context.run) if config["accept"] else None
            with audited(LakehouseResource.from_settings(settings), act) as outcome, running_servers(settings):
                found = requeue_records(
                    group,
                    record_filter,
                    settings,
                    context.instance,
                    f"run {context.run_id[:8]}",
                    accept=config["accept"],
                )
                outcome.detail = describe_taken(group.name, found)
        except HeadraceError as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        context.add_output_metadata(
            {
                "changed": config["accept"],
                "accepted": found.count("accepted"),
                "deduplicated": found.count("deduplicated"),
                "still_refused": dict(found.refused),
            }
        )

    @dg.job(
        name="requeue_records",
        description="Shows which quarantined records would be accepted now, and takes them in on demand.",
        executor_def=dg.in_process_executor,
    )
    def requeue_records_job() -> None:
        requeue()

    return requeue_records_job
