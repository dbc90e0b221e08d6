"""What each stream over silver.events must come to, written once more: in SQL, for DuckDB, over a table `events`."""

from __future__ import annotations

_WINDOWS = """
    windows as (
      select e.*, w as window_start, w + interval '{size}' as window_end
      from (select *, unnest(generate_series(
              time_bucket(interval '{slide}', event_time) - interval '{size}' + interval '{slide}',
              time_bucket(interval '{slide}', event_time), interval '{slide}')) as w from events) e)
"""
# By way of its decimal digits, as Spark rounds a double: 1.005 is 1.01, although the double lies a little below.
_MONEY = "sum(try_cast(revenue::varchar as decimal(18,2)))"
ORACLES = {
    "revenue_by_category": f"""
        with {_WINDOWS.format(size="1 minute", slide="30 seconds")}
        select window_start, window_end, category, coalesce(cast({_MONEY} as double), 0.0) as total_revenue,
               count(*) as purchase_count, total_revenue / purchase_count as avg_order_value
        from windows where event_type = 'purchase' group by window_start, window_end, category""",
    "high_value_users": f"""
        with {_WINDOWS.format(size="5 minutes", slide="1 minute")}
        select window_start, window_end, user_id, cast({_MONEY} as double) as total_spent,
               count(*) as purchase_count, count(distinct product_id) as products_purchased
        from windows where event_type = 'purchase' group by window_start, window_end, user_id
        having {_MONEY} > 100""",
    "conversion_funnel": f"""
        with {_WINDOWS.format(size="5 minutes", slide="1 minute")}
        select window_start, window_end,
               count(distinct user_id) filter (event_type = 'page_view') as unique_visitors,
               count(distinct user_id) filter (event_type = 'add_to_cart') as cart_users,
               count(distinct user_id) filter (event_type = 'purchase') as purchasers,
               cart_users / nullif(unique_visitors, 0) * 100 as cart_conversion_rate,
               purchasers / nullif(cart_users, 0) * 100 as purchase_conversion_rate
        from windows where event_type in ('page_view', 'add_to_cart', 'purchase') group by window_start, window_end""",
    "view_to_purchase": """
        select v.event_id as view_event_id, p.event_id as purchase_event_id, v.user_id, v.product_id,
               v.event_time as view_time, p.event_time as purchase_time,
               (epoch_us(p.event_time) - epoch_us(v.event_time)) / 1000000 as time_to_purchase_seconds,
               v.device_type, p.revenue
        from events v join events p on v.user_id = p.user_id and v.product_id = p.product_id
        where v.event_type = 'page_view' and p.event_type = 'purchase' and p.event_time > v.event_time
          and p.event_time - v.event_time <= interval '30 minutes'""",
    "sessions": f"""
        with ordered as (
          select *, coalesce(event_time - lag(event_time) over own >= interval '30 minutes', true) as begins
          from events window own as (partition by user_id order by event_time)),
        numbered as (
          select *, count(*) filter (begins) over (
            partition by user_id order by event_time rows unbounded preceding) as number from ordered)
        select user_id, min(event_time) as session_start, max(event_time) as session_end,
               session_start::date as session_date,
               (epoch_us(session_end) - epoch_us(session_start)) / 1000000 as duration_seconds,
               count(*) as event_count, count(*) filter (event_type = 'purchase') as purchase_count,
               coalesce(cast({_MONEY} filter (event_type = 'purchase') as double), 0.0)
                 as total_revenue,
               count(distinct product_id) filter (event_type = 'page_view') as unique_products,
               first(device_type order by event_time, kafka_partition, kafka_offset) as device_type,
               first(country order by event_time, kafka_partition, kafka_offset) as country
        from numbered group by user_id, number""",
}
