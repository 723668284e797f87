-- What `verify_ledger` asks about invoices and bank lines; see billing/sql/verify.sql for the form and `wallets`.
-- Numbers, suspense and new lines belong to no wallet: they are looked at only in a proof of all.

WITH invoice AS NOT MATERIALIZED (
    SELECT * FROM payments_invoice
     WHERE %(wallets)s::uuid[] IS NULL OR customer_id = ANY (%(wallets)s::uuid[])
), credit AS NOT MATERIALIZED (  -- money of bank lines on wallets
    SELECT * FROM billing_ledgerentry
     WHERE source_type = 'bank_line' AND type = 'topup'
       AND (%(wallets)s::uuid[] IS NULL OR customer_id = ANY (%(wallets)s::uuid[]))
), suspended AS NOT MATERIALIZED (  -- what lies in suspense, by the line it came with
    SELECT source_id, sum(CASE WHEN credit_account = 'suspense' THEN amount_micro_rub
                               ELSE -amount_micro_rub END) AS amount
      FROM billing_ledgerentry
     WHERE 'suspense' IN (debit_account, credit_account) AND %(wallets)s::uuid[] IS NULL
     GROUP BY source_id
), numbered AS NOT MATERIALIZED (  -- the documents of each kind and year
    SELECT 'invoice' AS kind, year, number FROM payments_invoice WHERE %(wallets)s::uuid[] IS NULL
     UNION ALL
    SELECT 'closing', year, number FROM payments_closingdocument WHERE %(wallets)s::uuid[] IS NULL
)

-- check V34: the numbers of documents have no gap; a paid invoice is covered by one transfer of its total, no other by any
SELECT coalesce(c.kind, n.kind) || ' ' || coalesce(c.year, n.year),
       coalesce(n.count, 0) || ' documents up to number ' || coalesce(n.last, 0) || ', counter '
       || coalesce(c.last, 0)
  FROM (SELECT * FROM payments_documentcounter WHERE %(wallets)s::uuid[] IS NULL) c
  FULL JOIN (SELECT kind, year, count(*), max(number) AS last FROM numbered GROUP BY kind, year) n
         ON n.kind = c.kind AND n.year = c.year
 WHERE (n.count, n.last) IS DISTINCT FROM (c.last::bigint, c.last)
 UNION ALL
SELECT i.title, i.status || ' of ' || i.amount_micro_rub || ', covered by ' || i.covered
  FROM (SELECT v.id::text AS title, v.status, v.amount_micro_rub,
               coalesce((SELECT sum(e.amount_micro_rub)
                           FROM payments_bankline l JOIN credit e ON e.source_id = l.id::text
                          WHERE l.invoice_id = v.id AND e.customer_id = v.customer_id), 0) AS covered
          FROM invoice v) i
 WHERE i.covered <> CASE WHEN i.status = 'paid' THEN i.amount_micro_rub ELSE 0 END

-- check V50: what lies in suspense is the lines that wait there, each with its own amount
SELECT coalesce(l.id::text, s.source_id),
       coalesce(l.status || ' of ' || l.amount_micro_rub, 'no line') || ', in suspense ' || coalesce(s.amount, 0)
  FROM (SELECT * FROM payments_bankline WHERE %(wallets)s::uuid[] IS NULL) l
  FULL JOIN suspended s ON s.source_id = l.id::text
 WHERE coalesce(s.amount, 0) <> CASE WHEN l.status = 'suspense' THEN l.amount_micro_rub ELSE 0 END

-- check V51: a bank line is credited at most once, whole, and only by the invoice it is attached to
SELECT e.id, 'line ' || e.source_id || ' ' || coalesce(l.status || ' of ' || l.amount_micro_rub, 'unknown')
       || ', credited ' || e.amount_micro_rub
  FROM credit e
  LEFT JOIN payments_bankline l ON l.id::text = e.source_id
  LEFT JOIN payments_invoice v ON v.id = l.invoice_id
 WHERE l.status IS DISTINCT FROM 'credited' OR e.amount_micro_rub <> l.amount_micro_rub
    OR e.customer_id IS DISTINCT FROM v.customer_id OR e.key <> 'topup:' || e.source_id
    OR e.debit_account NOT IN ('bank', 'suspense')

-- check V52: no bank line waits two working days to be matched or put into suspense; the sweep needs ten minutes
SELECT l.id, l.number || ' of ' || l.document_date || ', ' || l.amount_micro_rub || ', new since ' || s.imported_at
  FROM payments_bankline l
  JOIN payments_bankstatement s ON s.id = l.statement_id
 WHERE l.status = 'new' AND %(wallets)s::uuid[] IS NULL
   AND (SELECT count(*)  -- from Monday to Friday in Moscow, after the day of the import
          FROM generate_series((s.imported_at AT TIME ZONE 'Europe/Moscow')::date + 1,
                               (ledger_clock() AT TIME ZONE 'Europe/Moscow')::date, interval '1 day') AS d (day)
         WHERE extract(isodow FROM d.day) < 6) >= 2
