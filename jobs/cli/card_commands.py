"""The commands `headrace card ...`: which cards are held by an alert, and their release."""

from __future__ import annotations

import click

from jobs.cli.reason_option import reason_option
from jobs.cli.shown_text import show
from resources.account import name_account
from resources.settings import load_settings


@click.group
def card() -> None:
    """List the cards that alerts hold, and release one."""


@card.command("list")
def list_cards() -> None:
    """List the cards that are held now, the newest first."""
    from platform_assets.fraud.held_cards import list_held
    from resources.lakehouse import LakehouseResource

    held = list_held(LakehouseResource.from_settings(load_settings()))
    for each in held:
        reasons = "; ".join(each.reasons)
        since = f"since {each.since:%Y-%m-%d %H:%M:%S} UTC"
        print(show(f"{each.card_id}  {since}  score {each.score:.3f}  {each.score_id}  {reasons}"))
    if not held:
        print("No card is held.")


@card.command
@click.argument("card_id", metavar="CARD")
@reason_option(required=True)
def release(card_id: str, reason: str) -> None:
    """Release a CARD that an alert holds."""
    from jobs.operations.audit import audited, describe_act, shorten_card
    from jobs.operations.card_holds import describe_release, release_card
    from jobs.supervision.publish_target import find_publish_target
    from resources.embedded.servers import running_servers
    from resources.kafka import KafkaResource
    from resources.lakehouse import LakehouseResource

    settings = load_settings()
    lakehouse = LakehouseResource.from_settings(settings)
    act = describe_act("card release", reason, {"card": shorten_card(card_id)}, has_private_errors=True)
    with (
        audited(lakehouse, act),
        running_servers(settings),
        KafkaResource.from_settings(settings) as kafka,
    ):
        target = find_publish_target(settings)
        over = release_card(lakehouse, kafka, card_id, name_account(), reason, target)
    print(show(describe_release(card_id, over)))
