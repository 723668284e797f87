-- The ledger's functions: the only statements that write wallets, lots, holds and entries.
--
-- Every function takes an array of steps (jsonb) and answers each step by itself; a single call is an array
-- of one. Wallets are locked in ascending order before anything of them is read; a wallet's steps are applied as
-- they came. One step's refusal never harms its neighbours, and one row lock and one commit serve the whole array,
-- which is what makes a busy wallet and a busy server cheap. Holds and charges about which there is nothing to decide
-- are written for all steps at once (`*_plain`), half the work of one after the other; a single step and whatever
-- ends in another way goes the way of single statements, which for one step are cheaper than the large one.
--
-- Every look-up here has its index, so reading a whole table is never right (`enable_seqscan`), and the one plan
-- that is made fits every call (`plan_cache_mode`): a plan made while a table was empty is kept by its
-- connection, and reading all rows for one cost ten times the time.
--
-- The functions that the application calls run as their owner (SECURITY DEFINER): its role cannot write these tables in
-- any other way. Their parts run as whoever calls them, so that called by themselves they are refused by the tables.
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
CREATE FUNCTION ledger_line(
    customer uuid, seq bigint, entry uuid, debit text, credit text, amount bigint, balance_after bigint, key text
) RETURNS bytea LANGUAGE sql STABLE AS $$  -- in SQL, and STABLE as convert_to() is, it is inlined where it is called
    -- Not concat_ws(), which leaves out what is NULL: the field behind it could then pass for it.
    SELECT convert_to(
        format('1|%s|%s|%s|%s|%s|%s|%s|%s', customer, seq, entry, debit, credit, amount, balance_after, key), 'UTF8')
$$;

CREATE FUNCTION ledger_hash(
    before bytea, customer uuid, seq bigint, entry uuid, debit text, credit text,
    amount bigint, balance_after bigint, key text
) RETURNS bytea LANGUAGE sql STABLE AS $$
    SELECT sha256(before || ledger_line(customer, seq, entry, debit, credit, amount, balance_after, key))
$$;

-- The hash of each of a wallet's new entries, as a window over them: `before` is the wallet's head.
CREATE FUNCTION ledger_link(hash bytea, before bytea, line bytea) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN sha256(coalesce(hash, before) || line);
END $$;
CREATE AGGREGATE ledger_chain(before bytea, line bytea) (SFUNC = ledger_link, STYPE = bytea);

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

-- Reserve money. Step: {id, customer_id, amount, ttl_seconds, soft, limits}. `id` makes a repeat harmless; `soft`
-- takes what is there instead of refusing; `limits` (optional) are those of ledger_count(). Outcomes: held, replayed,
-- mismatch, insufficient_balance, reserved_in_flight (the money is there, but open holds reserve it),
-- limit_exceeded (`limit_place`: the first such limit, counted from 0).
CREATE FUNCTION ledger_hold(steps jsonb)
RETURNS TABLE (hold_id uuid, outcome text, held bigint, spendable bigint, limit_place int)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    plain boolean[];
    together timestamptz;  -- the moment of all steps of a batch
    step jsonb;
    customer uuid;
    amount bigint;
    moment timestamptz;
    lot bigint;
    free bigint;
    ids bigint[];
    amounts bigint[];
    total bigint;
    counted record;
