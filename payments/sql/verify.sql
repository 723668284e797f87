-- What `verify_ledger` asks about payments; see billing/sql/verify.sql for the form and the parameter `wallets`.

WITH payment AS NOT MATERIALIZED (
    SELECT *, status IN ('succeeded', 'partially_refunded', 'refunded') AS is_paid FROM payments_payment
     WHERE %(wallets)s::uuid[] IS NULL OR customer_id = ANY (%(wallets)s::uuid[])
), topup AS NOT MATERIALIZED (
    SELECT * FROM billing_ledgerentry
     WHERE type = 'topup' AND (%(wallets)s::uuid[] IS NULL OR customer_id = ANY (%(wallets)s::uuid[]))
)

-- check V16: a paid payment is one top-up of its amount to its wallet, any other payment is none
SELECT coalesce(p.id::text, t.source_id),
       coalesce(p.status || ' of ' || p.amount_micro_rub, 'no payment') || ', '
       || coalesce('topped up ' || t.amount_micro_rub, 'no top-up')
  FROM payment p FULL JOIN topup t ON t.source_id = p.id::text
 WHERE p.id IS NULL AND t.source_type = 'payment' AND t.key = 'topup:' || t.source_id
    OR p.is_paid <> (t.id IS NOT NULL)
    OR (t.amount_micro_rub, t.customer_id) IS DISTINCT FROM (p.amount_micro_rub, p.customer_id) AND p.is_paid
