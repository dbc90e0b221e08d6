"""Prints what the tables hold: the end of the demonstration. Read by delta-rs and DuckDB, no Spark."""

from __future__ import annotations

import re

import duckdb
from rich.console import Console
from rich.table import Table

from platform_assets.reports import list_report_tables, select_reports
from platform_assets.reports.day_states import REPORT_DAYS
from platform_assets.streams import load_streams
from resources.lakehouse import LakehouseResource
from resources.settings import Settings

EXCERPTS = {
    "gold.revenue_by_category, newest windows": """
        select window_start, category, currency, total_revenue, purchase_count,
               round(avg_order_value, 2) avg_order_value
        from gold_revenue_by_category order by 1 desc, purchase_count desc limit 5""",
    "gold.session_report": """
        select report_date, device_type, sum(sessions) sessions, sum(converted_sessions) converted
        from gold_session_report group by all order by 1, 3 desc""",
    "gold.session_report, revenue": """
        select report_date, sums.key currency, sum(sums.value) revenue
        from (select report_date, unnest(map_entries(revenue_by_currency::json::map(varchar, decimal(28, 2)))) sums
              from gold_session_report)
        group by all order by 1, 2""",
    "gold.purchase_correlations, best sellers": """
        select report_date, product_id, views, purchases, round(view_to_purchase_rate, 3) rate, round(lift, 2) lift
        from gold_purchase_correlations order by purchases desc limit 5""",
    "gold.product_affinity, what goes together": """
        select report_date, product_id, other_product_id, shared_baskets, round(confidence, 3) confidence,
               round(lift, 2) lift
        from gold_product_affinity where shared_baskets > 2 order by gold_product_affinity.lift desc limit 5""",
    "gold.customer_360, who bought most": """
        select user_id, purchases, array_to_string(list_transform(
                 map_entries(revenue_by_currency::json::map(varchar, decimal(28, 2))),
                 lambda entry: trim(concat_ws(' ', entry.value, entry.key))), ', ') revenue,
               sessions, favourite_category, open_cart_products cart
        from gold_customer_360 order by purchases desc, user_id limit 5""",
    "gold.merchant_category_report, where cards pay most": """
        select report_date, merchant_category, currency, payments, cards, total_amount, round(p50_amount, 2) p50_amount,
               refunds
        from gold_merchant_category_report order by payments desc limit 5""",
    "gold.card_velocity, the most countries within ten minutes": """
        select window_start, card_id, payment_count, countries, merchants
        from gold_card_velocity order by countries desc, payment_count desc, window_start limit 5""",
    "gold.fraud_alerts, the newest": """
        select event_time, card_id, amount, currency, round(score, 3) score, model_version, reasons
        from gold_fraud_alerts order by scored_at desc limit 5""",
    "silver.fraud_scores by verdict": """
        select verdict, unscored_reason, count(*) payments,
               round(quantile_cont(epoch_ms(scored_at) - epoch_ms(received_at), 0.5))::bigint p50_ms,
               round(quantile_cont(epoch_ms(scored_at) - epoch_ms(received_at), 0.99))::bigint p99_ms
        from silver_fraud_scores group by all order by 3 desc""",
    "gold.traffic_by_minute, the newest minutes": """
        select window_start, host, requests, client_errors, server_errors, bytes_sent
        from gold_traffic_by_minute order by 1 desc, requests desc limit 5""",
    "gold.network_threats, by rule": """
        select report_date, rule, count(*) networks, sum(events) events, count(logged_in_at) logged_in
        from gold_network_threats group by all order by 1, 2""",
    "gold.telemetry_anomalies, by rule": """
        select report_date, rule, severity, count(*) anomalies, count(distinct sensor) sensors
        from gold_telemetry_anomalies group by all order by 1, 2, 3""",
    "platform.report_days": """
        select report_date, state, count(*) reports from platform_report_days group by all order by 1""",
    "silver.quarantined_events by reason": """
        select reason, count(*) records from silver_quarantined_events group by all order by 2 desc""",
}


def print_results(settings: Settings, console: Console) -> None:
    """Every table of the enabled groups with its size, then an excerpt of the interesting ones. All must exist."""
    lakehouse = LakehouseResource.from_settings(settings)
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    overview = Table("table", "rows", "version", title="Tables", title_justify="left")
    tables = [table for stream in load_streams() for table in stream.tables]
    for table in [*tables, *list_report_tables(select_reports(tables)), REPORT_DAYS]:
        found = lakehouse.delta_table(table.name)
        view = table.name.replace(".", "_")
        connection.register(view, found.to_pyarrow_dataset())
        rows = connection.table(view).count("*").fetchall()[0][0]
        overview.add_row(table.name, f"{rows:,}", str(found.version()))
    console.print(overview)
    views = {name for (name,) in connection.execute("show tables").fetchall()}
    for title, sql in EXCERPTS.items():
        if re.split("[ ,]", title)[0].replace(".", "_") not in views:
            continue
        result = connection.execute(sql)
        shown = Table(*(column[0] for column in result.description or ()), title=title, title_justify="left")
        for row in result.fetchall():
            shown.add_row(*map(str, row))
        console.print(shown)
    console.print(f"The days as pages: {lakehouse.root_uri}/_reports", highlight=False)
