-- The ledger's functions: the only statements that write wallets, lots, holds and entries.
--
-- A function takes an array of steps (jsonb) and answers each step by itself. Wallets are locked in ascending order
-- before anything of them is decided; a wallet's steps are applied as they came. One step's refusal never harms its
-- neighbours, and one row lock and one commit serve the whole array, which is what makes a busy wallet and a busy
-- server cheap. Locks are taken in one order everywhere: holds that are to be resolved, wallets, counters of limits
-- (docs/decisions/0043-holds-before-wallets.md). Holds, charges and debits about which there is nothing to decide are
-- written for all steps at once (`*_plain`), half the work of one after the other; a single step and whatever ends in
-- another way has a function of its own (`*_one`), of single statements, which for one step are cheaper than the large one.
--
-- Every look-up here has its index, so reading a whole table is never right (`enable_seqscan`), and the one plan
-- that is made fits every call (`plan_cache_mode`): a plan made while a table was empty is kept by its
-- connection, and reading all rows for one cost ten times the time. The functions for one step have these settings from
-- whoever calls them, the function for many or the connections on which the engine opens and settles: own ones would
-- be set at every call.
--
-- The functions that the application calls run as their owner (SECURITY DEFINER): its role cannot write these tables in
-- any other way. Their parts run as whoever calls them, so that called by themselves they are refused by the tables.
-- Edited in place until the first release; from then on a new version is a new file.

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

-- Lock wallets in ascending order, and answer which there were: one that is opened meanwhile is not locked. Whoever
-- needs more than one ledger call in a transaction calls this first, and resolves no hold behind it.
CREATE FUNCTION ledger_lock(customers uuid[]) RETURNS uuid[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN ARRAY (SELECT w.customer_id FROM billing_wallet w
                   WHERE w.customer_id = ANY (customers) ORDER BY w.customer_id FOR NO KEY UPDATE);
END $$;

-- What the functions for one step answer. Named types: columns of OUT parameters are described anew at every call.
CREATE TYPE ledger_held AS (outcome text, held bigint, spendable bigint, limit_place int);
CREATE TYPE ledger_settled AS (outcome text, entry_id uuid, charged bigint, released bigint);

-- Reserve money for one hold, which is new: that its id is nobody's yet the caller knows (the run's own row is new, or
-- ledger_hold() has looked); else its row is refused. `soft` takes what is there instead of refusing; `limits` are those
-- of ledger_count(); `moment` is that of a batch, and else the one when the wallet is locked. Outcomes: held,
-- insufficient_balance, reserved_in_flight (the money is there, but open holds reserve it), limit_exceeded (`limit_place`:
-- the first such limit, counted from 0).
CREATE FUNCTION ledger_hold_one(
    hold uuid, customer uuid, amount bigint, ttl_seconds int, soft boolean DEFAULT false, limits jsonb DEFAULT NULL,
    moment timestamptz DEFAULT NULL) RETURNS ledger_held
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    lot bigint;
    begins timestamptz;
BEGIN
    -- Most holds: the first lot covers it. What reserves locks the wallet, too, and judges it as it is then.
    UPDATE billing_wallet w SET lot_reserved[1] = w.lot_reserved[1] + amount
     WHERE w.customer_id = customer
       -- Above zero: as a condition by itself it would be one more step to prepare.
       AND w.lot_remaining[1] - w.lot_reserved[1] >= CASE WHEN amount > 0 THEN amount END
       AND (w.lot_ends[1] > coalesce(moment, ledger_clock())) IS NOT FALSE  -- most have no end
    RETURNING w.lot_ids[1], coalesce(moment, ledger_clock()) INTO lot, begins;
    IF NOT FOUND THEN
        RETURN ledger_hold_lots(hold, customer, amount, ttl_seconds, soft, limits, moment);
    END IF;
    INSERT INTO billing_hold (id, customer_id, amount_micro_rub, captured_micro_rub, status, lot_ids, lot_amounts,
                              counter_ids, expires_at, created_at)
    VALUES (hold, customer, amount, 0, 'open', ARRAY [lot], ARRAY [amount], '{}',
            begins + ttl_seconds * interval '1 second', begins);
    IF limits IS NULL THEN
        RETURN ROW ('held', amount, NULL, NULL)::ledger_held;
    END IF;
    RETURN ledger_limit(hold, amount, limits, begins);
