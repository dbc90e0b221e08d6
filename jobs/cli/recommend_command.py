"""The command `headrace recommend`."""

from __future__ import annotations

import click

from jobs.cli.shown_text import show
from platform_assets.errors import UsageError
from resources.settings import load_settings


@click.command
@click.option("--user", help="The user_id; one that nobody knows gets what is popular.")
@click.option("--country", help="Where the user is, as silver.events spells it; for who is not known.")
@click.option("--most", type=click.IntRange(1, 100), default=10, show_default=True, help="The number of products.")
@click.option("--serve", is_flag=True, help="Answer over HTTP at HEADRACE_RECOMMENDATIONS_PORT, until Ctrl-C.")
def recommend(user: str | None, country: str | None, most: int, serve: bool) -> None:
    """Show what the shop should show to a user.

    Read from gold.product_recommendations, as of the last night or the last minute.
    """
    from jobs.operations.recommendations import open_lookup, serve_recommendations
    from resources.lakehouse import LakehouseResource

    settings = load_settings()
    if serve == bool(user):
        raise UsageError("Give --user U, or --serve.")
    lakehouse = LakehouseResource.from_settings(settings)
    if serve:
        serve_recommendations(lakehouse, settings.recommendations_port)
        return
    with open_lookup(lakehouse) as lookup:
        for row in lookup.look_up(user or "", country, most):
            computed_at = f"{row['computed_at']:%Y-%m-%d %H:%M:%S} UTC"
            print(show(row["product_id"]), f"{row['score']:.4f}", show(row["reason"]), computed_at, sep="\t")
