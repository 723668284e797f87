-- The proof of the books: every statement returns (object, detail) for each broken fact, nothing when all is right.
--
-- `billing/verification.py` runs them in one REPEATABLE READ, READ ONLY transaction, each with the sources below
-- in front of it. Parameters: wallets (only these customers, NULL for all), as_of (only entries written up to this
-- moment, NULL for all; given to the checks of OF_THE_PAST alone), append_only and read_only (names of tables),
-- constraints and functions (those that must exist), role (the application's). Numbers are those of the ledger
-- guide (section 21) where it has the check. Not here: V06, a wallet has no column of held money, V11
-- and V12 say it; V18 and V19, one row carries both sides and a system account is the sum of its rows, so V01
-- and V07 say them; V16 and V35 belong to payments (setting LEDGER_CHECKS), as does the inbox of V31, whose outbox
-- is here: accounts, below us, have no checks. V24 asks the ledger, which also knows disputes; V25 and V30 wait for rows of
-- refunds and receipts, which do not exist yet; V32 is what V44 says of the newest root.

WITH wallet AS NOT MATERIALIZED (
    SELECT customer_id, balance_micro_rub::bigint, seq, head_hash FROM billing_wallet
     WHERE (%(wallets)s::uuid[] IS NULL OR customer_id = ANY (%(wallets)s::uuid[])) AND %(as_of)s::timestamptz IS NULL
     UNION ALL  -- a wallet as it was is what its last entry says
    SELECT e.* FROM billing_wallet w
     CROSS JOIN LATERAL (SELECT l.customer_id, l.balance_after_micro_rub::bigint, l.seq, l.hash
                           FROM billing_ledgerentry l
                          WHERE l.customer_id = w.customer_id AND l.seq IS NOT NULL
                            AND l.created_at <= %(as_of)s::timestamptz
                          ORDER BY l.seq DESC LIMIT 1) e
     WHERE (%(wallets)s::uuid[] IS NULL OR w.customer_id = ANY (%(wallets)s::uuid[]))
       AND %(as_of)s::timestamptz IS NOT NULL
), entry AS NOT MATERIALIZED (
    SELECT *, CASE WHEN credit_account = 'wallet' THEN amount_micro_rub ELSE -amount_micro_rub END AS signed
      FROM billing_ledgerentry
     WHERE (%(wallets)s::uuid[] IS NULL OR customer_id = ANY (%(wallets)s::uuid[]))
       AND (%(as_of)s::timestamptz IS NULL OR created_at <= %(as_of)s::timestamptz
            -- numbers are the order: the server's clock may have been set back by what V33 lets pass
            OR created_at <= %(as_of)s::timestamptz + interval '1 second'
               AND seq <= (SELECT w.seq FROM wallet w WHERE w.customer_id = billing_ledgerentry.customer_id))
), lot AS NOT MATERIALIZED (
    SELECT *, coalesce(expires_at, 'infinity') AS usable_until FROM billing_creditlot
     WHERE %(wallets)s::uuid[] IS NULL OR customer_id = ANY (%(wallets)s::uuid[])
), hold AS NOT MATERIALIZED (
    SELECT * FROM billing_hold
     WHERE %(wallets)s::uuid[] IS NULL OR customer_id = ANY (%(wallets)s::uuid[])
), work AS NOT MATERIALIZED (
    SELECT * FROM billing_usageevent
     WHERE %(wallets)s::uuid[] IS NULL OR customer_id = ANY (%(wallets)s::uuid[])
), taken AS NOT MATERIALIZED (  -- what each debit took from which lot; a reversal gives it back
    SELECT e.id AS entry_id, e.customer_id, t.lot_id,
           CASE WHEN e.credit_account = 'wallet' THEN -t.amount ELSE t.amount END AS amount
      FROM entry e, LATERAL unnest(e.lot_ids, e.lot_amounts) AS t (lot_id, amount)
), share AS NOT MATERIALIZED (  -- what each hold set aside in which lot
    SELECT h.id AS hold_id, h.customer_id, h.status, t.lot_id, t.amount
      FROM hold h, LATERAL unnest(h.lot_ids, h.lot_amounts) AS t (lot_id, amount)
), untouched AS MATERIALIZED (  -- lots of which nobody ever set anything aside
    SELECT l.* FROM lot l
     WHERE l.remaining_micro_rub = l.amount_micro_rub AND l.reserved_micro_rub = 0
       AND NOT EXISTS (SELECT FROM share s WHERE s.lot_id = l.id)
), chain AS NOT MATERIALIZED (  -- each entry of a wallet beside the one before it
    SELECT e.*, row_number() OVER numbered AS place,
           lag(e.balance_after_micro_rub, 1, 0::bigint) OVER numbered AS balance_before,
           lag(e.hash, 1, ''::bytea) OVER numbered AS hash_before,
           lag(e.created_at) OVER numbered AS time_before
      FROM entry e WHERE e.customer_id IS NOT NULL AND e.seq IS NOT NULL
    WINDOW numbered AS (PARTITION BY e.customer_id ORDER BY e.seq)
)

-- check V01: the balance of a wallet is the sum of its entries
SELECT w.customer_id, w.balance_micro_rub || ' in the wallet, ' || coalesce(e.total, 0) || ' by entries'
  FROM wallet w
  LEFT JOIN (SELECT customer_id, sum(signed) AS total FROM entry GROUP BY customer_id) e USING (customer_id)
 WHERE w.balance_micro_rub <> coalesce(e.total, 0)

-- check V02: each balance follows from the one before
SELECT customer_id || '/' || seq, balance_before || ' and ' || signed || ' do not make ' || balance_after_micro_rub
  FROM chain
 WHERE balance_before + signed IS DISTINCT FROM balance_after_micro_rub

-- check V03: the numbers of a wallet's entries have no gap
SELECT customer_id || '/' || seq, 'expected ' || place
  FROM chain
 WHERE seq <> place

-- check V04: the head of a wallet is its last entry
SELECT w.customer_id,
       'wallet ' || w.seq || ' ' || encode(w.head_hash, 'hex') || ', entry ' || coalesce(e.seq, 0) || ' '
       || coalesce(encode(e.hash, 'hex'), '')
  FROM wallet w
  LEFT JOIN LATERAL (SELECT seq, hash FROM billing_ledgerentry l
                      WHERE l.customer_id = w.customer_id AND l.seq IS NOT NULL ORDER BY l.seq DESC LIMIT 1) e ON true
 WHERE w.seq <> coalesce(e.seq, 0) OR w.head_hash <> coalesce(e.hash, '')

-- check V05: each hash covers its entry and the hash before it
SELECT customer_id || '/' || seq, 'entry ' || id || ' is not what was hashed'
  FROM chain
 WHERE hash IS DISTINCT FROM ledger_hash(hash_before, customer_id, seq, id, debit_account, credit_account,
                                         amount_micro_rub, balance_after_micro_rub, key)

-- check V07: an entry of a customer has one wallet side, a number and a wallet; others have none of these
SELECT e.id, 'customer ' || coalesce(e.customer_id::text, '-') || ', ' || e.debit_account || ' to '
             || e.credit_account || ', number ' || coalesce(e.seq::text, '-')
             || CASE WHEN w.customer_id IS NULL THEN ', no wallet' ELSE '' END
  FROM entry e LEFT JOIN wallet w USING (customer_id)
 WHERE CASE WHEN e.customer_id IS NULL
            THEN 'wallet' IN (e.debit_account, e.credit_account) OR e.seq IS NOT NULL
            ELSE (e.debit_account = 'wallet') = (e.credit_account = 'wallet') OR w.customer_id IS NULL
                 OR e.seq IS NULL OR e.balance_after_micro_rub IS NULL OR e.hash IS NULL END

-- check V08: what remains in the lots is the balance of the wallet
SELECT w.customer_id, w.balance_micro_rub || ' in the wallet, ' || coalesce(l.total, 0) || ' in lots'
  FROM wallet w
  LEFT JOIN (SELECT customer_id, sum(remaining_micro_rub) AS total FROM lot GROUP BY customer_id) l
            USING (customer_id)
 WHERE w.balance_micro_rub <> coalesce(l.total, 0)

-- check V09: what remains in a lot is its amount without what was taken
SELECT l.id, l.remaining_micro_rub || ' remains of ' || l.amount_micro_rub || ', taken ' || coalesce(t.total, 0)
  FROM lot l
  LEFT JOIN (SELECT lot_id, sum(amount) AS total FROM taken GROUP BY lot_id) t ON t.lot_id = l.id
 WHERE l.remaining_micro_rub <> l.amount_micro_rub - coalesce(t.total, 0)

-- check V10: a debit took exactly its amount, from lots of its own wallet; a credit but a reversal took nothing
SELECT e.id, e.debit_account || ' ' || e.amount_micro_rub || ', taken ' || t.total
  FROM entry e,
       LATERAL (SELECT coalesce(sum(u.amount), 0) AS total,
                       bool_or(u.amount IS NULL OR u.amount < 0
                               OR l.customer_id IS DISTINCT FROM e.customer_id) AS is_wrong
                  FROM unnest(e.lot_ids, e.lot_amounts) AS u (lot_id, amount)
                  LEFT JOIN billing_lot l ON l.id = u.lot_id) t  -- by the id alone: each lot is read once
 WHERE t.total <> CASE WHEN e.debit_account = 'wallet' OR e.type = 'reversal' THEN e.amount_micro_rub ELSE 0 END
    OR t.is_wrong

-- check V11: what a lot reserves is the shares of open holds
SELECT l.id, l.reserved_micro_rub || ' reserved, ' || coalesce(s.total, 0) || ' in open holds'
  FROM lot l
  LEFT JOIN (SELECT lot_id, sum(amount) AS total FROM share WHERE status = 'open' GROUP BY lot_id) s
            ON s.lot_id = l.id
 WHERE l.reserved_micro_rub <> coalesce(s.total, 0)

-- check V12: a hold is the sum of its shares, in lots of its own wallet
SELECT h.id, h.amount_micro_rub || ' held, ' || t.total || ' in shares'
  FROM hold h,
       LATERAL (SELECT coalesce(sum(u.amount), 0) AS total,
                       bool_or(u.amount IS NULL OR u.amount <= 0
                               OR l.customer_id IS DISTINCT FROM h.customer_id) AS is_wrong
                  FROM unnest(h.lot_ids, h.lot_amounts) AS u (lot_id, amount)
                  LEFT JOIN billing_lot l ON l.id = u.lot_id) t
 WHERE h.amount_micro_rub <> t.total OR t.is_wrong

-- check V13: a captured hold has exactly one entry, under its own id and key; any other hold has none
SELECT coalesce(h.id, e.hold_id),
       coalesce(h.status, 'no hold') || ' ' || coalesce(h.captured_micro_rub, 0) || ', '
       || coalesce(e.pieces, 0) || ' entries of ' || coalesce(e.total, 0)
       || CASE WHEN NOT e.is_its_own THEN ', under another id or key' ELSE '' END
  FROM hold h
  FULL JOIN (SELECT hold_id, customer_id, count(*) AS pieces, sum(amount_micro_rub) AS total,
                    bool_and(id = hold_id AND key = 'capture:' || hold_id) AS is_its_own
               FROM entry WHERE hold_id IS NOT NULL GROUP BY hold_id, customer_id) e
            ON e.hold_id = h.id AND e.customer_id = h.customer_id
 WHERE h.id IS NULL
    OR coalesce(e.pieces, 0) <> CASE WHEN h.status = 'captured' THEN 1 ELSE 0 END
    OR h.captured_micro_rub <> coalesce(e.total, 0) OR h.captured_micro_rub > h.amount_micro_rub
    OR (h.status = 'open') <> (h.resolved_at IS NULL) OR NOT e.is_its_own

-- check V14: no hold is open long after its time
SELECT id, 'open, over since ' || expires_at
  FROM hold
 WHERE status = 'open' AND expires_at < ledger_clock() - interval '5 minutes'

-- check V15: no free money stays in an expired lot
SELECT id, remaining_micro_rub - reserved_micro_rub || ' since ' || expires_at
  FROM lot
 WHERE remaining_micro_rub > reserved_micro_rub AND expires_at < ledger_clock() - interval '1 day'

-- check V17: a reversal is a charge of the same customer turned round, lot by lot, once
SELECT r.id, 'reverses ' || r.source_id || ' of ' || coalesce(e.amount_micro_rub::text, 'nothing')
  FROM entry r
  LEFT JOIN billing_ledgerentry e ON e.id::text = r.source_id AND r.source_type = 'entry'
 WHERE r.type = 'reversal'
   AND (e.id IS NULL OR e.type <> 'usage_debit' OR e.customer_id IS DISTINCT FROM r.customer_id
        OR e.amount_micro_rub <> r.amount_micro_rub OR e.credit_account <> r.debit_account
        OR e.debit_account <> r.credit_account OR e.lot_ids <> r.lot_ids OR e.lot_amounts <> r.lot_amounts
        OR r.key <> 'reversal:' || r.source_id)

-- check V20: the guards of the append-only tables are in place and hold for everybody
SELECT t.name, g.name || coalesce(' is in state ' || tg.tgenabled::text, ' is missing or another one')
  FROM (SELECT name, name LIKE 'billing\_%%' AS is_ours FROM unnest(%(append_only)s::text[]) AS a (name)) t
 CROSS JOIN LATERAL (  -- billing's: row (update, delete) and truncate; others': auditlog/append_only.py, all in one
       VALUES ('frozen', 27, 'ledger_refuse_change()', true),
              ('not_truncated', 34, 'ledger_refuse_change()', true),
              (t.name || '_is_append_only', 58, 'auditlog_refuse_change()', false)) AS g (name, moments, function, is_ours)
  LEFT JOIN pg_trigger tg
    ON tg.tgrelid = t.name::regclass AND tg.tgname = g.name AND tg.tgtype = g.moments AND tg.tgqual IS NULL
   AND tg.tgattr::text = ''
   AND tg.tgfoid = (SELECT oid FROM pg_proc
                     WHERE oid = to_regprocedure(g.function) AND position('RAISE EXCEPTION' IN prosrc) > 0)
 WHERE g.is_ours = t.is_ours AND tg.tgenabled IS DISTINCT FROM 'A'

-- check V21: the constraints of the apps with guarded tables exist, are validated, and bind every amount
SELECT n.name, CASE WHEN c.oid IS NULL THEN 'missing' ELSE 'not validated or not enforced' END
  FROM unnest(%(constraints)s::text[]) AS n (name)
  LEFT JOIN pg_constraint c ON c.conname = n.name AND c.connamespace = 'public'::regnamespace
 WHERE c.oid IS NULL AND NOT EXISTS (  -- a rule for some rows only is a unique index
       SELECT FROM pg_index i WHERE i.indexrelid = to_regclass(n.name) AND i.indisunique AND i.indisvalid)
    OR NOT c.convalidated
    OR NOT coalesce((to_jsonb(c) ->> 'conenforced')::boolean, true)  -- the column came with PostgreSQL 18
 UNION ALL
SELECT a.place, 'is not of the type ' || a.domain || ' with its check'
  FROM (VALUES ('billing_wallet', 'balance_micro_rub', 'micro_rub', 'CHECK ((VALUE >= 0))'),
               ('billing_wallet', 'lot_remaining', 'micro_rub_of_lots', 'CHECK ((0 <= ALL (VALUE)))'),
               ('billing_wallet', 'lot_reserved', 'micro_rub_of_lots', 'CHECK ((0 <= ALL (VALUE)))'),
               ('billing_lot', 'amount_micro_rub', 'micro_rub_moved', 'CHECK ((VALUE > 0))'),
               ('billing_hold', 'amount_micro_rub', 'micro_rub', 'CHECK ((VALUE >= 0))'),
               ('billing_hold', 'captured_micro_rub', 'micro_rub', 'CHECK ((VALUE >= 0))'),
               ('billing_ledgerentry', 'amount_micro_rub', 'micro_rub_moved', 'CHECK ((VALUE > 0))'),
               ('billing_ledgerentry', 'balance_after_micro_rub', 'micro_rub', 'CHECK ((VALUE >= 0))')
       ) AS m (tab, col, domain, rule)
 CROSS JOIN LATERAL (SELECT m.tab || '.' || m.col AS place, m.domain) a
 WHERE NOT EXISTS (
       SELECT FROM pg_attribute t JOIN pg_constraint c ON c.contypid = t.atttypid AND c.convalidated
        WHERE t.attrelid = m.tab::regclass AND t.attname = m.col
          AND t.atttypid = to_regtype(m.domain) AND pg_get_constraintdef(c.oid) = m.rule)

-- check V22: the application role can neither rewrite history nor write money past the functions
SELECT t.name, %(role)s::text || ' may ' || p.name
  FROM (SELECT name, 'UPDATE,DELETE,TRUNCATE' AS refused FROM unnest(%(append_only)s::text[]) AS a (name)
         UNION ALL
        SELECT name, 'INSERT,UPDATE,DELETE,TRUNCATE' FROM unnest(%(read_only)s::text[]) AS f (name)) t
 CROSS JOIN LATERAL unnest(string_to_array(t.refused || ',TRIGGER', ',')) AS p (name)
 WHERE EXISTS (SELECT FROM pg_roles WHERE rolname = %(role)s)
   AND (has_table_privilege(%(role)s, t.name, p.name)
        OR p.name IN ('INSERT', 'UPDATE') AND has_any_column_privilege(%(role)s, t.name, p.name))
 UNION
SELECT c.relname::text, 'the application role ' || r.rolname || ' works as its owner'
  FROM pg_class c, pg_roles r
 WHERE c.oid = ANY ((%(append_only)s::text[] || %(read_only)s::text[])::regclass[])
   AND r.rolname = %(role)s AND (pg_has_role(r.oid, c.relowner, 'MEMBER') OR r.rolsuper)
 UNION
SELECT %(role)s, 'there is no such role' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = %(role)s)

