-- Holds that are open: how they are found, renewed and ended when nobody does.
--
-- A hold stands in no index but that of its key. An index of open holds would have to be left when a hold is resolved, so
-- that the row could not be written in place: each pair of hold and charge would pay for what the sweep asks once a
-- minute (docs/decisions/0042-open-holds.md). Ids are UUIDv7, which makes the key an index by time: open holds lie
-- behind a mark, and the sweep moves it on.
-- Edited in place until the first release; from then on a new version is a new file.

-- One row, or none at first: no hold with a lower id is open.
CREATE TABLE billing_holdmark (
    place smallint PRIMARY KEY DEFAULT 1 CHECK (place = 1),
    first_id uuid NOT NULL
);

-- STABLE and not inlined, so that the planner knows its answer and what it leaves of the table.
CREATE FUNCTION ledger_first_open() RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT m.first_id FROM billing_holdmark m), '00000000-0000-0000-0000-000000000000')
$$;

CREATE VIEW billing_openhold AS
SELECT h.id, h.customer_id, h.expires_at, h.created_at
  FROM billing_hold h WHERE h.resolved_at IS NULL AND h.id >= ledger_first_open();

-- When a UUIDv7 was made, and the lowest one of a moment (RFC 9562, 5.7: it begins with 48 bits of milliseconds).
CREATE FUNCTION ledger_made_at(id uuid) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$
    SELECT to_timestamp(('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / 1000.0)
$$;

CREATE FUNCTION ledger_first_id(moment timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex(greatest(floor(extract(epoch FROM moment) * 1000), 0)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- Move the mark to the first hold that is open, yet not nearer than ten minutes to the last one or to now: a hold that is
-- being made has its id already, perhaps by a clock that is behind. One that comes later still is not found here;
-- check V14, which reads all, tells of it.
CREATE FUNCTION ledger_move_mark(moment timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO billing_holdmark (first_id)
    SELECT least((SELECT h.id FROM billing_openhold h ORDER BY h.id LIMIT 1),
                 ledger_first_id(least(ledger_made_at(last.id), moment) - interval '10 minutes'))
      FROM (SELECT h.id FROM billing_hold h ORDER BY h.id DESC LIMIT 1) last
    ON CONFLICT (place) DO UPDATE SET first_id = excluded.first_id;
END $$;

-- Say that the work of these holds goes on: their end moves to `ttl_seconds` from now. Of a hold that is resolved, is over
-- or ends later, nothing moves. One that somebody is resolving now is let be: waiting for it could close a circle.
-- Returns how many moved.
CREATE FUNCTION ledger_renew(hold_ids uuid[], ttl_seconds int) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    moment timestamptz := ledger_clock();
    until timestamptz := moment + ttl_seconds * interval '1 second';
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

-- Give back holds whose time is over, at most `most` of them behind the first `past`; never before their time. One that
-- somebody is renewing or resolving now is let be. Returns how many.
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
    SELECT array_agg(h.id) INTO due
      FROM (SELECT h.id FROM billing_openhold h WHERE h.expires_at <= moment
             ORDER BY h.id LIMIT most OFFSET past FOR NO KEY UPDATE SKIP LOCKED) h;
    PERFORM 1 FROM billing_wallet w
      WHERE w.customer_id IN (SELECT h.customer_id FROM billing_hold h WHERE h.id = ANY (due))
      ORDER BY w.customer_id FOR NO KEY UPDATE;
    WITH closed AS (
        UPDATE billing_hold h SET status = 'expired', resolved_at = moment
         WHERE h.id = ANY (due)
        RETURNING h.id, h.customer_id, h.lot_ids, h.lot_amounts, h.counter_ids
    ), back AS (
        UPDATE billing_wallet w SET lot_reserved = ledger_less(w.lot_ids, w.lot_reserved, t.ids, t.amounts)
          FROM (SELECT c.customer_id, array_agg(u.lot_id) AS ids, array_agg(u.amount) AS amounts
                  FROM closed c, unnest(c.lot_ids, c.lot_amounts) AS u (lot_id, amount) GROUP BY c.customer_id) t,
               LATERAL (SELECT n.ctid FROM billing_wallet n WHERE n.customer_id = t.customer_id LIMIT 1) AS place
         WHERE w.ctid = place.ctid
    )
    SELECT count(*), array_agg(c.id) FILTER (WHERE c.counter_ids <> '{}') INTO freed, counted FROM closed c;
    IF counted IS NOT NULL THEN
        PERFORM ledger_uncount(counted);
    END IF;
    PERFORM ledger_move_mark(moment);
    RETURN freed;
END $$;