BEGIN
    IF jsonb_array_length(steps) > 1 THEN
        SELECT p.done, p.moment INTO plain, together FROM ledger_hold_plain(steps) p;
        IF true = ALL (plain) THEN
            RETURN QUERY SELECT s.id, 'held', s.amount, NULL::bigint, NULL::int
                           FROM jsonb_to_recordset(steps) AS s (id uuid, amount bigint);
            RETURN;
        END IF;
    END IF;
    FOR place IN 0 .. jsonb_array_length(steps) - 1 LOOP
        step := steps -> place;
        hold_id := step ->> 'id';
        amount := step ->> 'amount';
        IF plain[place + 1] THEN
            outcome := 'held';
            held := amount;
            RETURN NEXT;
            CONTINUE;
        END IF;
        customer := step ->> 'customer_id';
        PERFORM 1 FROM billing_wallet w WHERE w.customer_id = customer FOR NO KEY UPDATE;
        -- One moment for all steps: counters of a window that begins meanwhile would be locked out of their order.
        moment := coalesce(together, ledger_clock());
        SELECT l.id, l.remaining_micro_rub - l.reserved_micro_rub INTO lot, free
          FROM billing_creditlot l
         WHERE l.customer_id = customer AND NOT l.is_spent
           AND l.remaining_micro_rub > l.reserved_micro_rub
           AND (l.expires_at IS NULL OR l.expires_at > moment)
         ORDER BY l.spend_class, l.expires_at NULLS LAST, l.id LIMIT 1;
        IF free >= amount AND amount > 0 THEN  -- most holds
            ids := ARRAY [lot];
            amounts := ARRAY [amount];
            held := amount;
        ELSE
            held := amount;
            IF (step ->> 'soft')::boolean THEN
                held := least(amount, ledger_spendable(customer, moment));
            END IF;
            SELECT s.lot_ids, s.lot_amounts INTO ids, amounts
              FROM ledger_shares(ARRAY [customer], ARRAY [held], moment) s;
            IF held = 0 THEN
                ids := '{}';
                amounts := '{}';
            END IF;
        END IF;
        IF ids IS NOT NULL THEN
            INSERT INTO billing_hold (id, customer_id, amount_micro_rub, captured_micro_rub, status, lot_ids,
                                      lot_amounts, counter_ids, expires_at, created_at)
            VALUES (hold_id, customer, held, 0, 'open', ids, amounts, '{}',
                    moment + make_interval(secs => (step ->> 'ttl_seconds')::int), moment)
            ON CONFLICT DO NOTHING;
            IF FOUND THEN
                IF step ? 'limits' THEN
                    counted := ledger_count(step -> 'limits', held, moment);
                    limit_place := counted.over;
                    IF limit_place IS NOT NULL THEN
                        DELETE FROM billing_hold h WHERE h.id = hold_id;
                        held := 0;
                        outcome := 'limit_exceeded';
                        RETURN NEXT;
                        limit_place := NULL;
                        CONTINUE;
                    END IF;
                    UPDATE billing_hold h SET counter_ids = counted.counter_ids WHERE h.id = hold_id;
                END IF;
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
                                             AND (h.amount_micro_rub = amount OR (step ->> 'soft')::boolean)
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
        spendable := NULL;
    END LOOP;
END $$;

-- Lock all wallets of several steps, in order, and make in one statement the holds about which there is nothing to
-- decide: of each wallet those before its first that is soft, limited, of nothing or of more than is free. Answers
-- which steps are done, by their place; all others ledger_hold() takes one by one.
CREATE FUNCTION ledger_hold_plain(steps jsonb, OUT done boolean[], OUT moment timestamptz)
LANGUAGE plpgsql AS $$
DECLARE
    ids uuid[];
    customers uuid[];
    amounts bigint[];
BEGIN
    SELECT array_agg(s.id), array_agg(s.customer_id),
           array_agg(CASE WHEN s.soft OR s.limits IS NOT NULL THEN 0 ELSE s.amount END)
      INTO ids, customers, amounts
      FROM jsonb_to_recordset(steps) AS s (id uuid, customer_id uuid, amount bigint, soft boolean, limits jsonb);
    PERFORM ledger_lock(customers);
    moment := ledger_clock();
    IF jsonb_path_exists(steps, '$[*].limits[0]') THEN
        PERFORM ledger_lock_counters(steps, moment);
    END IF;
    -- A hold that is there already takes no lots, so those behind it may not be laid out as if it did.
    IF cardinality(ids) > (SELECT count(DISTINCT n.id) FROM unnest(ids) AS n (id))
       OR EXISTS (SELECT FROM billing_hold h WHERE h.id = ANY (ids)) THEN
        RETURN;
    END IF;
    WITH step AS (
        SELECT * FROM ROWS FROM (jsonb_to_recordset(steps) AS (id uuid, ttl_seconds int)) WITH ORDINALITY
               AS s (id, ttl_seconds, place)
    ), made AS (
        INSERT INTO billing_hold AS h (id, customer_id, amount_micro_rub, captured_micro_rub, status, lot_ids,
                                       lot_amounts, counter_ids, expires_at, created_at)
        SELECT s.id, customers[s.place], amounts[s.place], 0, 'open', a.lot_ids, a.lot_amounts, '{}',
               moment + make_interval(secs => s.ttl_seconds), moment
          FROM ledger_shares(customers, amounts, moment) a JOIN step s ON s.place = a.place
        ON CONFLICT DO NOTHING RETURNING h.id, h.lot_ids, h.lot_amounts
    ), reserved AS (
        UPDATE billing_creditlot l SET reserved_micro_rub = l.reserved_micro_rub + t.amount
          FROM (SELECT u.lot_id, sum(u.amount)::bigint AS amount
                  FROM made m, unnest(m.lot_ids, m.lot_amounts) AS u (lot_id, amount) GROUP BY u.lot_id) t
         WHERE l.id = t.lot_id AND l.customer_id = ANY (customers) AND NOT l.is_spent
    )
    SELECT array_agg(m.id IS NOT NULL ORDER BY s.place) INTO done FROM step s LEFT JOIN made m ON m.id = s.id;