END $$;

-- What few holds need stands apart from ledger_hold_one(): what a function declares is prepared at every call. Here: to
-- reserve from several lots, or less than asked, or nothing because the money is short.
CREATE FUNCTION ledger_hold_lots(
    hold uuid, customer uuid, amount bigint, ttl_seconds int, soft boolean, limits jsonb, moment timestamptz)
RETURNS ledger_held
LANGUAGE plpgsql AS $$
DECLARE
    wallet record;
    begins timestamptz;
    held bigint := amount;
    ids bigint[] := '{}';  -- of the lots that the hold takes, and how much from each
    amounts bigint[] := '{}';
BEGIN
    SELECT w.lot_ids, w.lot_remaining, w.lot_reserved, w.lot_ends INTO wallet
      FROM billing_wallet w WHERE w.customer_id = customer FOR NO KEY UPDATE;
    begins := coalesce(moment, ledger_clock());
    IF soft THEN  -- by the row as it was locked: a wallet that is opened meanwhile is not
        held := least(amount, ledger_free(wallet.lot_remaining, wallet.lot_reserved, wallet.lot_ends, begins));
    END IF;
    IF held IS DISTINCT FROM 0 THEN
        SELECT s.lot_ids, s.lot_amounts INTO ids, amounts
          FROM ledger_shares(wallet.lot_ids, wallet.lot_remaining, wallet.lot_reserved, wallet.lot_ends, held, begins) s;
        IF ids IS NULL THEN
            RETURN ledger_short(customer, amount, begins);
        END IF;
        UPDATE billing_wallet w
           SET lot_reserved = ledger_less(w.lot_ids, w.lot_reserved, ids, ARRAY (SELECT -n FROM unnest(amounts) n))
         WHERE w.customer_id = customer;
    END IF;
    INSERT INTO billing_hold (id, customer_id, amount_micro_rub, captured_micro_rub, status, lot_ids, lot_amounts,
                              counter_ids, expires_at, created_at)
    VALUES (hold, customer, held, 0, 'open', ids, amounts, '{}', begins + ttl_seconds * interval '1 second', begins);
    IF limits IS NULL THEN
        RETURN ROW ('held', held, NULL, NULL)::ledger_held;
    END IF;
    RETURN ledger_limit(hold, held, limits, begins);
END $$;

-- The money is short: because open holds reserve it, or because it is not there.
CREATE FUNCTION ledger_short(customer uuid, amount bigint, moment timestamptz) RETURNS ledger_held
LANGUAGE plpgsql AS $$
DECLARE
    remaining bigint;
BEGIN
    SELECT coalesce(sum(l.remaining), 0) INTO remaining
      FROM billing_wallet w, unnest(w.lot_remaining::bigint[], w.lot_ends) AS l (remaining, ends)
     WHERE w.customer_id = customer AND (l.ends > moment) IS NOT FALSE;
    RETURN ROW (CASE WHEN remaining >= amount THEN 'reserved_in_flight' ELSE 'insufficient_balance' END, 0,
                ledger_spendable(customer, moment), NULL)::ledger_held;
END $$;

-- The answer to a hold that exists already; NULL when it does not.
CREATE FUNCTION ledger_known_hold(hold uuid, customer uuid, amount bigint, soft boolean) RETURNS ledger_held
LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT ROW (CASE WHEN h.customer_id = customer AND (h.amount_micro_rub = amount OR soft)
                             THEN 'replayed' ELSE 'mismatch' END, h.amount_micro_rub, NULL, NULL)::ledger_held
              FROM billing_hold h WHERE h.id = hold);
END $$;

