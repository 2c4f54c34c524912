select
  customers.customer_id, customers.company,
  round(coalesce(sum(orders.amount), 0))::bigint as revenue  -- Salesforce keeps this field without decimals
from customers
left join orders using (customer_id)
group by all