END $$;

-- Which lots several steps take how much from, in spend order: a wallet's steps and its lots are laid side by side,
-- each from where the one before it ended. Of each wallet, which is locked, its steps up to the first of nothing or for
-- which too little is free. One statement without settings of its own: it is inlined.
CREATE FUNCTION ledger_shares(customers uuid[], amounts bigint[], moment timestamptz)
RETURNS TABLE (place bigint, lot_ids bigint[], lot_amounts bigint[])
LANGUAGE sql STABLE AS $$
    SELECT s.place, array_agg(l.id ORDER BY l.upto),
           array_agg((least(s.upto, l.upto) - greatest(s.upto - s.amount, l.upto - l.free))::bigint ORDER BY l.upto)
      FROM (SELECT n.customer_id, n.amount, n.place, min(n.amount) OVER wallet AS least, sum(n.amount) OVER wallet AS upto
              FROM unnest(customers, amounts) WITH ORDINALITY AS n (customer_id, amount, place)
            WINDOW wallet AS (PARTITION BY n.customer_id ORDER BY n.place)) s
      JOIN (SELECT l.id, l.customer_id, l.remaining_micro_rub - l.reserved_micro_rub AS free,
                   sum(l.remaining_micro_rub - l.reserved_micro_rub) OVER (
                       PARTITION BY l.customer_id ORDER BY l.spend_class, l.expires_at NULLS LAST, l.id) AS upto
              FROM billing_creditlot l
             WHERE l.customer_id = ANY (customers) AND NOT l.is_spent
               AND l.remaining_micro_rub > l.reserved_micro_rub
               AND (l.expires_at IS NULL OR l.expires_at > moment)) l
        ON l.customer_id = s.customer_id AND l.upto - l.free < s.upto AND l.upto > s.upto - s.amount
     WHERE s.least > 0
     GROUP BY s.place, s.upto HAVING max(l.upto) >= s.upto
$$;

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
    plain bigint[];
    step jsonb;
    customer uuid;
    amount bigint;
    wallet record;
    hold record;
    moment timestamptz;
    moments timestamptz[];  -- of the steps that were taken one by one and have usage rows, by their place
