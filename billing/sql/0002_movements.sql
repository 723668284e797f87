-- The movements beside the charge for an answer: money that comes into a wallet, that leaves it, that comes back to
-- it, and that never was in one. Rules of 0001_ledger.sql: arrays of steps, each answered by itself; wallets locked
-- in ascending order before anything of them is decided; keys make a repeat harmless.
-- A charge for an answer is found by its hold's id, not by its key, so the index by key has all entries without a hold:
-- whoever asks by key says so (`hold_id IS NULL`).
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
    lot bigint;
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
        SELECT * INTO known FROM billing_ledgerentry e WHERE e.key = step.key AND e.hold_id IS NULL;
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
            step.source_type, step.source_id, NULL, '{}', '{}', coalesce(step.effective_at, moment), moment);
        INSERT INTO billing_lot AS l (customer_id, kind, spend_class, amount_micro_rub, expires_at, source_entry_id,
                                      created_at)
        VALUES (step.customer_id, step.lot_kind, step.spend_class, step.amount, step.expires_at, step.entry_id, moment)
        RETURNING l.id INTO lot;
        PERFORM ledger_lay(step.customer_id, lot, step.amount);
        entry_id := step.entry_id;
        outcome := 'done';
        RETURN NEXT;
    END LOOP;
END $$;

CREATE TYPE ledger_debited AS (outcome text, entry_id uuid, taken bigint, balance_after bigint);

-- Money leaves a wallet. Only free money is taken, never what a running request holds: from `only_lot` alone, also
-- when its time is over (an expiry only then), or without it from the lots in spend order, of `only_kind` alone when one
-- is named. `partial` takes what is there, up to `amount`. Outcomes: done, replayed, mismatch, insufficient_balance,
-- reserved_in_flight, nothing (a partial step found no free money). Only `done` writes.
CREATE FUNCTION ledger_debit_one(
    entry uuid, customer uuid, amount bigint, type text, credit text, key text, source_type text, source_id text,
    happened timestamptz DEFAULT NULL, partial boolean DEFAULT false, only_lot bigint DEFAULT NULL,
    only_kind text DEFAULT NULL) RETURNS ledger_debited
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    lots bigint[];
    remaining bigint[];
    reserved bigint[];
    ends timestamptz[];
    kinds text[];
    balance bigint;
    known billing_ledgerentry%ROWTYPE;
    moment timestamptz;
    ids bigint[] := '{}';
    amounts bigint[] := '{}';
    missing bigint := amount;
    there bigint := 0;
    part bigint;
BEGIN
    SELECT w.balance_micro_rub, w.lot_ids, w.lot_remaining, w.lot_reserved, w.lot_ends
      INTO balance, lots, remaining, reserved, ends
      FROM billing_wallet w WHERE w.customer_id = customer FOR NO KEY UPDATE;
    SELECT * INTO known FROM billing_ledgerentry e WHERE e.key = ledger_debit_one.key AND e.hold_id IS NULL;
    IF FOUND THEN
        IF known.customer_id = customer AND known.type = ledger_debit_one.type AND known.credit_account = credit
           AND known.source_id = ledger_debit_one.source_id
           AND (known.amount_micro_rub = amount OR partial AND known.amount_micro_rub < amount) THEN
            RETURN ROW ('replayed', known.id, known.amount_micro_rub, known.balance_after_micro_rub)::ledger_debited;
        END IF;
        RETURN ROW ('mismatch', NULL, 0, balance)::ledger_debited;
    END IF;

    moment := ledger_clock();
    IF only_kind IS NOT NULL THEN
        kinds := ARRAY (SELECT l.kind FROM unnest(lots) WITH ORDINALITY AS n (id, place)
                          LEFT JOIN billing_lot l ON l.id = n.id ORDER BY n.place);
    END IF;
    IF remaining[1] - reserved[1] >= amount AND (ends[1] > moment) IS NOT FALSE AND only_lot IS NULL
       AND only_kind IS NULL THEN  -- most debits: the first lot covers it
        ids := lots[1:1];
        amounts := ARRAY [amount];
        remaining[1] := remaining[1] - amount;
        missing := 0;
    END IF;
    FOR i IN 1 .. coalesce(cardinality(lots), 0) LOOP  -- none without a wallet
        EXIT WHEN missing = 0;
        CONTINUE WHEN only_kind <> kinds[i] OR CASE
            WHEN only_lot IS NULL THEN ends[i] <= moment
            ELSE lots[i] <> only_lot OR type = 'expiry' AND (ends[i] <= moment) IS NOT TRUE END;
        there := there + remaining[i];
        part := least(missing, remaining[i] - reserved[i]);
        IF part > 0 THEN
            ids := ids || lots[i];
            amounts := amounts || part;
            remaining[i] := remaining[i] - part;
            missing := missing - part;
        END IF;
    END LOOP;
    IF missing > 0 AND NOT partial OR missing = amount THEN
        RETURN ROW (CASE WHEN partial THEN 'nothing' WHEN there >= amount THEN 'reserved_in_flight'
                         ELSE 'insufficient_balance' END, NULL, 0, balance)::ledger_debited;
    END IF;
    balance := ledger_post(customer, entry, type, 'wallet', credit, amount - missing, key, source_type, source_id, NULL,
                           ids, amounts, coalesce(happened, moment), moment, remaining, reserved);
    RETURN ROW ('done', entry, amount - missing, balance)::ledger_debited;