-- check V23: money was set aside in spend order
SELECT s.hold_id, 'took from lot ' || l.id || ' while lot ' || better.id || ' lay free'
  FROM share s
  JOIN hold h ON h.id = s.hold_id
  JOIN lot l ON l.id = s.lot_id
  JOIN untouched better
    ON better.customer_id = h.customer_id
   AND (better.spend_class, better.usable_until, better.id) < (l.spend_class, l.usable_until, l.id)
   AND better.usable_until > h.created_at
   AND better.created_at < h.created_at - interval '1 second'  -- the server's clock may have been set back

-- check V24: refunds and disputes of a payment give back no more than the payment
SELECT substr(p.key, length('topup:') + 1), 'paid ' || p.amount_micro_rub || ', given back ' || b.amount
  FROM (SELECT topup_id, sum(amount) AS amount
          FROM (SELECT l.source_entry_id AS topup_id, e.amount_micro_rub::bigint AS amount
                  FROM entry e JOIN billing_lot l ON l.id = ANY (e.lot_ids)  -- a refund takes from one lot
                 WHERE e.type = 'refund'
                 UNION ALL
                SELECT t.id, e.amount_micro_rub
                  FROM entry e JOIN entry t ON t.key = 'topup:' || e.source_id AND t.hold_id IS NULL
                 WHERE e.type = 'chargeback' AND e.source_type = 'payment'
                 UNION ALL  -- what was not covered
                SELECT t.id, d.amount_micro_rub
                  FROM billing_ledgerentry d
                  JOIN entry t ON t.key = 'topup:' || right(d.key, length(d.source_id)) AND t.hold_id IS NULL
                 WHERE d.type = 'debt' AND d.key LIKE 'chargeback:%%:debt:%%') g
         GROUP BY topup_id) b
  JOIN entry p ON p.id = b.topup_id
 WHERE b.amount > p.amount_micro_rub