-- Reserve money. `id` makes a repeat harmless. Step: {id, customer_id, amount, ttl_seconds, soft, limits}. Outcomes: those
-- of ledger_hold_one(), replayed and mismatch.
CREATE FUNCTION ledger_hold(steps jsonb)
RETURNS TABLE (hold_id uuid, outcome text, held bigint, spendable bigint, limit_place int)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    plain boolean[];
    -- One for all steps: counters of a window that begins meanwhile would be locked out of their order.
    moment timestamptz;
    step record;
BEGIN
    IF jsonb_array_length(steps) > 1 THEN
        SELECT p.done, p.moment INTO plain, moment FROM ledger_hold_plain(steps) p;
        IF true = ALL (plain) THEN
            RETURN QUERY SELECT s.id, 'held', s.amount, NULL::bigint, NULL::int
                           FROM jsonb_to_recordset(steps) AS s (id uuid, amount bigint);
            RETURN;
        END IF;
    ELSE
        PERFORM ledger_lock(ARRAY [(steps #>> '{0,customer_id}')::uuid]);
    END IF;
    FOR step IN
        SELECT * FROM ROWS FROM (jsonb_to_recordset(steps) AS (
               id uuid, customer_id uuid, amount bigint, ttl_seconds int, soft boolean, limits jsonb), unnest(plain))
               AS s (id, customer_id, amount, ttl_seconds, soft, limits, is_done)
    LOOP
        hold_id := step.id;
        IF step.is_done THEN
            outcome := 'held';
            held := step.amount;
            spendable := NULL;
            limit_place := NULL;
        ELSE
            SELECT o.outcome, o.held, o.spendable, o.limit_place INTO outcome, held, spendable, limit_place
              FROM coalesce(  -- behind the wallet's lock; of one that was opened meanwhile a twin fails by its key
                   ledger_known_hold(hold_id, step.customer_id, step.amount, step.soft),
                   ledger_hold_one(hold_id, step.customer_id, step.amount, step.ttl_seconds, step.soft, step.limits,
                                   moment)) o;
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;

-- Lock all wallets of several steps, in order, and make in one statement the holds about which there is nothing to
-- decide: those of a wallet whose first lot covers all that is asked of it, when none of them is soft, limited or of
-- nothing. Answers which steps are done, by their place; all others ledger_hold() takes one by one.
CREATE FUNCTION ledger_hold_plain(steps jsonb, OUT done boolean[], OUT moment timestamptz)
LANGUAGE plpgsql AS $$
DECLARE
    ids uuid[];
    customers uuid[];
    locked uuid[];
    amounts bigint[];
BEGIN
    SELECT array_agg(s.id), array_agg(s.customer_id),
           array_agg(CASE WHEN s.soft OR s.limits IS NOT NULL THEN 0 ELSE coalesce(s.amount, 0) END)
      INTO ids, customers, amounts
      FROM jsonb_to_recordset(steps) AS s (id uuid, customer_id uuid, amount bigint, soft boolean, limits jsonb);
    locked := ledger_lock(customers);
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
        SELECT s.*, sum(s.amount) OVER wallet AS total, min(s.amount) OVER wallet AS least
          FROM ROWS FROM (unnest(ids), unnest(customers), unnest(amounts),
                          jsonb_to_recordset(steps) AS (ttl_seconds int))
               WITH ORDINALITY AS s (id, customer_id, amount, ttl_seconds, place)
        WINDOW wallet AS (PARTITION BY s.customer_id)
    ), made AS (
        INSERT INTO billing_hold AS h (id, customer_id, amount_micro_rub, captured_micro_rub, status, lot_ids,
                                       lot_amounts, counter_ids, expires_at, created_at)
        SELECT s.id, s.customer_id, s.amount, 0, 'open', ARRAY [w.lot_ids[1]], ARRAY [s.amount], '{}',
               moment + s.ttl_seconds * interval '1 second', moment
          FROM step s JOIN billing_wallet w ON w.customer_id = s.customer_id
         WHERE w.customer_id = ANY (locked)
           AND s.least > 0 AND w.lot_remaining[1] - w.lot_reserved[1] >= s.total AND (w.lot_ends[1] > moment) IS NOT FALSE
        ON CONFLICT DO NOTHING RETURNING h.id, h.customer_id, h.amount_micro_rub AS amount
    ), reserved AS (
        UPDATE billing_wallet w SET lot_reserved[1] = w.lot_reserved[1] + t.amount
          FROM (SELECT m.customer_id, sum(m.amount)::bigint AS amount FROM made m GROUP BY m.customer_id) t,
               LATERAL (SELECT n.ctid FROM billing_wallet n WHERE n.customer_id = t.customer_id LIMIT 1) AS place
         WHERE w.ctid = place.ctid  -- one look-up for each, whatever the planner believes; so below
    )
    SELECT array_agg(m.id IS NOT NULL ORDER BY s.place) INTO done FROM step s LEFT JOIN made m ON m.id = s.id;
END $$;

-- Resolve one hold: capture `amount` (0 releases), give the rest back and write the usage rows of the work. Without a hold
-- (an account that is never charged) those only. The entry has the id of its hold, so that the primary key keeps a hold from
-- being charged twice (docs/decisions/0046-a-charge-is-its-holds.md).
-- Outcomes: done, replayed, mismatch, expired, over_hold, unknown_hold. Only `done` writes.
CREATE FUNCTION ledger_settle_one(
    settled uuid, customer uuid, amount bigint, source_type text, usage jsonb DEFAULT '[]')
RETURNS ledger_settled
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    key text := 'capture:' || settled;
    hold record;
    done record;
BEGIN
    UPDATE billing_hold h
       SET status = 'captured', captured_micro_rub = amount, resolved_at = ledger_clock()
     WHERE h.id = settled AND h.customer_id = customer AND h.status = 'open'
       -- Of an open hold nothing is captured: `amount > 0`, which by itself would be one more step to prepare.
       AND h.captured_micro_rub < amount
       AND h.amount_micro_rub >= amount AND h.expires_at > ledger_clock()
    RETURNING h.amount_micro_rub AS amount, h.lot_ids, h.lot_amounts, h.counter_ids INTO hold;
    -- Most holds: on the first lot alone. What ledger_post() does, without the call. Without `hold` it finds nothing.
    UPDATE billing_wallet w
       SET balance_micro_rub = w.balance_micro_rub - amount, seq = w.seq + 1,
           head_hash = ledger_hash(w.head_hash, customer, w.seq + 1, settled, 'wallet', 'revenue', amount,
                                   w.balance_micro_rub - amount, key),
           lot_remaining[1] = w.lot_remaining[1] - amount, lot_reserved[1] = w.lot_reserved[1] - hold.amount
     WHERE w.customer_id = customer AND w.lot_ids[1:1] = hold.lot_ids
    RETURNING w.balance_micro_rub AS balance, w.seq, w.head_hash, w.lot_remaining[1] AS rest,
              ledger_clock() AS moment  -- the wallet is locked by now
         INTO done;
    IF FOUND THEN
        INSERT INTO billing_ledgerentry (id, customer_id, seq, type, debit_account, credit_account,
                    amount_micro_rub, balance_after_micro_rub, key, source_type, source_id, hold_id, lot_ids,
                    lot_amounts, effective_at, created_at, hash)
        VALUES (settled, customer, done.seq, 'usage_debit', 'wallet', 'revenue', amount, done.balance,
                key, source_type, settled, settled, hold.lot_ids, ARRAY [amount], done.moment, done.moment,
                done.head_hash);
        IF done.rest = 0 THEN
            PERFORM ledger_leave(ARRAY [customer]);
        END IF;
    ELSIF hold.amount IS NULL THEN
        RETURN ledger_settle_free(settled, customer, amount, usage);
    ELSE
        SELECT ledger_settle_lots(settled, customer, amount, source_type, hold.lot_ids, hold.lot_amounts) AS moment
          INTO done;
    END IF;
    IF cardinality(hold.counter_ids) > 0 THEN
        PERFORM ledger_uncount(ARRAY [settled]);
    END IF;
    IF usage <> '[]' THEN
        PERFORM ledger_use(usage, done.moment);
    END IF;
    RETURN ROW ('done', settled, amount, hold.amount - amount)::ledger_settled;
END $$;

-- The parts of ledger_settle_one() for the few, apart as that of ledger_hold_one(). Here: of a hold on other lots than the
-- first alone. Answers the moment.
CREATE FUNCTION ledger_settle_lots(
    settled uuid, customer uuid, amount bigint, source_type text, ids bigint[], held bigint[]) RETURNS timestamptz
LANGUAGE plpgsql AS $$
DECLARE
    used bigint[] := ledger_used(amount, held);
    remaining bigint[];
    reserved bigint[];
    moment timestamptz;
BEGIN
    SELECT ledger_less(w.lot_ids, w.lot_remaining, ids, used), ledger_less(w.lot_ids, w.lot_reserved, ids, held)
      INTO remaining, reserved FROM billing_wallet w WHERE w.customer_id = customer FOR NO KEY UPDATE;
    moment := ledger_clock();
    PERFORM ledger_post(customer, settled, 'usage_debit', 'wallet', 'revenue', amount, 'capture:' || settled,
                        source_type, settled::text, settled, ids, used, moment, moment, remaining, reserved);
    RETURN moment;
END $$;

-- Nothing is charged: there is no hold, it is released, or it is not open for what was asked.
CREATE FUNCTION ledger_settle_free(settled uuid, customer uuid, amount bigint, usage jsonb)
RETURNS ledger_settled
LANGUAGE plpgsql AS $$
DECLARE
    hold record;
BEGIN
    IF settled IS NULL THEN
        PERFORM ledger_use(usage, ledger_clock());
        RETURN ROW ('done', NULL, 0, 0)::ledger_settled;
    END IF;
    UPDATE billing_hold h SET status = 'released', captured_micro_rub = amount, resolved_at = ledger_clock()
     WHERE h.id = settled AND h.customer_id = customer AND h.status = 'open' AND amount <= 0  -- less its type refuses
    RETURNING h.amount_micro_rub AS amount, h.lot_ids, h.lot_amounts, h.counter_ids INTO hold;
    IF NOT FOUND THEN
        RETURN ledger_not_settled(settled, customer, amount, ledger_clock());
    END IF;
    UPDATE billing_wallet w SET lot_reserved = ledger_less(w.lot_ids, w.lot_reserved, hold.lot_ids, hold.lot_amounts)
     WHERE w.customer_id = customer;  -- who held nothing may have none
    IF cardinality(hold.counter_ids) > 0 THEN
        PERFORM ledger_uncount(ARRAY [settled]);
    END IF;
    PERFORM ledger_use(usage, ledger_clock());
    RETURN ROW ('done', NULL, 0, hold.amount)::ledger_settled;
END $$;

-- What became of a hold that was not open for what was asked.
CREATE FUNCTION ledger_not_settled(settled uuid, customer uuid, amount bigint, moment timestamptz)
RETURNS ledger_settled LANGUAGE plpgsql AS $$
DECLARE
    outcome text;
BEGIN
    SELECT CASE WHEN h.customer_id <> customer THEN 'unknown_hold'
                WHEN h.status = 'open' AND h.expires_at <= moment THEN 'expired'
                WHEN h.status = 'open' THEN 'over_hold'
                WHEN h.captured_micro_rub = amount THEN 'replayed'
                WHEN h.status = 'expired' THEN 'expired'
                ELSE 'mismatch' END
      INTO outcome FROM billing_hold h WHERE h.id = settled;
    IF outcome = 'replayed' THEN
        RETURN ROW (outcome, CASE WHEN amount > 0 THEN settled END, amount, 0)::ledger_settled;
    END IF;
    RETURN ROW (coalesce(outcome, 'unknown_hold'), NULL, 0, 0)::ledger_settled;
END $$;

-- Resolve holds, as ledger_settle_one() does.
-- Step: {hold_id, customer_id, amount, source_type, usage}.
CREATE FUNCTION ledger_settle(steps jsonb)
RETURNS TABLE (settled_hold_id uuid, entry_id uuid, outcome text, charged bigint, released bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    plain bigint[];
    step jsonb;
    amount bigint;
BEGIN
    IF jsonb_array_length(steps) > 1 THEN
        plain := ledger_settle_plain(steps);
        IF array_position(plain, NULL) IS NULL AND plain IS NOT NULL THEN
            RETURN QUERY SELECT s.hold_id, CASE WHEN s.amount > 0 THEN s.hold_id END, 'done', s.amount, s.held - s.amount
                           FROM ROWS FROM (jsonb_to_recordset(steps) AS (hold_id uuid, amount bigint),
                                           unnest(plain)) AS s (hold_id, amount, held);
            RETURN;
        END IF;
    END IF;
    FOR place IN 0 .. jsonb_array_length(steps) - 1 LOOP
        step := steps -> place;
        settled_hold_id := step ->> 'hold_id';
        amount := step ->> 'amount';
        IF plain[place + 1] IS NOT NULL THEN
            outcome := 'done';
            entry_id := CASE WHEN amount > 0 THEN settled_hold_id END;
            charged := amount;
            released := plain[place + 1] - amount;
        ELSE
            SELECT o.outcome, o.entry_id, o.charged, o.released INTO outcome, entry_id, charged, released
              FROM ledger_settle_one(settled_hold_id, (step ->> 'customer_id')::uuid, amount, step ->> 'source_type',
                                     step -> 'usage') o;
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;

-- Write usage rows: each with its customer and the entry by which it was paid for, if any.
CREATE FUNCTION ledger_use(usage jsonb, moment timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO billing_usageevent (id, customer_id, run_id, model, provider, kind, input_tokens,
                output_tokens, cached_input_tokens, cache_write_tokens, reasoning_tokens, images,
                cost_micro_rub, charged_micro_rub, price_version_id, fx_rate_id, ledger_entry_id,
                api_key_id, estimated, created_at)
    SELECT u.*, moment
      FROM jsonb_to_recordset(usage) AS u (
           id uuid, customer_id uuid, run_id uuid, model text, provider text, kind text, input_tokens bigint,
           output_tokens bigint, cached_input_tokens bigint, cache_write_tokens bigint,
           reasoning_tokens bigint, images int, cost_micro_rub bigint, charged_micro_rub bigint,
           price_version_id bigint, fx_rate_id bigint, ledger_entry_id uuid, api_key_id uuid, estimated boolean);
END $$;

-- Resolve in one statement the holds of several steps that are open for what is asked, and lock all their wallets, in
-- order. Answers what each of them held, by the step's place; all others ledger_settle() takes one by one, to
-- say what became of them.
CREATE FUNCTION ledger_settle_plain(steps jsonb) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    customers uuid[];
    hold_ids uuid[];
    has_twins boolean;
    moment timestamptz;
    resolved bigint[];
    usage jsonb;
    counted uuid[];
    lines billing_ledgerentry[];
    -- The shares of the holds, side by side.
    owners uuid[];
    lots bigint[];
    used bigint[];
    held bigint[];
BEGIN
    SELECT array_agg(s.customer_id), array_agg(s.hold_id), count(DISTINCT s.hold_id) < count(s.hold_id)
      INTO customers, hold_ids, has_twins
      FROM jsonb_to_recordset(steps) AS s (hold_id uuid, customer_id uuid);
    IF has_twins THEN  -- they leave their counters one after the other
        PERFORM 1 FROM billing_hold h WHERE h.id = ANY (hold_ids) ORDER BY h.id FOR NO KEY UPDATE;
        PERFORM ledger_lock(customers);
        PERFORM ledger_lock_counted(hold_ids);
        RETURN NULL;
    END IF;
    moment := ledger_clock();
    WITH step AS (
        SELECT * FROM ROWS FROM (jsonb_to_recordset(steps) AS (
               hold_id uuid, customer_id uuid, amount bigint, source_type text)) WITH ORDINALITY
               AS s (hold_id, customer_id, amount, source_type, place)
         ORDER BY hold_id  -- two calls that name the same holds wait in one direction
    ), closed AS (
        UPDATE billing_hold h
           SET status = CASE WHEN s.amount > 0 THEN 'captured' ELSE 'released' END,
               captured_micro_rub = s.amount, resolved_at = moment
          FROM step s
         -- `= ANY` bounds the rows that are read by the steps, however the planner turns the join.
         WHERE h.id = ANY (hold_ids)
           AND h.id = s.hold_id AND h.customer_id = s.customer_id AND h.status = 'open'
           AND h.amount_micro_rub >= s.amount AND (h.expires_at > moment OR s.amount = 0)
        RETURNING s.*, h.lot_ids, h.lot_amounts, h.counter_ids, h.amount_micro_rub AS held,
                  CASE cardinality(h.lot_ids) WHEN 1 THEN ARRAY [s.amount]  -- most holds
                       ELSE ledger_used(s.amount, h.lot_amounts) END AS used
    ), share AS (
        SELECT array_agg(c.customer_id) AS owners, array_agg(u.lot_id) AS lots, array_agg(u.used) AS used,
               array_agg(u.held) AS held
          FROM closed c, unnest(c.lot_ids, c.used, c.lot_amounts) AS u (lot_id, used, held)
    )
    SELECT array_agg(c.held ORDER BY s.place), array_agg(c.hold_id) FILTER (WHERE c.counter_ids <> '{}'),
           array_agg(ROW (c.hold_id, c.customer_id, NULL, 'usage_debit', 'wallet', 'revenue', c.amount, NULL,
                          'capture:' || c.hold_id, c.source_type, c.hold_id, c.hold_id, c.lot_ids, c.used, NULL, NULL,
                          NULL)::billing_ledgerentry ORDER BY s.place) FILTER (WHERE c.amount > 0),
           (SELECT h.owners FROM share h), (SELECT h.lots FROM share h), (SELECT h.used FROM share h),
           (SELECT h.held FROM share h)
      INTO resolved, counted, lines, owners, lots, used, held
      FROM step s LEFT JOIN closed c ON c.place = s.place;
    PERFORM ledger_lock(customers);
    moment := ledger_clock();
    IF owners IS NOT NULL THEN
        PERFORM ledger_post_all(lines, owners, lots, used, held, moment);
    END IF;
    IF counted IS NOT NULL THEN
        PERFORM ledger_uncount(counted);
    END IF;
    usage := jsonb_path_query_array(steps, '$[*].usage[*]');
    IF array_position(resolved, NULL) IS NOT NULL THEN
        usage := (SELECT jsonb_agg(u.line)
                    FROM ROWS FROM (jsonb_array_elements(steps), unnest(resolved)) AS s (step, held),
                         jsonb_array_elements(s.step -> 'usage') AS u (line)
                   WHERE s.held IS NOT NULL);
    END IF;
    IF usage <> '[]' THEN
        PERFORM ledger_use(usage, moment);
    END IF;
    RETURN resolved;
END $$;

-- What a customer may spend.
CREATE FUNCTION ledger_spendable(customer uuid, moment timestamptz DEFAULT ledger_clock()) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN coalesce((SELECT ledger_free(w.lot_remaining, w.lot_reserved, w.lot_ends, moment)
                       FROM billing_wallet w WHERE w.customer_id = customer), 0);
END $$;

CREATE FUNCTION ledger_open_wallet(customer uuid) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    INSERT INTO billing_wallet (customer_id, balance_micro_rub, seq, head_hash, created_at)
    VALUES (customer, 0, 0, '', ledger_clock()) ON CONFLICT DO NOTHING
$$;

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
ALTER TABLE billing_hold SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
