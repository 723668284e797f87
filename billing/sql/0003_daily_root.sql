-- The daily root: one hash over the heads of all wallets as they stood when a day was over, and over all entries that
-- are no wallet's. Kept outside, it shows that nobody rewrote the past, not even somebody who can compute every chain
-- anew.
-- Edited in place until the first release; from then on a new version is a new file.

-- Root, wallets and entries of a day of Moscow (the zone of the money pages) and of all days before it. Canonical
-- form 2: for each wallet that has an entry, in the order of ids, 56 bytes: its id (16), the number of its last
-- entry (8, big-endian) and that entry's hash (32); then 32 bytes for each entry that is no wallet's (debts,
-- what is not matched, fees), in the order of ids: the SHA-256 of its line; of all of them SHA-256. A line is joined
-- by "|" and begins with 2: id, type, debit, credit, amount, kind of source, bytes of the source, source, key.
-- Such entries are few and found by the index of numbers, which begins with the customer.
CREATE FUNCTION ledger_root(of_day date, OUT root bytea, OUT wallets bigint, OUT entries bigint)
LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT sha256(heads.bytes || others.bytes), heads.wallets, heads.entries + others.entries
      FROM (SELECT coalesce(string_agg(uuid_send(w.customer_id) || int8send(e.seq) || e.hash, '' ORDER BY w.customer_id),
                            '') AS bytes,
                   count(*) AS wallets, coalesce(sum(e.seq), 0)::bigint AS entries
              FROM billing_wallet w
             CROSS JOIN LATERAL (SELECT l.seq, l.hash FROM billing_ledgerentry l
                                  WHERE l.customer_id = w.customer_id AND l.seq IS NOT NULL
                                    AND l.created_at < (of_day + 1)::timestamp AT TIME ZONE 'Europe/Moscow'
                                  ORDER BY l.seq DESC LIMIT 1) e) heads,
           (SELECT coalesce(string_agg(sha256(convert_to(
                       '2|' || o.id::text || '|' || o.type || '|' || o.debit_account || '|' || o.credit_account || '|'
                       || o.amount_micro_rub::text || '|' || o.source_type || '|' || octet_length(o.source_id)::text
                       || '|' || o.source_id || '|' || o.key, 'UTF8')), '' ORDER BY o.id), '') AS bytes,
                   count(*) AS entries
              FROM billing_ledgerentry o
             WHERE o.customer_id IS NULL
               AND o.created_at < (of_day + 1)::timestamp AT TIME ZONE 'Europe/Moscow') others
$$;

CREATE TRIGGER frozen BEFORE UPDATE OR DELETE ON billing_dailyroot
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER not_truncated BEFORE TRUNCATE ON billing_dailyroot
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();
ALTER TABLE billing_dailyroot ENABLE ALWAYS TRIGGER frozen, ENABLE ALWAYS TRIGGER not_truncated;