END $$;

-- Money leaves wallets. Step: {entry_id, customer_id, amount, type, credit_account, key, source_type, source_id,
-- effective_at, partial, lot_id, lot_kind}, as of ledger_debit_one().
CREATE FUNCTION ledger_debit(steps jsonb)
RETURNS TABLE (entry_id uuid, outcome text, taken bigint, balance_after bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    plain bigint[] := CASE WHEN jsonb_array_length(steps) > 1 THEN ledger_debit_plain(steps) END;
    step record;
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
        ELSE
            SELECT o.entry_id, o.outcome, o.taken, o.balance_after INTO entry_id, outcome, taken, balance_after
              FROM ledger_debit_one(
                   step.entry_id, step.customer_id, step.amount, step.type, step.credit_account, step.key,
                   step.source_type, step.source_id, step.effective_at, coalesce(step.partial, false), step.lot_id,
                   step.lot_kind) o;
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;

-- Lock all wallets of several steps, in order, and take in one statement the debits about which there is nothing to
-- decide: those of a wallet whose first lot covers all that is asked of it, when none of them is of another kind. Answers
-- the balances after them, by the step's place; all others ledger_debit() takes one by one.
CREATE FUNCTION ledger_debit_plain(steps jsonb) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    customers uuid[];
    locked uuid[];
    keys text[];
    moment timestamptz;
    places bigint[];
    lines billing_ledgerentry[];
    owners uuid[];
    lots bigint[];
    amounts bigint[];
    balances bigint[];
BEGIN
    SELECT array_agg(s.customer_id), array_agg(s.key) INTO customers, keys
      FROM jsonb_to_recordset(steps) AS s (customer_id uuid, key text);
    locked := ledger_lock(customers);
    IF cardinality(keys) > (SELECT count(DISTINCT n.key) FROM unnest(keys) AS n (key)) THEN
        RETURN NULL;
    END IF;
    moment := ledger_clock();
    WITH step AS (
        SELECT s.*, sum(s.amount) OVER wallet AS total,
               bool_and(coalesce(s.amount, 0) > 0 AND s.lot_id IS NULL AND s.lot_kind IS NULL AND s.partial IS NOT TRUE
                        -- a look-up for each: as a join it could become a reading of all entries
                        AND (SELECT e.id FROM billing_ledgerentry e WHERE e.key = s.key AND e.hold_id IS NULL)
                             IS NULL) OVER wallet AS is_plain
          FROM ROWS FROM (jsonb_to_recordset(steps) AS (
               entry_id uuid, customer_id uuid, amount bigint, type text, credit_account text, lot_id bigint,
               lot_kind text, partial boolean, key text, source_type text, source_id text, effective_at timestamptz))
               WITH ORDINALITY
               AS s (entry_id, customer_id, amount, type, credit_account, lot_id, lot_kind, partial, key, source_type,
                     source_id, effective_at, place)
        WINDOW wallet AS (PARTITION BY s.customer_id)
    )
    SELECT array_agg(s.place ORDER BY s.place), array_agg(ROW (
               s.entry_id, s.customer_id, NULL, s.type, 'wallet', s.credit_account, s.amount, NULL, s.key,
               s.source_type, s.source_id, NULL, ARRAY [w.lot_ids[1]], ARRAY [s.amount],
               s.effective_at, NULL, NULL)::billing_ledgerentry ORDER BY s.place),
           array_agg(s.customer_id), array_agg(w.lot_ids[1]), array_agg(s.amount)
      INTO places, lines, owners, lots, amounts
      FROM step s JOIN billing_wallet w ON w.customer_id = s.customer_id
     WHERE w.customer_id = ANY (locked) AND s.is_plain
       AND w.lot_remaining[1] - w.lot_reserved[1] >= s.total AND (w.lot_ends[1] > moment) IS NOT FALSE;
    IF lines IS NULL THEN
        RETURN NULL;
    END IF;
    balances := ledger_post_all(
        lines, owners, lots, amounts, array_fill(0::bigint, ARRAY [cardinality(owners)]), moment);
    RETURN (SELECT array_agg(b.balance ORDER BY n.place)
              FROM generate_series(1, cardinality(keys)) AS n (place)
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
        SELECT * INTO known FROM billing_ledgerentry e WHERE e.key = 'reversal:' || step.reversed_id AND e.hold_id IS NULL;
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
            CONTINUE WHEN charge.lot_amounts[i] = 0;
            UPDATE billing_wallet w
               SET lot_remaining[array_position(w.lot_ids, charge.lot_ids[i])] =
                   w.lot_remaining[array_position(w.lot_ids, charge.lot_ids[i])] + charge.lot_amounts[i]
             WHERE w.customer_id = step.customer_id AND charge.lot_ids[i] = ANY (w.lot_ids);
            IF NOT FOUND THEN
                UPDATE billing_lot l SET is_spent = false WHERE l.id = charge.lot_ids[i];
                PERFORM ledger_lay(step.customer_id, charge.lot_ids[i], charge.lot_amounts[i]);
            END IF;
        END LOOP;
        entry_id := step.entry_id;
        outcome := 'done';
        returned := charge.amount_micro_rub;
        balance_after := ledger_post(
            step.customer_id, step.entry_id, 'reversal', charge.credit_account, 'wallet', returned,
            'reversal:' || step.reversed_id, 'entry', step.reversed_id::text, NULL, charge.lot_ids, charge.lot_amounts,
            moment, moment);
        RETURN NEXT;
    END LOOP;
END $$;

-- The next line of a wallet that the caller has locked, with what then remains of its lots and is reserved of them, where
-- that changes; answers the balance after it.
CREATE FUNCTION ledger_post(
    customer uuid, entry uuid, type text, debit text, credit text, amount bigint, key text, source_type text,
    source_id text, hold uuid, lots bigint[], lot_shares bigint[], happened timestamptz, moment timestamptz,
    remaining bigint[] DEFAULT NULL, reserved bigint[] DEFAULT NULL
) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    change bigint := CASE WHEN credit = 'wallet' THEN amount ELSE -amount END;
    wallet record;
BEGIN
    UPDATE billing_wallet w
       SET balance_micro_rub = w.balance_micro_rub + change, seq = w.seq + 1,
           head_hash = ledger_hash(w.head_hash, customer, w.seq + 1, entry, debit, credit, amount,
                                   w.balance_micro_rub + change, key),
           lot_remaining = coalesce(remaining, w.lot_remaining), lot_reserved = coalesce(reserved, w.lot_reserved)
     WHERE w.customer_id = customer
    RETURNING w.balance_micro_rub AS balance, w.seq, w.head_hash INTO wallet;
    INSERT INTO billing_ledgerentry (id, customer_id, seq, type, debit_account, credit_account,
                amount_micro_rub, balance_after_micro_rub, key, source_type, source_id, hold_id, lot_ids, lot_amounts,
                effective_at, created_at, hash)
    VALUES (entry, customer, wallet.seq, type, debit, credit, amount, wallet.balance, key, source_type,
            source_id, hold, lots, lot_shares, happened, moment, wallet.head_hash);
    IF 0 = ANY (remaining) THEN
        PERFORM ledger_leave(ARRAY [customer]);
    END IF;
    RETURN wallet.balance;
END $$;

-- The next debits of wallets that the caller has locked, a wallet's lines as they come: their numbers, balances,
-- hashes and times are given here; answers the balances. Side by side, what leaves which lot of whom and what is no
-- longer reserved of it, also where there is no line.
CREATE FUNCTION ledger_post_all(
    lines billing_ledgerentry[], owners uuid[], lots bigint[], used bigint[], held bigint[], moment timestamptz
) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    customers uuid[];  -- whose the lines are
    balances bigint[];
    numbers bigint[];
    hashes bytea[];
    emptied uuid[];
BEGIN
    WITH line AS (
        SELECT n.*, w.head_hash, w.seq + row_number() OVER wallet AS number,
               w.balance_micro_rub - (sum(n.amount_micro_rub) OVER wallet)::bigint AS balance
          FROM unnest(lines) WITH ORDINALITY AS n (
               id, customer_id, seq, type, debit_account, credit_account, amount_micro_rub,
               balance_after_micro_rub, key, source_type, source_id, hold_id, lot_ids, lot_amounts, effective_at,
               created_at, hash, place)
          JOIN billing_wallet w ON w.customer_id = n.customer_id
         WHERE w.customer_id = ANY (owners)
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
               c.key, c.source_type, c.source_id, c.hold_id, c.lot_ids, c.lot_amounts,
               coalesce(c.effective_at, moment), moment, c.next_hash
          FROM chained c
    )
    SELECT array_agg(c.customer_id ORDER BY c.place), array_agg(c.balance ORDER BY c.place),
           array_agg(c.number ORDER BY c.place), array_agg(c.next_hash ORDER BY c.place)
      INTO customers, balances, numbers, hashes FROM chained c;
    WITH written AS (
        UPDATE billing_wallet w
           SET balance_micro_rub = coalesce(n.balance, w.balance_micro_rub), seq = coalesce(n.number, w.seq),
               head_hash = coalesce(n.hash, w.head_hash),
               lot_remaining = ledger_less(w.lot_ids, w.lot_remaining, t.ids, t.used),
               lot_reserved = ledger_less(w.lot_ids, w.lot_reserved, t.ids, t.held)
          FROM (SELECT m.customer_id, array_agg(m.lot) AS ids, array_agg(m.used) AS used, array_agg(m.held) AS held
                  FROM unnest(owners, lots, used, held) AS m (customer_id, lot, used, held) GROUP BY m.customer_id) t
          LEFT JOIN (SELECT DISTINCT ON (l.customer_id) l.*
                       FROM unnest(customers, balances, numbers, hashes) AS l (customer_id, balance, number, hash)
                      ORDER BY l.customer_id, l.number DESC) n ON n.customer_id = t.customer_id,
               LATERAL (SELECT n.ctid FROM billing_wallet n WHERE n.customer_id = t.customer_id LIMIT 1) AS place
         WHERE w.ctid = place.ctid
        RETURNING w.customer_id, w.lot_remaining
    )
    SELECT array_agg(w.customer_id) INTO emptied FROM written w WHERE 0 = ANY (w.lot_remaining);
    IF emptied IS NOT NULL THEN
        PERFORM ledger_leave(emptied);
    END IF;
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
            SELECT * INTO known FROM billing_ledgerentry e WHERE e.key = step.key AND e.hold_id IS NULL;
            entry_id := known.id;
            outcome := CASE WHEN known.type = step.type AND known.debit_account = step.debit_account
                             AND known.credit_account = step.credit_account AND known.source_id = step.source_id
                             AND known.amount_micro_rub = step.amount
                            THEN 'replayed' ELSE 'mismatch' END;
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;
