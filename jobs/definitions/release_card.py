"""The Dagster job by which a person releases a held card from the web UI."""

# No postponed annotations in this file: Dagster reads those of ops at definition time.
import dagster as dg

from platform_assets.errors import HeadraceError


def build_release_job() -> dg.JobDefinition:
    """Builds `release_card`. The run fails with one line where the command would end with one."""

    @dg.op(
        description="Releases a card that an alert holds.",
        required_resource_keys={"lakehouse", "kafka"},
        config_schema={
            "card_id": dg.Field(str, description="Which card; headrace card list has those that are held"),
            "reason": dg.Field(str, description="Why, for those who read it later"),
        },
    )
    def release(context: dg.OpExecutionContext) -> None:
        from jobs.operations.audit import audited, describe_act, shorten_card
        from jobs.operations.card_holds import describe_release, release_card
        from jobs.supervision.publish_target import find_publish_target
        from resources.settings import load_settings

        config, resources = context.op_config, context.resources
        by = f"run {context.run_id[:8]}"
        try:
            act = describe_act(
                "card release", config["reason"], {"card": shorten_card(config["card_id"])}, run=context.run,
                has_private_errors=True,
            )  # fmt: skip
            with audited(resources.lakehouse, act):
                target = find_publish_target(load_settings())
                over = release_card(
                    resources.lakehouse, resources.kafka, config["card_id"], by, config["reason"], target
                )
        except HeadraceError as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        context.log.info(describe_release(config["card_id"], over))

    @dg.job(
        name="release_card",
        description="Releases a card that an alert holds (choose it in the Launchpad).",
        executor_def=dg.in_process_executor,
    )
    def release_card() -> None:
        release()

    return release_card
