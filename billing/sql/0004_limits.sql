-- Limits on spending, counted where the money is reserved: a hold that passes its limits and a hold that does not
-- are told apart under the same locks. Wallets are locked before counters, counters in the order of their names.
-- A counter is a cache of holds: reserved is what open ones hold, spent what resolved ones captured.
-- Edited in place until the first release; from then on a new version is a new file.

ALTER TABLE billing_limitcounter ALTER COLUMN spent_micro_rub TYPE micro_rub,
                                 ALTER COLUMN reserved_micro_rub TYPE micro_rub;
ALTER TABLE billing_limitcounter SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);

-- Count `amount` against limits on spending; the wallet is locked. A limit: {subject, window, limit}, `subject` is
-- free text, `window` hour, day or month (Moscow's), `limit` in micro-RUB over what is spent and reserved. Answers the
-- counters, or in `over` the place of the first limit that `amount` would pass; then nothing is counted, and the
-- counter of each such limit remembers at which amount it refused, which is what the last letter is written by.
CREATE FUNCTION ledger_count(limits jsonb, amount bigint, moment timestamptz, OUT counter_ids bigint[], OUT over int)
LANGUAGE plpgsql AS $$
DECLARE
    bound record;
    counter bigint;
BEGIN
    counter_ids := '{}';
    FOR bound IN
        SELECT * FROM ledger_windows(limits, moment) w ORDER BY w.subject, w."window"  -- one order everywhere
    LOOP
        INSERT INTO billing_limitcounter AS c (subject, "window", window_start, spent_micro_rub, reserved_micro_rub)
        SELECT bound.subject, bound."window", bound.window_start, 0, amount WHERE amount <= bound.most
            ON CONFLICT (subject, "window", window_start) DO UPDATE
               SET reserved_micro_rub = c.reserved_micro_rub + amount
                WHERE c.spent_micro_rub + c.reserved_micro_rub + amount <= bound.most
        RETURNING c.id INTO counter;
        IF FOUND THEN
            counter_ids := counter_ids || counter;
        ELSE
            over := least(over, bound.place);
            INSERT INTO billing_limitcounter AS c (subject, "window", window_start, spent_micro_rub, reserved_micro_rub,
                                                   refused_limit_micro_rub)
            VALUES (bound.subject, bound."window", bound.window_start, 0, 0, bound.most)
                ON CONFLICT (subject, "window", window_start) DO UPDATE SET refused_limit_micro_rub = bound.most
                    WHERE c.refused_limit_micro_rub IS DISTINCT FROM bound.most;  -- the first refusal writes, no other
        END IF;
    END LOOP;
    IF over IS NOT NULL THEN
        UPDATE billing_limitcounter c SET reserved_micro_rub = c.reserved_micro_rub - amount
         WHERE c.id = ANY (counter_ids);
        counter_ids := '{}';
    END IF;
END $$;

-- Count a new hold against limits: the answer of ledger_hold_one(). One that would pass a limit is not kept, and what was
-- reserved for it goes back.
CREATE FUNCTION ledger_limit(hold uuid, held bigint, limits jsonb, moment timestamptz) RETURNS ledger_held
LANGUAGE plpgsql AS $$
DECLARE
    counted record := ledger_count(limits, held, moment);
    made record;
BEGIN
    IF counted.over IS NULL THEN
        UPDATE billing_hold h SET counter_ids = counted.counter_ids WHERE h.id = hold;
        RETURN ROW ('held', held, NULL, NULL)::ledger_held;
    END IF;
    DELETE FROM billing_hold h WHERE h.id = hold RETURNING h.customer_id, h.lot_ids, h.lot_amounts INTO made;
    UPDATE billing_wallet w SET lot_reserved = ledger_less(w.lot_ids, w.lot_reserved, made.lot_ids, made.lot_amounts)
     WHERE w.customer_id = made.customer_id;
    RETURN ROW ('limit_exceeded', 0, NULL, counted.over)::ledger_held;
END $$;

-- The windows that limits are counted in at a moment.
CREATE FUNCTION ledger_windows(limits jsonb, moment timestamptz)
RETURNS TABLE (subject text, "window" text, window_start timestamptz, most bigint, place int)
LANGUAGE sql STABLE AS $$
    SELECT l.subject, l."window", date_trunc(l."window", moment, 'Europe/Moscow'), l."limit", l.place::int - 1
      FROM ROWS FROM (jsonb_to_recordset(limits) AS (subject text, "window" text, "limit" bigint)) WITH ORDINALITY
           AS l (subject, "window", "limit", place)
$$;

-- Lock the counters of several steps in their order: two calls that share some would else wait in a circle.
CREATE FUNCTION ledger_lock_counters(steps jsonb, moment timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO billing_limitcounter AS c (subject, "window", window_start, spent_micro_rub, reserved_micro_rub)
    SELECT DISTINCT w.subject, w."window", w.window_start, 0, 0
      FROM ledger_windows(jsonb_path_query_array(steps, '$[*].limits[*]'), moment) w
     ORDER BY w.subject, w."window", w.window_start
        ON CONFLICT (subject, "window", window_start) DO UPDATE SET spent_micro_rub = c.spent_micro_rub;
END $$;

-- Lock the counters of several holds in their order.
CREATE FUNCTION ledger_lock_counted(holds uuid[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM billing_limitcounter c
      WHERE c.id IN (SELECT unnest(h.counter_ids) FROM billing_hold h WHERE h.id = ANY (holds))
      ORDER BY c.subject, c."window", c.window_start FOR NO KEY UPDATE;
END $$;

-- Resolved holds leave their counters: what was captured was spent. Their wallets are locked.
CREATE FUNCTION ledger_uncount(holds uuid[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM ledger_lock_counted(holds);
    UPDATE billing_limitcounter c SET reserved_micro_rub = c.reserved_micro_rub - t.held,
                                      spent_micro_rub = c.spent_micro_rub + t.captured
      FROM (SELECT u.id, sum(h.amount_micro_rub)::bigint AS held, sum(h.captured_micro_rub)::bigint AS captured
              FROM billing_hold h, unnest(h.counter_ids) AS u (id) WHERE h.id = ANY (holds) GROUP BY u.id) t
     WHERE c.id = t.id;
END $$;