-- check V27: usage is priced by its price version and rate
SELECT u.id, u.model || ': cost ' || u.cost_micro_rub || ', by its price ' || coalesce(p.cost::text, 'none')
  FROM work u
  LEFT JOIN LATERAL (
       SELECT CASE WHEN exact = 0 THEN 0  -- without its rate the cost is unknown, not the minimum
                   WHEN exact > 0 THEN greatest(div(exact + unit - 1, unit), minimum) END AS cost
         FROM (SELECT (i.uncached * t.input
                       + u.cached_input_tokens::numeric * t.cached_input
                       + u.cache_write_tokens::numeric * t.cache_write
                       + u.output_tokens::numeric * t.output
                       + u.images::numeric * v.image * 1000000)
                      * CASE WHEN v.currency = 'RUB' THEN 1000000::numeric * 10000
                             ELSE f.micro_rub::numeric * (10000 + f.spread_bp) END * v.markup_bp AS exact,
                      1000000::numeric * 1000000 * 10000 * 10000 AS unit,
                      v.minimum_micro_rub AS minimum
                 FROM billing_priceversion v
                 LEFT JOIN billing_fxrate f ON f.id = u.fx_rate_id AND f.currency = v.currency
                CROSS JOIN LATERAL (
                      SELECT greatest(u.input_tokens - u.cached_input_tokens - u.cache_write_tokens, 0)::numeric
                          AS uncached) i
                CROSS JOIN LATERAL (
                      SELECT coalesce(i.uncached + u.cached_input_tokens + u.cache_write_tokens
                                      > v.tier_above_tokens, false) AS is_long) l
                CROSS JOIN LATERAL (
                      SELECT v.input, v.cached_input, v.cache_write, v.output WHERE NOT l.is_long
                       UNION ALL
                      SELECT v.tier_input, v.tier_cached_input, v.tier_cache_write, v.tier_output
                       WHERE l.is_long) t
                WHERE v.id = u.price_version_id) s) p ON true
 WHERE p.cost IS DISTINCT FROM u.cost_micro_rub

