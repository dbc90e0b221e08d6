-- One row a product: how long after its first view it was bought, of those pairs that are known.
select
    product_id,
    count(*) as pairs,
    median(time_to_purchase_seconds) as median_delay_seconds
from {{ source('gold', 'view_to_purchase') }}
group by product_id
