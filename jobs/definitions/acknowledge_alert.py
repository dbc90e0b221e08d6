"""The Dagster job by which a person says in the web UI that they look at an alert."""

# No postponed annotations in this file: Dagster reads those of ops at definition time.
import dagster as dg

from platform_assets.errors import HeadraceError


def build_acknowledge_job() -> dg.JobDefinition:
    """Builds `acknowledge_alert`. The run fails with one line where the command would end with one."""

    @dg.op(
        description="Has it on record that somebody looks at an alert.",
        required_resource_keys={"lakehouse"},
        config_schema={
            "alert_id": dg.Field(str, description="Which alert; headrace alerts list has those that are open"),
            "reason": dg.Field(str, description="Why, for those who read it later"),
        },
    )
    def acknowledge(context: dg.OpExecutionContext) -> None:
        from jobs.operations.alerts import acknowledge_alert
        from jobs.operations.audit import audited, describe_act
        from resources.duckdb import DuckDBResource
        from resources.settings import load_settings

        config, lakehouse = context.op_config, context.resources.lakehouse
        try:
            act = describe_act(
                "alerts acknowledge", config["reason"], {"alert": config["alert_id"]}, run=context.run
            )  # fmt: skip
            with audited(lakehouse, act):
                engine = DuckDBResource.from_settings(load_settings())
                state = acknowledge_alert(lakehouse, engine, config["alert_id"], act.who, act.reason)
        except HeadraceError as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        by = state.acknowledged_by if state.acknowledged_at is not None else act.who
        context.log.info(f"{by} looks at the alert {config['alert_id']}: {state.text}")

    @dg.job(
        name="acknowledge_alert",
        description="Says that you look at an alert (choose it in the Launchpad).",
        executor_def=dg.in_process_executor,
    )
    def acknowledge_alert() -> None:
        acknowledge()

    return acknowledge_alert