-- check V28: what the ledger took is what its usage rows say, never more than the cost
-- Laid together, not joined: of rows that are younger than its statistics the planner thinks that there are none, and
-- compares each with each.
SELECT t.id, sum(t.taken) || ' taken, ' || coalesce(sum(t.charged)::text, 'no usage')
  FROM (SELECT e.id, e.amount_micro_rub::bigint AS taken, NULL::bigint AS charged
          FROM entry e WHERE e.type = 'usage_debit' AND e.source_type = 'run'
         UNION ALL
        SELECT u.ledger_entry_id, NULL, u.charged_micro_rub FROM work u WHERE u.ledger_entry_id IS NOT NULL) t
 GROUP BY t.id
HAVING count(t.taken) > 0 AND sum(t.taken) IS DISTINCT FROM sum(t.charged)
 UNION ALL
SELECT u.id, 'usage of ' || u.charged_micro_rub || ' at a cost of ' || u.cost_micro_rub || ', entry '
             || coalesce(e.type, 'none')
  FROM work u LEFT JOIN entry e ON e.id = u.ledger_entry_id
 WHERE u.charged_micro_rub NOT BETWEEN 0 AND u.cost_micro_rub
    OR u.ledger_entry_id IS NULL AND u.charged_micro_rub <> 0
    OR u.ledger_entry_id IS NOT NULL
       AND (e.type IS DISTINCT FROM 'usage_debit' OR u.customer_id <> e.customer_id)

