-- The ledger's functions: the only statements that write wallets, lots, holds and entries.
--
-- Every function takes an array of steps (jsonb) and answers each step by itself; a single call is an array
-- of one. Steps are applied wallet by wallet in ascending order, a wallet's steps as they came; the wallet is
-- locked before anything of it is read. One step's refusal never harms its neighbours, and one row lock and
-- one commit serve the whole array, which is what makes a busy wallet and a busy server cheap.
--
-- Every look-up here has its index, so reading a whole table is never right (`enable_seqscan`), and the one plan
-- that is made fits every call (`plan_cache_mode`): a plan made while a table was empty is kept by its
-- connection, and reading all rows for one cost ten times the time.
--
-- They run as their owner (SECURITY DEFINER): the application role cannot write these tables in any other way.
-- Edited in place until the first release; from then on a new version is a new file.

-- No amount of money is ever below zero; a movement moves something. A domain, because the executor compiles
-- a table's CHECK for every statement: on this path that was a quarter of the time.
CREATE DOMAIN micro_rub AS bigint CHECK (VALUE >= 0);
CREATE DOMAIN micro_rub_moved AS bigint CHECK (VALUE > 0);
ALTER TABLE billing_wallet ALTER COLUMN balance_micro_rub TYPE micro_rub;
ALTER TABLE billing_creditlot ALTER COLUMN amount_micro_rub TYPE micro_rub_moved,
                              ALTER COLUMN remaining_micro_rub TYPE micro_rub,
                              ALTER COLUMN reserved_micro_rub TYPE micro_rub;
ALTER TABLE billing_hold ALTER COLUMN amount_micro_rub TYPE micro_rub,
                         ALTER COLUMN captured_micro_rub TYPE micro_rub;
ALTER TABLE billing_ledgerentry ALTER COLUMN amount_micro_rub TYPE micro_rub_moved,
                                ALTER COLUMN balance_after_micro_rub TYPE micro_rub;

-- The ledger's clock. Read after the lock, so that time runs with the sequence; tests replace it.
CREATE FUNCTION ledger_clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT clock_timestamp()';

-- Chain of one wallet: each entry's hash covers the one before it. Canonical form 1: decimal integers,
-- lower-case ids, joined by "|", which occurs in none of them but the key, which comes last.
CREATE FUNCTION ledger_hash(
    before bytea, customer uuid, seq bigint, entry uuid, debit text, credit text,
    amount bigint, balance_after bigint, key text
) RETURNS bytea LANGUAGE sql STABLE AS $$  -- in SQL, and STABLE as convert_to() is, it is inlined where it is called
    SELECT sha256(before || convert_to(
        '1|' || customer::text || '|' || seq::text || '|' || entry::text || '|' || debit || '|' || credit || '|'
        || amount::text || '|' || balance_after::text || '|' || key, 'UTF8'))
$$;

-- The steps of a call in the order they are applied: wallet by wallet, a wallet's steps as they came.
CREATE FUNCTION ledger_ordered(steps jsonb) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF jsonb_array_length(steps) < 2 THEN
        RETURN steps;
    END IF;
    RETURN (SELECT jsonb_agg(s.step ORDER BY (s.step ->> 'customer_id')::uuid, s.place)
              FROM jsonb_array_elements(steps) WITH ORDINALITY AS s (step, place));
END $$;

