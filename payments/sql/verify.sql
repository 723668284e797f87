-- What `verify_ledger` asks about payments; see billing/sql/verify.sql for the form and the parameter `wallets`.

WITH payment AS NOT MATERIALIZED (
    SELECT *, status IN ('succeeded', 'partially_refunded', 'refunded') AS is_paid FROM payments_payment
     WHERE %(wallets)s::uuid[] IS NULL OR customer_id = ANY (%(wallets)s::uuid[])
), topup AS NOT MATERIALIZED (
    SELECT * FROM billing_ledgerentry
     WHERE type = 'topup' AND (%(wallets)s::uuid[] IS NULL OR customer_id = ANY (%(wallets)s::uuid[]))
)

-- check V16: a paid payment is one top-up of its amount to its wallet; any other top-up is a bank line that was credited
SELECT coalesce(p.id::text, t.id::text),
       coalesce(p.status || ' of ' || p.amount_micro_rub, 'no payment') || ', '
       || coalesce('topped up ' || t.amount_micro_rub || ' by ' || t.source_type || ' ' || t.source_id, 'no top-up')
  FROM payment p
  FULL JOIN topup t ON t.source_id = p.id::text AND t.source_type = 'payment' AND t.key = 'topup:' || t.source_id
 WHERE p.is_paid <> (t.id IS NOT NULL)
    OR (t.amount_micro_rub, t.customer_id) IS DISTINCT FROM (p.amount_micro_rub, p.customer_id) AND p.is_paid
    OR p.id IS NULL AND NOT (t.source_type = 'bank_line' AND EXISTS (
       SELECT FROM payments_bankline l WHERE l.id::text = t.source_id AND l.status = 'credited'))

-- check V53: the fee of a payment is one entry below the amount of a paid payment
SELECT f.id, f.key || ' of ' || f.amount_micro_rub || ', '
       || coalesce(p.status || ' of ' || p.amount_micro_rub, 'no payment')
  FROM (SELECT * FROM billing_ledgerentry
         WHERE type = 'provider_fee'
           AND (%(wallets)s::uuid[] IS NULL OR key IN (SELECT 'fee:' || id FROM payment))) f
  LEFT JOIN payment p ON f.key = 'fee:' || p.id
 WHERE p.is_paid IS NOT TRUE OR f.amount_micro_rub >= p.amount_micro_rub
    OR (f.debit_account, f.credit_account, f.source_type, f.source_id)
       IS DISTINCT FROM ('provider_fee', 'provider_clearing', 'payment', p.id::text)

-- check V31: no notification waits long after its time, and none was given up lately; only in a proof of all wallets
SELECT id, event || CASE WHEN outcome = 'parked' THEN ' parked at ' || processed_at ELSE ' due since ' || next_attempt_at END
  FROM payments_webhookevent
 WHERE %(wallets)s::uuid[] IS NULL
   AND (next_attempt_at < ledger_clock() - interval '10 minutes'
        OR outcome = 'parked' AND processed_at > ledger_clock() - interval '30 days')

-- check V35: no payment is open long after the time in which it can be paid
SELECT id, status || ', to be paid until ' || coalesce(expires_at::text, 'nobody knows')
  FROM payment
 WHERE status IN ('created', 'unknown', 'pending')
   AND coalesce(expires_at, created_at) < ledger_clock() - interval '2 hours'