-- check V29: the counters of limits are what the holds say
SELECT coalesce(c.id, t.id),
       coalesce(c.subject || ': spent ' || c.spent_micro_rub || ', reserved ' || c.reserved_micro_rub, 'no counter')
       || ', by holds ' || coalesce(t.captured, 0) || ' and ' || coalesce(t.held, 0)
  FROM (SELECT * FROM billing_limitcounter WHERE %(wallets)s::uuid[] IS NULL) c
  FULL JOIN (SELECT u.id, sum(h.captured_micro_rub)::bigint AS captured,
                    coalesce(sum(h.amount_micro_rub) FILTER (WHERE h.status = 'open'), 0)::bigint AS held
               FROM hold h, unnest(h.counter_ids) AS u (id)
              WHERE h.counter_ids <> '{}' AND %(wallets)s::uuid[] IS NULL  -- wallets share them: all or none
              GROUP BY u.id) t USING (id)
 WHERE (c.spent_micro_rub::bigint, c.reserved_micro_rub::bigint)
       IS DISTINCT FROM (coalesce(t.captured, 0), coalesce(t.held, 0))

-- check V31: no letter waits long after its time, and none was given up lately
SELECT id, letter || CASE WHEN outcome = 'parked' THEN ' parked at ' || finished_at ELSE ' due since ' || next_attempt_at END
  FROM accounts_notice
 WHERE %(wallets)s::uuid[] IS NULL
   AND (next_attempt_at < ledger_clock() - interval '10 minutes'
        OR outcome = 'parked' AND finished_at > ledger_clock() - interval '30 days')