-- Lock wallets in ascending order. Whoever needs more than one ledger call in a transaction calls this first.
CREATE FUNCTION ledger_lock(customers uuid[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    PERFORM 1 FROM billing_wallet w WHERE w.customer_id = ANY (customers) ORDER BY w.customer_id FOR NO KEY UPDATE;
END $$;

-- Reserve money. Step: {id, customer_id, amount, ttl_seconds, soft}. `id` makes a repeat harmless; `soft`
-- takes what is there instead of refusing. Outcomes: held, replayed, mismatch, insufficient_balance,
-- reserved_in_flight (the money is there, but open holds reserve it).
CREATE FUNCTION ledger_hold(steps jsonb)
RETURNS TABLE (hold_id uuid, outcome text, held bigint, spendable bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    ordered jsonb := ledger_ordered(steps);
    step jsonb;
    customer uuid;
    amount bigint;
    is_soft boolean;
    lot record;
    moment timestamptz;
    ids bigint[];
    amounts bigint[];
    missing bigint;
    share bigint;
    total bigint;
BEGIN
    FOR place IN 0 .. jsonb_array_length(ordered) - 1 LOOP
        step := ordered -> place;
        hold_id := step ->> 'id';
        customer := step ->> 'customer_id';
        amount := step ->> 'amount';
        is_soft := step ->> 'soft';
        PERFORM 1 FROM billing_wallet w WHERE w.customer_id = customer FOR NO KEY UPDATE;
        moment := ledger_clock();
        spendable := NULL;
        ids := '{}';
        amounts := '{}';
        missing := amount;
        WHILE missing > 0 LOOP
            SELECT l.id, l.remaining_micro_rub - l.reserved_micro_rub AS free INTO lot
              FROM billing_creditlot l
             WHERE l.customer_id = customer AND NOT l.is_spent
               AND l.remaining_micro_rub > l.reserved_micro_rub
               AND (l.expires_at IS NULL OR l.expires_at > moment) AND l.id <> ALL (ids)
             ORDER BY l.spend_class, l.expires_at NULLS LAST, l.id LIMIT 1;
            EXIT WHEN NOT FOUND;
            share := least(missing, lot.free);
            missing := missing - share;
            ids := ids || lot.id;
            amounts := amounts || share;
        END LOOP;

        held := amount - missing;
        IF missing = 0 OR is_soft THEN
            INSERT INTO billing_hold (id, customer_id, amount_micro_rub, captured_micro_rub, status, lot_ids,
                                      lot_amounts, expires_at, created_at)
            VALUES (hold_id, customer, held, 0, 'open', ids, amounts,
                    moment + make_interval(secs => (step ->> 'ttl_seconds')::int), moment)
            ON CONFLICT DO NOTHING;
            IF FOUND THEN
                FOR i IN 1 .. cardinality(ids) LOOP
                    UPDATE billing_creditlot l SET reserved_micro_rub = l.reserved_micro_rub + amounts[i]
                     WHERE l.id = ids[i];
                END LOOP;
                outcome := 'held';
                RETURN NEXT;
                CONTINUE;
            END IF;
        END IF;

        -- Either the hold exists already or the money is short: say which.
        SELECT h.amount_micro_rub, CASE WHEN h.customer_id = customer
                                             AND (h.amount_micro_rub = amount OR is_soft)
                                        THEN 'replayed' ELSE 'mismatch' END
          INTO held, outcome FROM billing_hold h WHERE h.id = hold_id;
        IF NOT FOUND THEN
            SELECT coalesce(sum(l.remaining_micro_rub), 0),
                   coalesce(sum(l.remaining_micro_rub - l.reserved_micro_rub), 0)
              INTO total, spendable
              FROM billing_creditlot l
             WHERE l.customer_id = customer AND NOT l.is_spent
               AND (l.expires_at IS NULL OR l.expires_at > moment);
            held := 0;
            outcome := CASE WHEN total >= amount THEN 'reserved_in_flight' ELSE 'insufficient_balance' END;
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;

-- Resolve holds: capture `amount` (0 releases), give the rest back, write the usage rows of the work.
-- Step: {hold_id, customer_id, amount, entry_id, key, source_type, source_id, usage: [usage rows]}.
-- A step without hold_id (an account that is never charged) only writes its usage rows.
-- Outcomes: done, replayed, mismatch, expired, over_hold, unknown_hold. Only `done` writes.
CREATE FUNCTION ledger_settle(steps jsonb)
RETURNS TABLE (settled_hold_id uuid, entry_id uuid, outcome text, charged bigint, released bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    ordered jsonb := ledger_ordered(steps);
    step jsonb;
    customer uuid;
    amount bigint;
    wallet record;
    hold record;
    moment timestamptz;
    used bigint[];
    rest bigint;
    has_usage boolean := jsonb_path_exists(steps, '$[*].usage[0]');
    moments timestamptz[] := '{}';  -- of the steps that are done, by their place
    entries uuid[] := '{}';
BEGIN
    FOR place IN 0 .. jsonb_array_length(ordered) - 1 LOOP
        step := ordered -> place;
        settled_hold_id := step ->> 'hold_id';
        customer := step ->> 'customer_id';
        amount := step ->> 'amount';
        entry_id := NULL;
        charged := 0;
        released := 0;
        outcome := 'done';
        moment := ledger_clock();
        IF settled_hold_id IS NOT NULL THEN
            SELECT w.balance_micro_rub - amount AS balance, w.seq + 1 AS seq, w.head_hash
              INTO wallet FROM billing_wallet w WHERE w.customer_id = customer FOR NO KEY UPDATE;
            moment := ledger_clock();
            UPDATE billing_hold h
               SET status = CASE WHEN amount > 0 THEN 'captured' ELSE 'released' END,
                   captured_micro_rub = amount, resolved_at = moment
             WHERE h.id = settled_hold_id AND h.customer_id = customer AND h.status = 'open'
               AND h.amount_micro_rub >= amount AND (h.expires_at > moment OR amount = 0)
            RETURNING h.lot_ids, h.lot_amounts, h.amount_micro_rub INTO hold;
            IF NOT FOUND THEN
                SELECT CASE WHEN h.customer_id <> customer THEN 'unknown_hold'
                            WHEN h.status = 'open' AND h.expires_at <= moment THEN 'expired'
                            WHEN h.status = 'open' THEN 'over_hold'
                            WHEN h.captured_micro_rub = amount THEN 'replayed'
                            WHEN h.status = 'expired' THEN 'expired'
                            ELSE 'mismatch' END
                  INTO outcome FROM billing_hold h WHERE h.id = settled_hold_id;
                IF NOT FOUND THEN
                    outcome := 'unknown_hold';
                ELSIF outcome = 'replayed' THEN
                    charged := amount;
                    SELECT e.id INTO entry_id FROM billing_ledgerentry e WHERE e.key = step ->> 'key';
                END IF;
                RETURN NEXT;
                CONTINUE;
            END IF;

            used := '{}';
            rest := amount;
            FOR i IN 1 .. cardinality(hold.lot_ids) LOOP
                used := used || least(rest, hold.lot_amounts[i]);
                rest := rest - used[i];
                UPDATE billing_creditlot l
                   SET reserved_micro_rub = l.reserved_micro_rub - hold.lot_amounts[i],
                       remaining_micro_rub = l.remaining_micro_rub - used[i],
                       is_spent = l.remaining_micro_rub = used[i]
                 WHERE l.id = hold.lot_ids[i];
            END LOOP;
            IF amount > 0 THEN
                entry_id := step ->> 'entry_id';
                wallet.head_hash := ledger_hash(wallet.head_hash, customer, wallet.seq, entry_id,
                                                'wallet', 'revenue', amount, wallet.balance, step ->> 'key');
                UPDATE billing_wallet w
                   SET balance_micro_rub = wallet.balance, seq = wallet.seq, head_hash = wallet.head_hash
                 WHERE w.customer_id = customer;
                INSERT INTO billing_ledgerentry (id, customer_id, seq, type, debit_account, credit_account,
                            amount_micro_rub, balance_after_micro_rub, key, source_type, source_id, hold_id,
                            lot_ids, lot_amounts, effective_at, created_at, hash)
                VALUES (entry_id, customer, wallet.seq, 'usage_debit', 'wallet', 'revenue', amount,
                        wallet.balance, step ->> 'key', step ->> 'source_type', step ->> 'source_id',
                        settled_hold_id, hold.lot_ids, used, moment, moment, wallet.head_hash);
            END IF;
            charged := amount;
            released := hold.amount_micro_rub - amount;
        END IF;
        IF has_usage THEN
            moments[place] := moment;
            entries[place] := entry_id;
        END IF;
        RETURN NEXT;
    END LOOP;
    IF has_usage THEN
        INSERT INTO billing_usageevent (id, customer_id, run_id, model, provider, kind, input_tokens,
                    output_tokens, cached_input_tokens, cache_write_tokens, reasoning_tokens, images,
                    cost_micro_rub, charged_micro_rub, price_version_id, fx_rate_id, ledger_entry_id,
                    api_key_id, estimated, created_at)
        SELECT u.id, s.customer_id, u.run_id, u.model, u.provider, u.kind, u.input_tokens, u.output_tokens,
               u.cached_input_tokens, u.cache_write_tokens, u.reasoning_tokens, u.images,
               u.cost_micro_rub, u.charged_micro_rub, u.price_version_id, u.fx_rate_id, entries[s.number - 1],
               u.api_key_id, u.estimated, moments[s.number - 1]
          FROM ROWS FROM (jsonb_to_recordset(ordered) AS (customer_id uuid, usage jsonb)) WITH ORDINALITY
               AS s (customer_id, usage, number),
               jsonb_to_recordset(s.usage) AS u (
               id uuid, run_id uuid, model text, provider text, kind text, input_tokens bigint,
               output_tokens bigint, cached_input_tokens bigint, cache_write_tokens bigint,
               reasoning_tokens bigint, images int, cost_micro_rub bigint, charged_micro_rub bigint,
               price_version_id bigint, fx_rate_id bigint, api_key_id uuid, estimated boolean)
         WHERE moments[s.number - 1] IS NOT NULL;
    END IF;
END $$;

-- What customers may spend now, in their order.
CREATE FUNCTION ledger_spendable(customers uuid[]) RETURNS bigint[] LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN ARRAY (
        SELECT (SELECT coalesce(sum(l.remaining_micro_rub - l.reserved_micro_rub), 0)::bigint
                  FROM billing_creditlot l
                 WHERE l.customer_id = c.id AND NOT l.is_spent
                   AND (l.expires_at IS NULL OR l.expires_at > ledger_clock()))
          FROM unnest(customers) WITH ORDINALITY AS c (id, place)
         ORDER BY c.place);
END $$;

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
    wallet billing_wallet%ROWTYPE;
    known billing_ledgerentry%ROWTYPE;
    moment timestamptz;
    next_hash bytea;
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
        SELECT * INTO wallet FROM billing_wallet w WHERE w.customer_id = step.customer_id FOR NO KEY UPDATE;
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
        balance_after := wallet.balance_micro_rub + step.amount;
        next_hash := ledger_hash(wallet.head_hash, step.customer_id, wallet.seq + 1, step.entry_id,
                                 step.debit_account, 'wallet', step.amount, balance_after, step.key);
        INSERT INTO billing_ledgerentry (id, customer_id, seq, type, debit_account, credit_account,
                    amount_micro_rub, balance_after_micro_rub, key, source_type, source_id, lot_ids,
                    lot_amounts, effective_at, created_at, hash)
        VALUES (step.entry_id, step.customer_id, wallet.seq + 1, step.type, step.debit_account, 'wallet',
                step.amount, balance_after, step.key, step.source_type, step.source_id, '{}', '{}',
                coalesce(step.effective_at, moment), moment, next_hash);
        INSERT INTO billing_creditlot (customer_id, kind, spend_class, amount_micro_rub, remaining_micro_rub,
                    reserved_micro_rub, is_spent, expires_at, source_entry_id, created_at)
        VALUES (step.customer_id, step.lot_kind, step.spend_class, step.amount, step.amount, 0, false,
                step.expires_at, step.entry_id, moment);
        UPDATE billing_wallet w
           SET balance_micro_rub = balance_after, seq = wallet.seq + 1, head_hash = next_hash
         WHERE w.customer_id = step.customer_id;
        entry_id := step.entry_id;
        outcome := 'done';
        RETURN NEXT;
    END LOOP;
END $$;

CREATE FUNCTION ledger_open_wallet(customer uuid) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    INSERT INTO billing_wallet (customer_id, balance_micro_rub, seq, head_hash, created_at)
    VALUES (customer, 0, 0, '', ledger_clock()) ON CONFLICT DO NOTHING
$$;

-- Give back holds whose time is over, at most `most` of them; never before their time. Returns how many.
CREATE FUNCTION ledger_expire_holds(most int) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    due uuid[];
    moment timestamptz := ledger_clock();
    freed int;
BEGIN
    SELECT array_agg(id) INTO due
      FROM (SELECT id FROM billing_hold WHERE resolved_at IS NULL AND expires_at <= moment
             ORDER BY expires_at LIMIT most) h;
    PERFORM 1 FROM billing_wallet w
      WHERE w.customer_id IN (SELECT h.customer_id FROM billing_hold h WHERE h.id = ANY (due))
      ORDER BY w.customer_id FOR NO KEY UPDATE;
    WITH closed AS (
        UPDATE billing_hold h SET status = 'expired', resolved_at = moment
         WHERE h.id = ANY (due) AND h.status = 'open' RETURNING h.lot_ids, h.lot_amounts
    ), back AS (
        UPDATE billing_creditlot l SET reserved_micro_rub = l.reserved_micro_rub - s.amount
          FROM (SELECT x.lot_id, sum(x.amount)::bigint AS amount
                  FROM closed c, LATERAL unnest(c.lot_ids, c.lot_amounts) AS x (lot_id, amount)
                 GROUP BY x.lot_id) s
         WHERE l.id = s.lot_id
    )
    SELECT count(*) INTO freed FROM closed;
    RETURN freed;
END $$;

-- Append-only, whoever asks: also the owner, also in replica mode.
CREATE FUNCTION ledger_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END $$;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['billing_ledgerentry', 'billing_usageevent', 'billing_priceversion', 'billing_fxrate']
    LOOP
        EXECUTE format('CREATE TRIGGER frozen BEFORE UPDATE OR DELETE ON %I
                        FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change()', name);
        EXECUTE format('CREATE TRIGGER not_truncated BEFORE TRUNCATE ON %I
                        FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change()', name);
        EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER frozen, ENABLE ALWAYS TRIGGER not_truncated', name);
    END LOOP;
END $$;

-- Rows that change in place keep room on their page, so that an update touches no index.
ALTER TABLE billing_wallet SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE billing_creditlot SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE billing_hold SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
