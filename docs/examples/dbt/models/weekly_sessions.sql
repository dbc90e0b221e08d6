-- One row a week (from Monday, UTC) and device: how often a session ends in a purchase.
select
    date_trunc('week', session_start)::date as week,
    coalesce(device_type, 'unknown') as device,
    count(*) as sessions,
    count(*) filter (where purchase_count > 0) as sessions_with_purchase,
    avg(duration_seconds) as mean_duration_seconds
from {{ source('gold', 'sessions') }}
group by all