-- check V33: time runs with the numbers
SELECT customer_id || '/' || seq, created_at || ' after ' || time_before
  FROM chain
 WHERE created_at < time_before - interval '1 second'

-- check V36: nobody owes something for long while free money lies in their wallet
SELECT d.customer_id, 'owes ' || d.owed || ' beside ' || f.free || ' free'
  FROM (SELECT source_id::uuid AS customer_id, max(created_at) AS moved_at,
               sum(CASE WHEN debit_account = 'receivable' THEN amount_micro_rub ELSE -amount_micro_rub END) AS owed
          FROM billing_ledgerentry
         WHERE (debit_account = 'receivable' OR credit_account = 'receivable') AND type IN ('debt', 'chargeback')
           AND (%(wallets)s::uuid[] IS NULL OR source_id = ANY (%(wallets)s::uuid[]::text[]))
         GROUP BY source_id) d
 CROSS JOIN LATERAL (
       SELECT sum(remaining_micro_rub - reserved_micro_rub) AS free, max(created_at) AS moved_at
         FROM lot
        WHERE lot.customer_id = d.customer_id AND NOT is_spent AND usable_until > ledger_clock()) f
 WHERE d.owed > 0 AND f.free > 0
   AND greatest(d.moved_at, f.moved_at) < ledger_clock() - interval '10 minutes'
   AND NOT EXISTS (SELECT FROM entry e WHERE e.customer_id = d.customer_id
                                         AND e.created_at >= ledger_clock() - interval '10 minutes')
   AND NOT EXISTS (SELECT FROM hold h WHERE h.customer_id = d.customer_id  -- what a run gave back just now
                                        AND h.resolved_at >= ledger_clock() - interval '10 minutes')

