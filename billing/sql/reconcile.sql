-- Usage against ledger: every statement returns (object, detail) for each difference, nothing when they agree.
--
-- `billing/reconciliation.py` runs them in one REPEATABLE READ, READ ONLY transaction, each with the sources below in
-- front of it. Parameters: since, until (the period; a usage row and its entry have the same time, so no pair is
-- cut in two), first_id (no entry of the period has a lower id: an index by time on the busiest table would cost
-- every charge a tenth). The proof of the books says the same of each row (V28), once a day and of all time.

WITH work AS NOT MATERIALIZED (
    SELECT * FROM billing_usageevent WHERE created_at >= %(since)s AND created_at < %(until)s
), debit AS NOT MATERIALIZED (
    SELECT * FROM billing_ledgerentry
     WHERE created_at >= %(since)s AND created_at < %(until)s AND type = 'usage_debit' AND source_type = 'run'
       AND id >= %(first_id)s
)

-- check R01: what usage of a day was charged is what the ledger took that day
SELECT day, coalesce(u.total, 0) || ' by usage, ' || coalesce(e.total, 0) || ' by entries'
  FROM (SELECT (created_at AT TIME ZONE 'Europe/Moscow')::date AS day, sum(charged_micro_rub) AS total
          FROM work GROUP BY 1) u
  FULL JOIN (SELECT (created_at AT TIME ZONE 'Europe/Moscow')::date AS day, sum(amount_micro_rub) AS total
               FROM debit GROUP BY 1) e USING (day)
 WHERE coalesce(u.total, 0) <> coalesce(e.total, 0)

-- check R02: usage that was charged has its entry
SELECT u.id, 'charged ' || u.charged_micro_rub || ', entry ' || coalesce(e.type, 'none')
  FROM work u LEFT JOIN billing_ledgerentry e ON e.id = u.ledger_entry_id
 WHERE (u.charged_micro_rub <> 0 OR u.ledger_entry_id IS NOT NULL)
   AND (e.type IS DISTINCT FROM 'usage_debit' OR e.customer_id <> u.customer_id)

-- check R03: what the ledger took for an answer is what its usage rows were charged
-- (laid together, not joined, as in V28)
SELECT t.id, sum(t.taken) || ' taken, ' || coalesce(sum(t.charged)::text, 'no usage')
  FROM (SELECT e.id, e.amount_micro_rub::bigint AS taken, NULL::bigint AS charged FROM debit e
         UNION ALL
        SELECT u.ledger_entry_id, NULL, u.charged_micro_rub FROM work u WHERE u.ledger_entry_id IS NOT NULL) t
 GROUP BY t.id
HAVING count(t.taken) > 0 AND sum(t.taken) IS DISTINCT FROM sum(t.charged)
