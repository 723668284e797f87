-- The daily root: one hash over the heads of all wallets as they stood when a day was over. Kept outside, it shows
-- that nobody rewrote the past, not even somebody who can compute every chain anew.
-- Edited in place until the first release; from then on a new version is a new file.

-- Root, wallets and entries of a day of Moscow (the zone of the money pages) and of all days before it. Canonical
-- form 1: for each wallet that has an entry, in the order of ids, 56 bytes: its id (16), the number of its last
-- entry (8, big-endian) and that entry's hash (32); of all of them SHA-256.
CREATE FUNCTION ledger_root(of_day date, OUT root bytea, OUT wallets bigint, OUT entries bigint)
LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT sha256(coalesce(string_agg(uuid_send(w.customer_id) || int8send(e.seq) || e.hash, '' ORDER BY w.customer_id),
                           '')),
           count(*), coalesce(sum(e.seq), 0)::bigint
      FROM billing_wallet w
     CROSS JOIN LATERAL (SELECT l.seq, l.hash FROM billing_ledgerentry l
                          WHERE l.customer_id = w.customer_id AND l.seq IS NOT NULL
                            AND l.created_at < (of_day + 1)::timestamp AT TIME ZONE 'Europe/Moscow'
                          ORDER BY l.seq DESC LIMIT 1) e
$$;

CREATE TRIGGER frozen BEFORE UPDATE OR DELETE ON billing_dailyroot
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER not_truncated BEFORE TRUNCATE ON billing_dailyroot
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();
ALTER TABLE billing_dailyroot ENABLE ALWAYS TRIGGER frozen, ENABLE ALWAYS TRIGGER not_truncated;
