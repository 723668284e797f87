-- The movements beside the charge for an answer: money that comes into a wallet, that leaves it, that comes back to
-- it, and that never was in one. Rules of 0001_ledger.sql: arrays of steps, each answered by itself; wallets locked
-- in ascending order before anything of them is read; keys make a repeat harmless.
-- Edited in place until the first release; from then on a new version is a new file.

-- Money comes in: makes the wallet if missing, a lot and an entry. Step: {entry_id, customer_id, amount,
-- type, debit_account, lot_kind, spend_class, expires_at, key, source_type, source_id, effective_at}.
-- Outcomes: done, replayed, mismatch.
CREATE FUNCTION ledger_credit(steps jsonb)
RETURNS TABLE (entry_id uuid, outcome text, balance_after bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    step record;
    known billing_ledgerentry%ROWTYPE;
    moment timestamptz;
BEGIN
    FOR step IN
        SELECT s.* FROM ROWS FROM (jsonb_to_recordset(steps) AS (
               entry_id uuid, customer_id uuid, amount bigint, type text, debit_account text, lot_kind text,
               spend_class smallint, expires_at timestamptz, key text, source_type text, source_id text,
               effective_at timestamptz)) WITH ORDINALITY AS s (
               entry_id, customer_id, amount, type, debit_account, lot_kind, spend_class, expires_at, key,
               source_type, source_id, effective_at, place)
         ORDER BY s.customer_id, s.place
    LOOP
        PERFORM ledger_open_wallet(step.customer_id);
        PERFORM 1 FROM billing_wallet w WHERE w.customer_id = step.customer_id FOR NO KEY UPDATE;
        SELECT * INTO known FROM billing_ledgerentry e WHERE e.key = step.key;
        IF FOUND THEN
            entry_id := known.id;
            balance_after := known.balance_after_micro_rub;
            outcome := CASE WHEN known.customer_id = step.customer_id AND known.type = step.type
                             AND known.amount_micro_rub = step.amount AND known.source_id = step.source_id
                            THEN 'replayed' ELSE 'mismatch' END;
            RETURN NEXT;
            CONTINUE;
        END IF;
        moment := ledger_clock();
        balance_after := ledger_post(
            step.customer_id, step.entry_id, step.type, step.debit_account, 'wallet', step.amount, step.key,
            step.source_type, step.source_id, '{}', '{}', coalesce(step.effective_at, moment), moment);
        INSERT INTO billing_creditlot (customer_id, kind, spend_class, amount_micro_rub, remaining_micro_rub,
                    reserved_micro_rub, is_spent, expires_at, source_entry_id, created_at)
        VALUES (step.customer_id, step.lot_kind, step.spend_class, step.amount, step.amount, 0, false,
                step.expires_at, step.entry_id, moment);
        entry_id := step.entry_id;
        outcome := 'done';
        RETURN NEXT;
    END LOOP;
END $$;

-- Money leaves a wallet. Step: {entry_id, customer_id, amount, type, credit_account, lot_id, lot_kind, partial,
-- key, source_type, source_id, effective_at}. Only free money is taken, never what a running request holds: from
-- `lot_id` alone, also when its time is over (an expiry only then), or without it from the lots in spend order,
-- of `lot_kind` alone when one is named.
-- `partial` takes what is there, up to `amount`. Outcomes: done, replayed, mismatch, insufficient_balance,
-- reserved_in_flight, nothing (a partial step found no free money). Only `done` writes.
CREATE FUNCTION ledger_debit(steps jsonb)
RETURNS TABLE (entry_id uuid, outcome text, taken bigint, balance_after bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    plain bigint[] := CASE WHEN jsonb_array_length(steps) > 1 THEN ledger_debit_plain(steps) END;
    step record;
    lot record;
    known billing_ledgerentry%ROWTYPE;
    moment timestamptz;
    ids bigint[];
    amounts bigint[];
    missing bigint;
    there bigint;
BEGIN
    IF array_position(plain, NULL) IS NULL AND plain IS NOT NULL THEN
        RETURN QUERY SELECT s.entry_id, 'done', s.amount, s.balance
                       FROM ROWS FROM (jsonb_to_recordset(steps) AS (entry_id uuid, amount bigint), unnest(plain))
                            AS s (entry_id, amount, balance);
        RETURN;
    END IF;
    FOR step IN
        SELECT * FROM ROWS FROM (jsonb_to_recordset(steps) AS (
               entry_id uuid, customer_id uuid, amount bigint, type text, credit_account text, lot_id bigint,
               lot_kind text, partial boolean, key text, source_type text, source_id text, effective_at timestamptz))
               WITH ORDINALITY
               AS s (entry_id, customer_id, amount, type, credit_account, lot_id, lot_kind, partial, key, source_type,
                     source_id, effective_at, place)
    LOOP
        IF plain[step.place] IS NOT NULL THEN
            entry_id := step.entry_id;
            outcome := 'done';
            taken := step.amount;
            balance_after := plain[step.place];
            RETURN NEXT;
            CONTINUE;
        END IF;
        entry_id := NULL;
        taken := 0;
        SELECT w.balance_micro_rub INTO balance_after
          FROM billing_wallet w WHERE w.customer_id = step.customer_id FOR NO KEY UPDATE;
        SELECT * INTO known FROM billing_ledgerentry e WHERE e.key = step.key;
        IF FOUND THEN
            outcome := CASE WHEN known.customer_id = step.customer_id AND known.type = step.type
                             AND known.credit_account = step.credit_account AND known.source_id = step.source_id
                             AND (known.amount_micro_rub = step.amount
                                  OR step.partial AND known.amount_micro_rub < step.amount)
                            THEN 'replayed' ELSE 'mismatch' END;
            IF outcome = 'replayed' THEN
                entry_id := known.id;
                taken := known.amount_micro_rub;
                balance_after := known.balance_after_micro_rub;
            END IF;
            RETURN NEXT;
            CONTINUE;
        END IF;

        moment := ledger_clock();
        ids := '{}';
        amounts := '{}';
        missing := step.amount;
        there := 0;
        FOR lot IN
            SELECT l.id, l.remaining_micro_rub AS remaining, l.remaining_micro_rub - l.reserved_micro_rub AS free
              FROM billing_creditlot l
             WHERE l.customer_id = step.customer_id AND NOT l.is_spent
               AND CASE WHEN step.lot_id IS NULL THEN l.expires_at IS NULL OR l.expires_at > moment
                        ELSE l.id = step.lot_id AND (step.type <> 'expiry' OR l.expires_at <= moment) END
               AND (step.lot_kind IS NULL OR l.kind = step.lot_kind)
             ORDER BY l.spend_class, l.expires_at NULLS LAST, l.id
        LOOP
            EXIT WHEN missing = 0;
            there := there + lot.remaining;
            IF lot.free > 0 THEN
                ids := ids || lot.id;
                amounts := amounts || least(missing, lot.free);
                missing := missing - least(missing, lot.free);
            END IF;
        END LOOP;
        IF missing > 0 AND NOT step.partial OR missing = step.amount THEN
            outcome := CASE WHEN step.partial THEN 'nothing' WHEN there >= step.amount THEN 'reserved_in_flight'
                            ELSE 'insufficient_balance' END;
            RETURN NEXT;
            CONTINUE;
        END IF;

        entry_id := step.entry_id;
        taken := step.amount - missing;
        outcome := 'done';
        FOR i IN 1 .. cardinality(ids) LOOP
            UPDATE billing_creditlot l
               SET remaining_micro_rub = l.remaining_micro_rub - amounts[i],
                   is_spent = l.remaining_micro_rub = amounts[i]
             WHERE l.id = ids[i];
        END LOOP;
        balance_after := ledger_post(
            step.customer_id, step.entry_id, step.type, 'wallet', step.credit_account, taken, step.key,
            step.source_type, step.source_id, ids, amounts, coalesce(step.effective_at, moment), moment);
        RETURN NEXT;
    END LOOP;
END $$;

-- Lock all wallets of several steps, in order, and take in one statement the debits about which there is nothing to
-- decide: of each wallet those in spend order before its first that is of another kind or of more than is free. Answers
-- the balances after them, by the step's place; all others ledger_debit() takes one by one.
CREATE FUNCTION ledger_debit_plain(steps jsonb) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    customers uuid[];
    keys text[];
    amounts bigint[];
    moment timestamptz;
    places bigint[];
    lines billing_ledgerentry[];
    balances bigint[];
BEGIN
    SELECT array_agg(s.customer_id), array_agg(s.key) INTO customers, keys
      FROM jsonb_to_recordset(steps) AS s (customer_id uuid, key text);
    PERFORM ledger_lock(customers);
    IF cardinality(keys) > (SELECT count(DISTINCT n.key) FROM unnest(keys) AS n (key)) THEN
        RETURN NULL;
    END IF;
    moment := ledger_clock();
    SELECT array_agg(CASE WHEN s.lot_id IS NOT NULL OR s.lot_kind IS NOT NULL OR s.partial
                               -- a look-up for each: as a join it could become a reading of all entries
                               OR (SELECT e.id FROM billing_ledgerentry e WHERE e.key = s.key) IS NOT NULL THEN 0
                          ELSE s.amount END ORDER BY s.place)
      INTO amounts
      FROM ROWS FROM (jsonb_to_recordset(steps) AS (
           amount bigint, lot_id bigint, lot_kind text, partial boolean, key text))
           WITH ORDINALITY AS s (amount, lot_id, lot_kind, partial, key, place);
    WITH share AS (
        SELECT * FROM ledger_shares(customers, amounts, moment)
    ), lots AS (
        UPDATE billing_creditlot l
           SET remaining_micro_rub = l.remaining_micro_rub - t.amount, is_spent = l.remaining_micro_rub = t.amount
          FROM (SELECT u.lot_id, sum(u.amount)::bigint AS amount
                  FROM share a, unnest(a.lot_ids, a.lot_amounts) AS u (lot_id, amount) GROUP BY u.lot_id) t
         WHERE l.id = t.lot_id AND l.customer_id = ANY (customers) AND NOT l.is_spent
    )
    SELECT array_agg(a.place ORDER BY a.place), array_agg(ROW (
               s.entry_id, customers[a.place], NULL, s.type, 'wallet', s.credit_account, amounts[a.place], NULL, s.key,
               s.source_type, s.source_id, NULL, a.lot_ids, a.lot_amounts, coalesce(s.effective_at, moment), moment,
               NULL)::billing_ledgerentry ORDER BY a.place)
      INTO places, lines
      FROM share a
      JOIN ROWS FROM (jsonb_to_recordset(steps) AS (
           entry_id uuid, type text, credit_account text, key text, source_type text, source_id text,
           effective_at timestamptz)) WITH ORDINALITY
           AS s (entry_id, type, credit_account, key, source_type, source_id, effective_at, place) USING (place);
    IF lines IS NULL THEN
        RETURN NULL;
    END IF;
    balances := ledger_post_all(lines);
    RETURN (SELECT array_agg(b.balance ORDER BY n.place)
              FROM unnest(amounts) WITH ORDINALITY AS n (amount, place)
              LEFT JOIN unnest(places, balances) AS b (place, balance) ON b.place = n.place);
END $$;

-- A charge for an answer is taken back, whole and once: the lots get what they gave. What comes back to a lot
-- whose time is over goes to the breakage with the next sweep, as it would have gone unspent.
-- Step: {entry_id, customer_id, reversed_id}. Outcomes: done, replayed, unknown (no such charge of this customer).
CREATE FUNCTION ledger_reverse(steps jsonb)
RETURNS TABLE (entry_id uuid, reversed_id uuid, outcome text, returned bigint, balance_after bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    ordered jsonb := ledger_ordered(steps);
    step record;
    charge billing_ledgerentry%ROWTYPE;
    known billing_ledgerentry%ROWTYPE;
    moment timestamptz;
BEGIN
    FOR step IN
        SELECT * FROM jsonb_to_recordset(ordered) AS s (entry_id uuid, customer_id uuid, reversed_id uuid)
    LOOP
        entry_id := NULL;
        reversed_id := step.reversed_id;
        returned := 0;
        SELECT w.balance_micro_rub INTO balance_after
          FROM billing_wallet w WHERE w.customer_id = step.customer_id FOR NO KEY UPDATE;
        SELECT * INTO charge FROM billing_ledgerentry e
         WHERE e.id = step.reversed_id AND e.customer_id = step.customer_id AND e.type = 'usage_debit';
        IF NOT FOUND THEN
            outcome := 'unknown';
            RETURN NEXT;
            CONTINUE;
        END IF;
        SELECT * INTO known FROM billing_ledgerentry e WHERE e.key = 'reversal:' || step.reversed_id;
        IF FOUND THEN
            entry_id := known.id;
            outcome := 'replayed';
            returned := known.amount_micro_rub;
            balance_after := known.balance_after_micro_rub;
            RETURN NEXT;
            CONTINUE;
        END IF;
        moment := ledger_clock();
        FOR i IN 1 .. cardinality(charge.lot_ids) LOOP
            UPDATE billing_creditlot l
               SET remaining_micro_rub = l.remaining_micro_rub + charge.lot_amounts[i],
                   is_spent = l.remaining_micro_rub + charge.lot_amounts[i] = 0
             WHERE l.id = charge.lot_ids[i];
        END LOOP;
        entry_id := step.entry_id;
        outcome := 'done';
        returned := charge.amount_micro_rub;
        balance_after := ledger_post(
            step.customer_id, step.entry_id, 'reversal', charge.credit_account, 'wallet', returned,
            'reversal:' || step.reversed_id, 'entry', step.reversed_id::text, charge.lot_ids, charge.lot_amounts,
            moment, moment);
        RETURN NEXT;
    END LOOP;
END $$;

-- The next line of a wallet that the caller has locked; answers the balance after it.
CREATE FUNCTION ledger_post(
    customer uuid, entry uuid, type text, debit text, credit text, amount bigint, key text,
    source_type text, source_id text, lots bigint[], lot_shares bigint[], happened timestamptz, moment timestamptz
) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    change bigint := CASE WHEN credit = 'wallet' THEN amount ELSE -amount END;
    wallet record;
BEGIN
    UPDATE billing_wallet w
       SET balance_micro_rub = w.balance_micro_rub + change, seq = w.seq + 1,
           head_hash = ledger_hash(w.head_hash, customer, w.seq + 1, entry, debit, credit, amount,
                                   w.balance_micro_rub + change, key)
     WHERE w.customer_id = customer
    RETURNING w.balance_micro_rub AS balance, w.seq, w.head_hash INTO wallet;
    INSERT INTO billing_ledgerentry (id, customer_id, seq, type, debit_account, credit_account,
                amount_micro_rub, balance_after_micro_rub, key, source_type, source_id, lot_ids, lot_amounts,
                effective_at, created_at, hash)
    VALUES (entry, customer, wallet.seq, type, debit, credit, amount, wallet.balance, key, source_type,
            source_id, lots, lot_shares, happened, moment, wallet.head_hash);
    RETURN wallet.balance;
END $$;

-- The next lines of wallets that the caller has locked, a wallet's lines as they come: their numbers, balances and
-- hashes are given here; answers the balances.
CREATE FUNCTION ledger_post_all(lines billing_ledgerentry[]) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    customers uuid[] := ARRAY (SELECT n.customer_id FROM unnest(lines) n);
    balances bigint[];
    numbers bigint[];
    hashes bytea[];
BEGIN
    WITH line AS (
        SELECT n.*, w.head_hash, w.seq + row_number() OVER wallet AS number, w.balance_micro_rub + (sum(
                   CASE WHEN n.credit_account = 'wallet' THEN n.amount_micro_rub ELSE -n.amount_micro_rub END
               ) OVER wallet)::bigint AS balance
          FROM unnest(lines) WITH ORDINALITY AS n (
               id, customer_id, seq, type, debit_account, credit_account, amount_micro_rub,
               balance_after_micro_rub, key, source_type, source_id, hold_id, lot_ids, lot_amounts, effective_at,
               created_at, hash, place)
          JOIN billing_wallet w ON w.customer_id = n.customer_id
         WHERE w.customer_id = ANY (customers)
        WINDOW wallet AS (PARTITION BY n.customer_id ORDER BY n.place)
    ), chained AS (
        SELECT l.*, ledger_chain(l.head_hash, ledger_line(
                   l.customer_id, l.number, l.id, l.debit_account, l.credit_account, l.amount_micro_rub,
                   l.balance, l.key
               )) OVER (PARTITION BY l.customer_id ORDER BY l.place) AS next_hash
          FROM line l
    ), posted AS (
        INSERT INTO billing_ledgerentry (id, customer_id, seq, type, debit_account, credit_account,
                    amount_micro_rub, balance_after_micro_rub, key, source_type, source_id, hold_id,
                    lot_ids, lot_amounts, effective_at, created_at, hash)
        SELECT c.id, c.customer_id, c.number, c.type, c.debit_account, c.credit_account, c.amount_micro_rub, c.balance,
               c.key, c.source_type, c.source_id, c.hold_id, c.lot_ids, c.lot_amounts, c.effective_at, c.created_at,
               c.next_hash
          FROM chained c
    )
    SELECT array_agg(c.balance ORDER BY c.place), array_agg(c.number ORDER BY c.place),
           array_agg(c.next_hash ORDER BY c.place)
      INTO balances, numbers, hashes FROM chained c;
    -- From arrays, whose length the planner takes to be ten: for the single row that it expects of a statement as the one
    -- above it would look each wallet up by its id and by all of `customers`, which are sorted anew each time.
    UPDATE billing_wallet w SET balance_micro_rub = n.balance, seq = n.number, head_hash = n.hash
      FROM (SELECT DISTINCT ON (l.customer_id) l.*
              FROM unnest(customers, balances, numbers, hashes) AS l (customer_id, balance, number, hash)
             ORDER BY l.customer_id, l.number DESC) n
     WHERE w.customer_id = n.customer_id AND w.customer_id = ANY (customers);
    RETURN balances;
END $$;

-- Money moves between system accounts, past every wallet: a provider's fee, a payout. Step: {entry_id, amount, type,
-- debit_account, credit_account, key, source_type, source_id, effective_at}. Outcomes: done, replayed, mismatch.
CREATE FUNCTION ledger_book(steps jsonb)
RETURNS TABLE (entry_id uuid, outcome text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    step record;
    known billing_ledgerentry%ROWTYPE;
    moment timestamptz := ledger_clock();
BEGIN
    FOR step IN
        SELECT * FROM jsonb_to_recordset(steps) AS s (
               entry_id uuid, amount bigint, type text, debit_account text, credit_account text, key text,
               source_type text, source_id text, effective_at timestamptz)
         ORDER BY s.key  -- two calls with the same keys wait in one direction
    LOOP
        IF 'wallet' IN (step.debit_account, step.credit_account) THEN
            RAISE EXCEPTION 'a wallet moves by its own functions' USING ERRCODE = 'restrict_violation';
        END IF;
        entry_id := step.entry_id;
        outcome := 'done';
        INSERT INTO billing_ledgerentry (id, type, debit_account, credit_account, amount_micro_rub, key,
                    source_type, source_id, lot_ids, lot_amounts, effective_at, created_at)
        VALUES (step.entry_id, step.type, step.debit_account, step.credit_account, step.amount, step.key,
                step.source_type, step.source_id, '{}', '{}', coalesce(step.effective_at, moment), moment)
        ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN
            SELECT * INTO known FROM billing_ledgerentry e WHERE e.key = step.key;
            entry_id := known.id;
            outcome := CASE WHEN known.type = step.type AND known.debit_account = step.debit_account
                             AND known.credit_account = step.credit_account AND known.source_id = step.source_id
                             AND known.amount_micro_rub = step.amount
                            THEN 'replayed' ELSE 'mismatch' END;
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;
