-- What `verify_ledger` asks about plans; see billing/sql/verify.sql for the form and the parameter `wallets`.

WITH purchase AS NOT MATERIALIZED (
    SELECT b.*, p.subscription_id, b.period_id::text AS period FROM plans_purchase b
      JOIN plans_subscriptionperiod p ON p.id = b.period_id
     WHERE %(wallets)s::uuid[] IS NULL OR b.customer_id = ANY (%(wallets)s::uuid[])
), period AS NOT MATERIALIZED (
    SELECT * FROM plans_subscriptionperiod
     WHERE %(wallets)s::uuid[] IS NULL OR customer_id = ANY (%(wallets)s::uuid[])
), entry AS NOT MATERIALIZED (  -- of plans: what was paid, given and carried
    SELECT * FROM billing_ledgerentry
     WHERE type IN ('plan_purchase', 'plan_grant', 'rollover')
       AND (%(wallets)s::uuid[] IS NULL OR customer_id = ANY (%(wallets)s::uuid[]))
)

-- check V26: every purchase in a paid period is one entry of its price and one of its grant, and no other is
SELECT coalesce(b.id, e.id), coalesce('bought for ' || b.paid, 'no purchase') || ', entry of '
       || coalesce(e.amount_micro_rub::text, 'nothing')
  FROM (SELECT id, customer_id, period, purchase_entry_id AS entry_id, price_micro_rub AS paid,
               'plan_purchase' AS type FROM purchase
         UNION ALL
        SELECT id, customer_id, period, grant_entry_id, grant_micro_rub, 'plan_grant' FROM purchase) b
  FULL JOIN (SELECT * FROM entry WHERE type <> 'rollover') e ON e.id = b.entry_id
 WHERE CASE WHEN b.id IS NULL THEN true
            WHEN b.paid = 0 THEN b.entry_id IS NOT NULL
            ELSE (e.amount_micro_rub, e.customer_id, e.type, e.source_id)
                 IS DISTINCT FROM (b.paid, b.customer_id, b.type, b.period) END

-- check V60: every paid period was opened by one purchase
SELECT p.id, count(b.id) || ' purchases, the first is number ' || coalesce(min(b.number)::text, '-')
  FROM period p LEFT JOIN plans_purchase b ON b.period_id = p.id AND b.number = 0
 GROUP BY p.id
HAVING count(b.id) <> 1

-- check V61: the images used of a period are its rows, never above its quota
SELECT p.id, p.images_used || ' used of ' || p.image_quota || ', ' || count(u.key) || ' rows'
  FROM period p LEFT JOIN plans_quotause u ON u.period_id = p.id
 GROUP BY p.id, p.images_used, p.image_quota
HAVING p.images_used <> count(u.key) OR p.images_used > p.image_quota

-- check V62: what left lots for a rollover came back to a lot of the same wallet, and a period says how much
SELECT e.source_id, sum(signed) || ' stays between lots, ' || coalesce(max(p.carried_micro_rub), 0)
                    || ' carried by the period, ' || sum(carried) || ' by entries'
  FROM (SELECT *, CASE WHEN credit_account = 'rollover_clearing' THEN amount_micro_rub
                       ELSE -amount_micro_rub END AS signed,
               CASE WHEN key LIKE 'rollover:%%' AND debit_account = 'rollover_clearing' THEN amount_micro_rub
                    ELSE 0 END AS carried
          FROM entry WHERE type = 'rollover') e
  LEFT JOIN period p ON p.id::text = e.source_id AND p.customer_id = e.customer_id
 GROUP BY e.source_id
HAVING sum(signed) <> 0 OR sum(carried) IS DISTINCT FROM max(p.carried_micro_rub)::numeric

-- check V63: every bonus of a campaign is one entry of its amount, and its limit is kept
SELECT r.id, 'given ' || r.amount_micro_rub || ', entry of ' || coalesce(e.amount_micro_rub::text, 'nothing')
  FROM plans_redemption r
  LEFT JOIN billing_ledgerentry e ON e.id = r.entry_id
 WHERE (%(wallets)s::uuid[] IS NULL OR r.customer_id = ANY (%(wallets)s::uuid[]))
   AND (e.amount_micro_rub, e.customer_id, e.key)
       IS DISTINCT FROM (r.amount_micro_rub, r.customer_id,
                         'bonus:campaign:' || r.campaign_id || ':' || r.customer_id)
 UNION ALL
SELECT c.id, c.uses || ' uses, ' || count(r.id) || ' given'
  FROM plans_campaign c LEFT JOIN plans_redemption r ON r.campaign_id = c.id
 WHERE %(wallets)s::uuid[] IS NULL OR c.id IN (
       SELECT campaign_id FROM plans_redemption WHERE customer_id = ANY (%(wallets)s::uuid[]))
 GROUP BY c.id, c.uses
HAVING c.uses <> count(r.id)