BEGIN
    IF jsonb_array_length(steps) > 1 THEN
        plain := ledger_settle_plain(steps);
        IF array_position(plain, NULL) IS NULL AND plain IS NOT NULL THEN
            RETURN QUERY SELECT s.hold_id, CASE WHEN s.amount > 0 THEN s.entry_id END, 'done', s.amount, s.held - s.amount
                           FROM ROWS FROM (jsonb_to_recordset(steps) AS (hold_id uuid, amount bigint, entry_id uuid),
                                           unnest(plain)) AS s (hold_id, amount, entry_id, held);
            RETURN;
        END IF;
    END IF;
    FOR place IN 0 .. jsonb_array_length(steps) - 1 LOOP
        step := steps -> place;
        settled_hold_id := step ->> 'hold_id';
        amount := step ->> 'amount';
        outcome := 'done';
        IF plain[place + 1] IS NOT NULL THEN  -- its usage rows are written
            entry_id := CASE WHEN amount > 0 THEN (step ->> 'entry_id')::uuid END;
            charged := amount;
            released := plain[place + 1] - amount;
            RETURN NEXT;
            CONTINUE;
        END IF;
        IF settled_hold_id IS NULL THEN
            entry_id := NULL;
            charged := 0;
            released := 0;
            moment := ledger_clock();
        ELSE
            customer := step ->> 'customer_id';
            PERFORM 1 FROM billing_wallet w WHERE w.customer_id = customer FOR NO KEY UPDATE;
            moment := ledger_clock();
            UPDATE billing_hold h
               SET status = CASE WHEN amount > 0 THEN 'captured' ELSE 'released' END,
                   captured_micro_rub = amount, resolved_at = moment
             WHERE h.id = settled_hold_id AND h.customer_id = customer AND h.status = 'open'
               AND h.amount_micro_rub >= amount AND (h.expires_at > moment OR amount = 0)
            RETURNING h.lot_ids, h.lot_amounts, ARRAY [amount] AS used, h.counter_ids, h.amount_micro_rub AS amount
                 INTO hold;
            IF NOT FOUND THEN
                entry_id := NULL;
                charged := 0;
                released := 0;
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

            IF cardinality(hold.lot_ids) > 1 THEN
                hold.used := ledger_used(amount, hold.lot_amounts);
            END IF;
            FOR i IN 1 .. cardinality(hold.lot_ids) LOOP
                UPDATE billing_creditlot l
                   SET reserved_micro_rub = l.reserved_micro_rub - hold.lot_amounts[i],
                       remaining_micro_rub = l.remaining_micro_rub - hold.used[i],
                       is_spent = l.remaining_micro_rub = hold.used[i]
                 WHERE l.id = hold.lot_ids[i];
            END LOOP;
            entry_id := CASE WHEN amount > 0 THEN (step ->> 'entry_id')::uuid END;
            IF amount > 0 THEN
                UPDATE billing_wallet w
                   SET balance_micro_rub = w.balance_micro_rub - amount, seq = w.seq + 1,
                       head_hash = ledger_hash(w.head_hash, customer, w.seq + 1, entry_id, 'wallet', 'revenue', amount,
                                               w.balance_micro_rub - amount, step ->> 'key')
                 WHERE w.customer_id = customer
                RETURNING w.balance_micro_rub AS balance, w.seq, w.head_hash INTO wallet;
                INSERT INTO billing_ledgerentry (id, customer_id, seq, type, debit_account, credit_account,
                            amount_micro_rub, balance_after_micro_rub, key, source_type, source_id, hold_id,
                            lot_ids, lot_amounts, effective_at, created_at, hash)
                VALUES (entry_id, customer, wallet.seq, 'usage_debit', 'wallet', 'revenue', amount,
                        wallet.balance, step ->> 'key', step ->> 'source_type', step ->> 'source_id',
                        settled_hold_id, hold.lot_ids, hold.used, moment, moment, wallet.head_hash);
            END IF;
            IF cardinality(hold.counter_ids) > 0 THEN
                PERFORM ledger_uncount(ARRAY [settled_hold_id]);
            END IF;
            charged := amount;
            released := hold.amount - amount;
        END IF;
        IF step #> '{usage,0}' IS NOT NULL THEN
            moments[place + 1] := moment;
        END IF;
        RETURN NEXT;
    END LOOP;
    IF moments IS NOT NULL THEN
        PERFORM ledger_use(steps, moments);
    END IF;
END $$;