-- check V37: the functions that write money run as the tables' owner with a fixed search path
SELECT f.name, coalesce('owner ' || p.proowner::regrole || ', definer ' || p.prosecdef, 'missing')
  FROM unnest(%(functions)s::text[]) AS f (name)
  LEFT JOIN pg_proc p ON p.oid = to_regprocedure(f.name)
 WHERE p.oid IS NULL OR NOT p.prosecdef OR p.provolatile <> 'v'
    OR p.proowner <> (SELECT relowner FROM pg_class WHERE oid = 'billing_wallet'::regclass)
    OR NOT coalesce('search_path=public, pg_temp' = ANY (p.proconfig), false)
 UNION
SELECT p.oid::regprocedure::text, 'has the rights of its owner, whoever calls it'
  FROM pg_proc p
 WHERE p.proname LIKE 'ledger\_%%' AND p.prosecdef AND p.pronamespace = 'public'::regnamespace
   AND p.oid <> ALL (ARRAY (SELECT to_regprocedure(f.name) FROM unnest(%(functions)s::text[]) AS f (name)
                             WHERE to_regprocedure(f.name) IS NOT NULL))

-- check V40: every inflow but a reversal made exactly one lot
SELECT coalesce(e.id, l.source_entry_id),
       coalesce('inflow of ' || e.amount_micro_rub, 'no inflow') || ', lot of '
       || coalesce(l.amount_micro_rub::text, 'nothing')
  FROM (SELECT * FROM entry WHERE credit_account = 'wallet' AND type <> 'reversal') e
  FULL JOIN lot l ON l.source_entry_id = e.id
 WHERE e.amount_micro_rub IS DISTINCT FROM l.amount_micro_rub OR e.customer_id IS DISTINCT FROM l.customer_id

-- check V41: a lot is marked as spent when nothing remains, and only then
SELECT id, remaining_micro_rub || ' remains, spent: ' || is_spent
  FROM lot
 WHERE is_spent <> (remaining_micro_rub = 0)

-- check V42: a lot reserves no more than remains, and no more remains than came
SELECT id, reserved_micro_rub || ' reserved of ' || remaining_micro_rub || ' of ' || amount_micro_rub
  FROM lot
 WHERE reserved_micro_rub > remaining_micro_rub OR remaining_micro_rub > amount_micro_rub

-- check V43: a capture takes from the lots of its hold, from each no more than was set aside
SELECT e.id, 'took ' || e.lot_amounts::text || ' of ' || e.lot_ids::text || ', set aside ' || h.lot_amounts::text
             || ' of ' || h.lot_ids::text
  FROM entry e JOIN hold h ON h.id = e.hold_id
 WHERE e.lot_ids <> h.lot_ids
    OR e.lot_amounts <> h.lot_amounts
       AND CASE cardinality(h.lot_ids)
           WHEN 1 THEN e.lot_amounts[1] > h.lot_amounts[1]  -- most captures; several times faster
           ELSE EXISTS (SELECT FROM unnest(e.lot_amounts, h.lot_amounts) AS t (taken, share) WHERE taken > share) END