-- Write the usage rows of those settle steps that have a moment, at that moment.
CREATE FUNCTION ledger_use(steps jsonb, moments timestamptz[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO billing_usageevent (id, customer_id, run_id, model, provider, kind, input_tokens,
                output_tokens, cached_input_tokens, cache_write_tokens, reasoning_tokens, images,
                cost_micro_rub, charged_micro_rub, price_version_id, fx_rate_id, ledger_entry_id,
                api_key_id, estimated, created_at)
    SELECT u.id, s.customer_id, u.run_id, u.model, u.provider, u.kind, u.input_tokens, u.output_tokens,
           u.cached_input_tokens, u.cache_write_tokens, u.reasoning_tokens, u.images,
           u.cost_micro_rub, u.charged_micro_rub, u.price_version_id, u.fx_rate_id,
           CASE WHEN s.hold_id IS NOT NULL AND s.amount > 0 THEN s.entry_id END, u.api_key_id, u.estimated,
           moments[s.place]
      FROM ROWS FROM (jsonb_to_recordset(steps) AS (
           customer_id uuid, hold_id uuid, amount bigint, entry_id uuid, usage jsonb)) WITH ORDINALITY
           AS s (customer_id, hold_id, amount, entry_id, usage, place),
           jsonb_to_recordset(s.usage) AS u (
           id uuid, run_id uuid, model text, provider text, kind text, input_tokens bigint,
           output_tokens bigint, cached_input_tokens bigint, cache_write_tokens bigint,
           reasoning_tokens bigint, images int, cost_micro_rub bigint, charged_micro_rub bigint,
           price_version_id bigint, fx_rate_id bigint, api_key_id uuid, estimated boolean)
     WHERE moments[s.place] IS NOT NULL;
END $$;

-- Lock all wallets of several steps, in order, and resolve in one statement the holds that are open for what is asked.
-- Answers what each of them held, by the step's place; all others ledger_settle() takes one by one, to
-- say what became of them.
CREATE FUNCTION ledger_settle_plain(steps jsonb) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    customers uuid[];
    hold_ids uuid[];
    has_twins boolean;
    moment timestamptz;
    resolved bigint[];
    moments timestamptz[];
    counted uuid[];
    lines billing_ledgerentry[];
BEGIN
    SELECT array_agg(s.customer_id), array_agg(s.hold_id), count(DISTINCT s.hold_id) < count(s.hold_id)
      INTO customers, hold_ids, has_twins
      FROM jsonb_to_recordset(steps) AS s (hold_id uuid, customer_id uuid);
    PERFORM ledger_lock(customers);
    IF has_twins THEN  -- they leave their counters one after the other
        PERFORM ledger_lock_counted(hold_ids);
        RETURN NULL;
    END IF;
    moment := ledger_clock();
    WITH step AS (
        SELECT * FROM ROWS FROM (jsonb_to_recordset(steps) AS (
               hold_id uuid, customer_id uuid, amount bigint, entry_id uuid, key text, source_type text,
               source_id text)) WITH ORDINALITY
               AS s (hold_id, customer_id, amount, entry_id, key, source_type, source_id, place)
    ), closed AS (
        UPDATE billing_hold h
           SET status = CASE WHEN s.amount > 0 THEN 'captured' ELSE 'released' END,
               captured_micro_rub = s.amount, resolved_at = moment
          FROM step s
         -- `= ANY` bounds the rows that are read by the steps, however the planner turns the join; so below.
         WHERE h.id = ANY (hold_ids)
           AND h.id = s.hold_id AND h.customer_id = s.customer_id AND h.status = 'open'
           AND h.amount_micro_rub >= s.amount AND (h.expires_at > moment OR s.amount = 0)
        RETURNING s.*, h.lot_ids, h.lot_amounts, h.counter_ids, h.amount_micro_rub AS held,
                  CASE cardinality(h.lot_ids) WHEN 1 THEN ARRAY [s.amount]  -- most holds
                       ELSE ledger_used(s.amount, h.lot_amounts) END AS used
    ), lots AS (
        UPDATE billing_creditlot l
           SET reserved_micro_rub = l.reserved_micro_rub - t.held,
               remaining_micro_rub = l.remaining_micro_rub - t.used,
               is_spent = l.remaining_micro_rub = t.used
          FROM (SELECT u.lot_id, sum(u.held)::bigint AS held, sum(u.used)::bigint AS used
                  FROM closed c, unnest(c.lot_ids, c.lot_amounts, c.used) AS u (lot_id, held, used)
                 GROUP BY u.lot_id) t
         WHERE l.id = t.lot_id AND l.customer_id = ANY (customers) AND NOT l.is_spent
    )
    SELECT array_agg(c.held ORDER BY s.place), array_agg(CASE WHEN c.held IS NOT NULL THEN moment END ORDER BY s.place),
           array_agg(c.hold_id) FILTER (WHERE c.counter_ids <> '{}'),
           array_agg(ROW (c.entry_id, c.customer_id, NULL, 'usage_debit', 'wallet', 'revenue', c.amount, NULL, c.key,
                          c.source_type, c.source_id, c.hold_id, c.lot_ids, c.used, moment, moment,
                          NULL)::billing_ledgerentry ORDER BY s.place) FILTER (WHERE c.amount > 0)
      INTO resolved, moments, counted, lines FROM step s LEFT JOIN closed c ON c.place = s.place;
    IF lines IS NOT NULL THEN
        PERFORM ledger_post_all(lines);
    END IF;
    IF counted IS NOT NULL THEN
        PERFORM ledger_uncount(counted);
    END IF;
    IF jsonb_path_exists(steps, '$[*].usage[0]') THEN
        PERFORM ledger_use(steps, moments);
    END IF;
    RETURN resolved;
END $$;

-- How much of a charge each lot of its hold pays, in spend order.
CREATE FUNCTION ledger_used(amount bigint, shares bigint[]) RETURNS bigint[] LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    used bigint[] := '{}';
    rest bigint := amount;
BEGIN
    FOR i IN 1 .. cardinality(shares) LOOP
        used := used || least(rest, shares[i]);
        rest := rest - used[i];
    END LOOP;
    RETURN used;
END $$;

-- What a customer may spend.
CREATE FUNCTION ledger_spendable(customer uuid, moment timestamptz DEFAULT ledger_clock()) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT coalesce(sum(l.remaining_micro_rub - l.reserved_micro_rub), 0)
              FROM billing_creditlot l
             WHERE l.customer_id = customer AND NOT l.is_spent
               AND (l.expires_at IS NULL OR l.expires_at > moment));
END $$;

CREATE FUNCTION ledger_open_wallet(customer uuid) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    INSERT INTO billing_wallet (customer_id, balance_micro_rub, seq, head_hash, created_at)
    VALUES (customer, 0, 0, '', ledger_clock()) ON CONFLICT DO NOTHING
$$;

-- Say that the work of these holds goes on: their end moves to `ttl_seconds` from now. Of a hold that is resolved, is over
-- or ends later, nothing moves. One that somebody is resolving now is let be: waiting for it could close a circle.
-- Returns how many moved.
CREATE FUNCTION ledger_renew(hold_ids uuid[], ttl_seconds int) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    moment timestamptz := ledger_clock();
    until timestamptz := moment + make_interval(secs => ttl_seconds);
    renewed int;
BEGIN
    UPDATE billing_hold h SET expires_at = until
     WHERE h.id = ANY (hold_ids)  -- bounds the rows that are read, however the planner turns the join
       AND h.id IN (SELECT a.id FROM billing_hold a
                     WHERE a.id = ANY (hold_ids) AND a.status = 'open' AND a.expires_at > moment AND a.expires_at < until
                       FOR NO KEY UPDATE SKIP LOCKED);
    GET DIAGNOSTICS renewed = ROW_COUNT;
    RETURN renewed;
END $$;

-- Give back holds whose time is over, at most `most` of them behind the first `past`; never before their time. Returns
-- how many.
CREATE FUNCTION ledger_expire_holds(most int, past int DEFAULT 0) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    due uuid[];
    counted uuid[];
    moment timestamptz := ledger_clock();
    freed int;
BEGIN
    SELECT array_agg(id) INTO due
      FROM (SELECT id FROM billing_hold WHERE resolved_at IS NULL AND expires_at <= moment
             ORDER BY expires_at, id LIMIT most OFFSET past) h;
    PERFORM 1 FROM billing_wallet w
      WHERE w.customer_id IN (SELECT h.customer_id FROM billing_hold h WHERE h.id = ANY (due))
      ORDER BY w.customer_id FOR NO KEY UPDATE;
    WITH closed AS (
        UPDATE billing_hold h SET status = 'expired', resolved_at = moment
         WHERE h.id = ANY (due) AND h.status = 'open' AND h.expires_at <= moment  -- it may have been renewed meanwhile
        RETURNING h.id, h.lot_ids, h.lot_amounts, h.counter_ids
    ), back AS (
        UPDATE billing_creditlot l SET reserved_micro_rub = l.reserved_micro_rub - s.amount
          FROM (SELECT x.lot_id, sum(x.amount)::bigint AS amount
                  FROM closed c, LATERAL unnest(c.lot_ids, c.lot_amounts) AS x (lot_id, amount)
                 GROUP BY x.lot_id) s
         WHERE l.id = s.lot_id
    )
    SELECT count(*), array_agg(c.id) FILTER (WHERE c.counter_ids <> '{}') INTO freed, counted FROM closed c;
    IF counted IS NOT NULL THEN
        PERFORM ledger_uncount(counted);
    END IF;
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