-- check V44: the root of the newest closed day is what the entries still make
SELECT d.day, 'closed with ' || encode(d.root, 'hex') || ' of ' || d.entries || ' entries in ' || d.wallets
              || ' wallets, now ' || encode(r.root, 'hex') || ' of ' || r.entries || ' in ' || r.wallets
  FROM (SELECT * FROM billing_dailyroot ORDER BY day DESC LIMIT 1) d, ledger_root(d.day) r
 WHERE %(wallets)s::uuid[] IS NULL AND (d.root, d.wallets, d.entries) IS DISTINCT FROM (r.root, r.wallets, r.entries)

-- check V45: nobody has repaid more than they owed
SELECT source_id, 'repaid ' || -sum(owed) || ' too much'
  FROM (SELECT source_id, CASE WHEN debit_account = 'receivable' THEN amount_micro_rub
                               ELSE -amount_micro_rub END AS owed
          FROM billing_ledgerentry
         WHERE (debit_account = 'receivable' OR credit_account = 'receivable') AND type IN ('debt', 'chargeback')
           AND (%(wallets)s::uuid[] IS NULL OR source_id = ANY (%(wallets)s::uuid[]::text[]))) d
 GROUP BY source_id
HAVING sum(owed) < 0

-- check V46: the roll-ups of closed days are the sums of their usage rows
SELECT customer_id || '/' || day, model || ': roll-ups are ' || sum(requests) || ' rows and ' || sum(charged)
                                  || ' micro-RUB above the rows'
  FROM (SELECT customer_id, day, model, api_key_id, kind, requests, input_tokens, output_tokens,
               cached_input_tokens, cache_write_tokens, reasoning_tokens, images, cost_micro_rub AS cost,
               charged_micro_rub AS charged
          FROM billing_usagerollup
         WHERE %(wallets)s::uuid[] IS NULL OR customer_id = ANY (%(wallets)s::uuid[])
         UNION ALL
        SELECT customer_id, (created_at AT TIME ZONE 'Europe/Moscow')::date, model, api_key_id, kind, -1,
               -input_tokens, -output_tokens, -cached_input_tokens, -cache_write_tokens, -reasoning_tokens,
               -images, -cost_micro_rub, -charged_micro_rub
          FROM work
         WHERE created_at < ((SELECT max(day) FROM billing_usageday WHERE closed_at IS NOT NULL) + 1)::timestamp
                            AT TIME ZONE 'Europe/Moscow') u
 GROUP BY customer_id, day, model, api_key_id, kind
HAVING (sum(requests), sum(input_tokens), sum(output_tokens), sum(cached_input_tokens), sum(cache_write_tokens),
        sum(reasoning_tokens), sum(images), sum(cost), sum(charged)) <> (0, 0, 0, 0, 0, 0, 0, 0, 0)

-- check V47: a wallet's lots lie side by side, each once and not spent, with its own end, in spend order
SELECT customer_id, 'lot ' || coalesce(id::text, '?') || ' in place ' || place
  FROM (SELECT w.customer_id, u.*, l.is_spent, l.expires_at, (l.spend_class, coalesce(l.expires_at, 'infinity'), l.id) AS rank,
               lag((l.spend_class, coalesce(l.expires_at, 'infinity'), l.id)) OVER (PARTITION BY w.customer_id ORDER BY u.place) AS before
          FROM billing_wallet w
         CROSS JOIN unnest(w.lot_ids, w.lot_ends, w.lot_remaining::bigint[], w.lot_reserved::bigint[])
               WITH ORDINALITY AS u (id, ends, remaining, reserved, place)
          LEFT JOIN billing_lot l ON l.id = u.id AND l.customer_id = w.customer_id
         WHERE %(wallets)s::uuid[] IS NULL OR w.customer_id = ANY (%(wallets)s::uuid[])) s
 WHERE is_spent IS NOT FALSE OR remaining = 0 OR expires_at IS DISTINCT FROM ends OR remaining IS NULL OR reserved IS NULL OR rank <= before

-- check V48: debts move in two ways: a dispute leaves one, the customer repays it
SELECT id, type || ' ' || debit_account || ' to ' || credit_account
  FROM billing_ledgerentry
 WHERE 'receivable' IN (debit_account, credit_account)
   AND (%(wallets)s::uuid[] IS NULL  -- of some wallets what the index by type has
        OR type NOT IN ('usage_debit', 'admin_adjustment') AND source_id = ANY (%(wallets)s::uuid[]::text[]))
   AND (type, debit_account = 'receivable', customer_id IS NULL, source_type)
       NOT IN (('debt', true, true, 'debt'), ('chargeback', false, false, 'debt'))
