-- Runs are opened and settled together with their money: one by functions with typed arguments, which PostgreSQL reads
-- for half the price of a document, or many in one call.
--
-- What nearly always happens is written first, for all steps of a call at once, and the few that end in another way are
-- mended afterwards, one by one, in the same transaction. Rows are locked in one order everywhere: runs, then what the
-- ledger locks.
-- Every look-up here has its index; where the functions get `enable_seqscan` from, the ledger's file says.
-- Edited in place until the first release; from then on a new version is a new file.

-- What becomes of a new run by what was reserved for it; answers its outcome and state.
CREATE FUNCTION run_reserved(
    run uuid, asked bigint, INOUT outcome text, held bigint, spendable bigint, moment timestamptz, OUT state text)
LANGUAGE plpgsql AS $$
BEGIN
    IF outcome IN ('held', 'replayed') THEN
        outcome := 'opened';
        state := 'running';
        IF held < asked THEN
            UPDATE orchestration_run r SET hold_micro_rub = held WHERE r.id = run;
        END IF;
        RETURN;
    END IF;
    state := 'refused';
    IF outcome = 'insufficient_balance' THEN
        UPDATE orchestration_run r
           SET state = 'refused', error_code = outcome, hold_micro_rub = 0, finished_at = moment,
               route = r.route || jsonb_build_object('refused', jsonb_build_object(
                       'needed_micro_rub', asked, 'balance_micro_rub', spendable))
         WHERE r.id = run;
    ELSE
        DELETE FROM orchestration_run r WHERE r.id = run;
    END IF;
END $$;

-- The answer to a step whose key was not new.
CREATE FUNCTION run_known(
    given uuid, customer uuid, key text, fingerprint text,
    OUT run_id uuid, OUT outcome text, OUT state text, OUT held bigint, OUT spendable bigint)
LANGUAGE plpgsql AS $$
DECLARE
    known record;
BEGIN
    SELECT r.id, r.state, r.hold_micro_rub, r.fingerprint = run_known.fingerprint AS is_same INTO known
      FROM orchestration_run r WHERE r.customer_id = customer AND r.idempotency_key = key;
    IF FOUND THEN
        run_id := known.id;
        state := known.state;
        held := known.hold_micro_rub;
        -- A caller that lost the first answer finds its own run here: "opened" again, with its hold.
        outcome := CASE WHEN known.id = given AND known.state = 'running' THEN 'opened'
                        WHEN known.is_same THEN 'known' ELSE 'mismatch' END;
    ELSE  -- its twin in this call was not kept
        run_id := given;
        state := 'refused';
        held := 0;
        spendable := ledger_spendable(customer);
        outcome := 'reserved_in_flight';
    END IF;
END $$;

-- What the functions for one step answer.
CREATE TYPE run_opened AS (
    given_id uuid, run_id uuid, outcome text, state text, held bigint, spendable bigint, limit_place int);
CREATE TYPE run_settled AS (
    run_id uuid, outcome text, entry_id uuid, charged bigint, released bigint, spendable bigint);

-- Open a run with its hold, which is NULL for an account that is never charged. Outcomes: opened, known (this key has
-- a run: see run_id, state), mismatch (the key has a run with another body), insufficient_balance (the refused run is
-- kept: a refusal is final for its key), reserved_in_flight and limit_exceeded (nothing is kept).
CREATE FUNCTION run_open_one(
    run uuid, customer uuid, key text, fingerprint text, surface text, mode text, profile text, model text,
    provider text, route jsonb, estimate bigint, api_key uuid, lease_seconds int,
    amount bigint, ttl_seconds int, soft boolean, limits jsonb) RETURNS run_opened
LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz := ledger_clock();  -- before the wallet's lock: for rows of runs only, never of money
    reserved ledger_held;
BEGIN
    INSERT INTO orchestration_run (
                id, customer_id, idempotency_key, fingerprint, surface, mode, profile, model, provider, route,
                estimate_micro_rub, api_key_id, hold_micro_rub, lease_until, state, error_code, finish_reason,
                cost_micro_rub, input_tokens, output_tokens, estimated, fence, created_at)
    VALUES (run, customer, key, fingerprint, surface, mode, profile, model, provider, route, estimate, api_key,
            coalesce(amount, 0), moment + lease_seconds * interval '1 second', 'running', '', '', 0, 0, 0, false, 1,
            moment)
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN (SELECT ROW (run, k.run_id, k.outcome, k.state, k.held, k.spendable, NULL)::run_opened
                  FROM run_known(run, customer, key, fingerprint) k);
    END IF;
    IF amount IS NULL THEN
        RETURN ROW (run, run, 'opened', 'running', 0, NULL, NULL)::run_opened;
    END IF;
    reserved := ledger_hold_one(run, customer, amount, ttl_seconds, soft, limits);
    IF reserved.outcome = 'held' AND reserved.held = amount THEN  -- most runs
        RETURN ROW (run, run, 'opened', 'running', amount, NULL, NULL)::run_opened;
    END IF;
    RETURN (SELECT ROW (run, run, r.outcome, r.state, reserved.held, reserved.spendable, reserved.limit_place)::run_opened
              FROM run_reserved(run, amount, reserved.outcome, reserved.held, reserved.spendable, moment) r);
END $$;

-- Open runs as run_open_one() does, many in a call. Step: the run's columns and `hold` (a step of ledger_hold, or null).
-- A twin in the same call of a run that is not kept is answered as in flight.
CREATE FUNCTION run_open(steps jsonb)
RETURNS TABLE (given_id uuid, run_id uuid, outcome text, state text, held bigint, spendable bigint, limit_place int)
LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    kept jsonb := steps;  -- those whose key was new
    moment timestamptz := ledger_clock();  -- before the wallets' locks, as above
    opened uuid[];
    holds jsonb;
    reserved record;
    step record;
BEGIN
    WITH made AS (
        INSERT INTO orchestration_run AS r (
                    id, customer_id, idempotency_key, fingerprint, surface, mode, profile, model, provider, route,
                    estimate_micro_rub, api_key_id, hold_micro_rub, lease_until, state, error_code, finish_reason,
                    cost_micro_rub, input_tokens, output_tokens, estimated, fence, created_at)
        SELECT s.id, s.customer_id, s.idempotency_key, s.fingerprint, s.surface, s.mode, s.profile, s.model,
               s.provider, s.route, s.estimate_micro_rub, s.api_key_id,
               coalesce((s.hold ->> 'amount')::bigint, 0), moment + s.lease_seconds * interval '1 second',
               'running', '', '', 0, 0, 0, false, 1, moment
          FROM jsonb_to_recordset(kept) AS s (
               id uuid, customer_id uuid, idempotency_key text, fingerprint text, surface text, mode text,
               profile text, model text, provider text, route jsonb, estimate_micro_rub bigint, api_key_id uuid,
               lease_seconds int, hold jsonb)
         ORDER BY s.customer_id, s.idempotency_key  -- two calls with the same keys wait in one direction
        ON CONFLICT DO NOTHING RETURNING r.id
    )
    SELECT coalesce(array_agg(m.id), '{}') INTO opened FROM made m;
    IF cardinality(opened) < jsonb_array_length(steps) THEN
        kept := (SELECT coalesce(jsonb_agg(s.step ORDER BY s.place), '[]')
                   FROM jsonb_array_elements(kept) WITH ORDINALITY AS s (step, place)
                  WHERE (s.step ->> 'id')::uuid = ANY (opened));
    END IF;

    holds := jsonb_path_query_array(kept, '$[*].hold ? (@ != null)');
    FOR reserved IN
        SELECT h.*, (holds -> h.place::int - 1 ->> 'amount')::bigint AS asked
          FROM ledger_hold(holds) WITH ORDINALITY AS h (id, outcome, held, spendable, limit_place, place)
    LOOP
        given_id := reserved.id;
        run_id := reserved.id;
        outcome := 'opened';
        state := 'running';
        held := reserved.held;
        spendable := reserved.spendable;
        limit_place := reserved.limit_place;
        IF reserved.outcome <> 'held' OR held < reserved.asked THEN
            SELECT r.outcome, r.state INTO outcome, state
              FROM run_reserved(run_id, reserved.asked, reserved.outcome, held, spendable, moment) r;
        END IF;
        RETURN NEXT;
    END LOOP;
    IF cardinality(opened) > jsonb_array_length(holds) THEN  -- accounts that are never charged
        RETURN QUERY SELECT s.id, s.id, 'opened', 'running', 0::bigint, NULL::bigint, NULL::int
                       FROM jsonb_to_recordset(kept) AS s (id uuid, hold jsonb)
                      WHERE s.hold IS NULL;
    END IF;
    IF cardinality(opened) < jsonb_array_length(steps) THEN
        RETURN QUERY SELECT s.id, k.run_id, k.outcome, k.state, k.held, k.spendable, NULL::int
                       FROM jsonb_to_recordset(steps) AS s (
                            id uuid, customer_id uuid, idempotency_key text, fingerprint text),
                            run_known(s.id, s.customer_id, s.idempotency_key, s.fingerprint) k
                      WHERE s.id <> ALL (opened);
    END IF;
END $$;

-- Write the attempts of a run that ends.
CREATE FUNCTION run_attempted(attempts jsonb) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO orchestration_attempt (id, run_id, customer_id, stage, number, model, provider, key_fingerprint,
                status, error_class, http_status, input_tokens, output_tokens, cost_micro_rub, first_token_ms,
                duration_ms, started_at)
    SELECT a.*
      FROM jsonb_to_recordset(attempts) AS a (
           id uuid, run_id uuid, customer_id uuid, stage text, number int, model text, provider text,
           key_fingerprint text, status text, error_class text, http_status int, input_tokens bigint,
           output_tokens bigint, cost_micro_rub bigint, first_token_ms int, duration_ms int,
           started_at timestamptz);
END $$;

-- What becomes of a run whose money did not move as it was told.
CREATE FUNCTION run_unpaid(run uuid, customer uuid, paid text, usage jsonb) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF paid = 'replayed' THEN  -- as the run's row says
        RETURN;
    END IF;
    UPDATE orchestration_run r
       SET state = 'failed', error_code = 'settle_' || paid, cost_micro_rub = 0
     WHERE r.id = run;
    UPDATE orchestration_attempt a SET cost_micro_rub = 0 WHERE a.run_id = run;
    IF paid = 'expired' THEN  -- nobody pays for it, but what it cost us is known: usage without a charge
        PERFORM ledger_settle_one(NULL, customer, 0, NULL, (
                SELECT jsonb_agg(u.line || '{"charged_micro_rub": 0, "ledger_entry_id": null}')
                  FROM jsonb_array_elements(usage) AS u (line)));
    END IF;
END $$;

-- The answer to a step whose run was not the caller's to end any more.
CREATE FUNCTION run_ended(run uuid, customer uuid, fence int, OUT outcome text, OUT entry_id uuid, OUT charged bigint,
                          OUT released bigint)
LANGUAGE plpgsql AS $$
DECLARE
    known record;
BEGIN
    SELECT r.* INTO known FROM orchestration_run r WHERE r.id = run AND r.customer_id = customer;
    IF known.finished_at IS NOT NULL AND known.fence = run_ended.fence AND known.state <> 'refused' THEN
        outcome := 'replayed';
        entry_id := CASE WHEN known.cost_micro_rub > 0 THEN known.id END;
        charged := known.cost_micro_rub;
        released := known.hold_micro_rub - known.cost_micro_rub;
    ELSE
        outcome := 'fenced';
        charged := 0;
        released := 0;
    END IF;
END $$;

-- A story with the balance after its charge, which was not known when it was told. The mark is never found inside a text,
-- whose quotation marks are escaped.
CREATE FUNCTION run_told(story text, spendable bigint) RETURNS text
LANGUAGE sql IMMUTABLE AS $$  -- one expression: it is inlined
    SELECT replace(story, '"balance_micro_rub":null', '"balance_micro_rub":' || coalesce(spendable::text, 'null'))
$$;

-- End a run and move its money: capture, release, usage rows, attempts, the run's last state; answers what the customer
-- may spend then. A story that was told at once is kept together with the charge, so that no answer is charged and lost;
-- that balance is set into it. The arguments from `hold` to `usage` are ledger_settle_one()'s.
-- Outcomes: those of ledger_settle_one(), and fenced (somebody else has ended or taken over the run). A step that
-- was applied before (its answer was lost) is answered from the run: "replayed".
CREATE FUNCTION run_settle_one(
    run uuid, customer uuid, fence int, state text, finish_reason text, error_code text, model text, provider text,
    input_tokens bigint, output_tokens bigint, estimated boolean, attempts jsonb,
    hold uuid, amount bigint, source_type text, usage jsonb, story text)
RETURNS run_settled
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    moment timestamptz := ledger_clock();  -- before the wallet's lock, as above
    paid ledger_settled;
    spendable bigint;
BEGIN
    UPDATE orchestration_run r
       SET state = state, error_code = error_code, finish_reason = finish_reason, model = model, provider = provider,
           input_tokens = input_tokens, output_tokens = output_tokens, estimated = estimated, finished_at = moment,
           cost_micro_rub = CASE WHEN hold IS NULL THEN 0 ELSE amount END
     WHERE r.id = run
       -- No index serves this form: a plan made while the table was empty would read all runs of the customer.
       AND r.customer_id IS NOT DISTINCT FROM customer
       AND r.state = 'running' AND r.fence = fence;
    IF NOT FOUND THEN
        RETURN (SELECT ROW (run, e.outcome, e.entry_id, e.charged, e.released, NULL)::run_settled
                  FROM run_ended(run, customer, fence) e);
    END IF;
    IF attempts <> '[]' THEN
        PERFORM run_attempted(attempts);
    END IF;
    paid := ledger_settle_one(hold, customer, amount, source_type, usage);
    IF hold IS NOT NULL THEN
        spendable := ledger_spendable(customer);
    END IF;
    IF paid.outcome <> 'done' THEN
        PERFORM run_unpaid(run, customer, paid.outcome, usage);
    ELSIF story IS NOT NULL THEN
        INSERT INTO orchestration_runframes (run_id, customer_id, frames, created_at)
        VALUES (run, customer, run_told(story, spendable), moment);
    END IF;
    RETURN ROW (run, paid.outcome, paid.entry_id, paid.charged, paid.released, spendable)::run_settled;
END $$;

-- End runs as run_settle_one() does, many in a call. Step: {run_id, customer_id, fence, state, finish_reason, error_code,
-- model, provider, input_tokens, output_tokens, estimated, attempts: [rows, each with its run and customer], money: a
-- step of ledger_settle}. Beside the steps stand their stories, if there are any. All but the first step of a run are
-- "replayed".
CREATE FUNCTION run_settle(steps jsonb, stories text[] DEFAULT '{}')
RETURNS TABLE (run_id uuid, outcome text, entry_id uuid, charged bigint, released bigint, spendable bigint)
LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    kept jsonb := steps;  -- those that were ours to end
    moment timestamptz := ledger_clock();  -- before the wallets' locks, as above
    run_ids uuid[] := ARRAY (SELECT s.run_id FROM jsonb_to_recordset(steps) AS s (run_id uuid));
    ended bigint[];  -- their places
    paid ledger_settled[];
    has_unpaid boolean;
BEGIN
    WITH step AS (
        SELECT DISTINCT ON (s.run_id, s.customer_id, s.fence) s.*
          FROM ROWS FROM (jsonb_to_recordset(steps) AS (
               run_id uuid, customer_id uuid, fence int, state text, finish_reason text, error_code text, model text,
               provider text, input_tokens bigint, output_tokens bigint, estimated boolean, money jsonb))
               WITH ORDINALITY AS s (run_id, customer_id, fence, state, finish_reason, error_code, model, provider,
                                     input_tokens, output_tokens, estimated, money, place)
         ORDER BY s.run_id, s.customer_id, s.fence, s.place
    ), mine AS (
        UPDATE orchestration_run r
           SET state = s.state, error_code = s.error_code, finish_reason = s.finish_reason, model = s.model,
               provider = s.provider, input_tokens = s.input_tokens, output_tokens = s.output_tokens,
               estimated = s.estimated, finished_at = moment,
               cost_micro_rub = CASE WHEN s.money ->> 'hold_id' IS NULL THEN 0 ELSE (s.money ->> 'amount')::bigint END
          FROM step s
         -- `= ANY` bounds the rows that are read by the steps, however the planner turns the join.
         WHERE r.id = ANY (run_ids) AND r.id = s.run_id
           AND r.customer_id IS NOT DISTINCT FROM s.customer_id  -- as above
           AND r.state = 'running' AND r.fence = s.fence
        RETURNING s.place
    )
    SELECT coalesce(array_agg(m.place), '{}') INTO ended FROM mine m;
    IF cardinality(ended) < jsonb_array_length(steps) THEN
        kept := (SELECT coalesce(jsonb_agg(s.step ORDER BY s.place), '[]')
                   FROM jsonb_array_elements(kept) WITH ORDINALITY AS s (step, place)
                  WHERE s.place = ANY (ended));
        stories := ARRAY (SELECT stories[e.place] FROM unnest(ended) AS e (place) ORDER BY e.place);
    END IF;
    PERFORM run_attempted(jsonb_path_query_array(kept, '$[*].attempts[*]'));
    SELECT array_agg(ROW (p.outcome, p.entry_id, p.charged, p.released)::ledger_settled ORDER BY p.place),
           bool_or(p.outcome <> 'done')
      INTO paid, has_unpaid
      FROM ledger_settle(jsonb_path_query_array(kept, '$[*].money')) WITH ORDINALITY
           AS p (hold_id, entry_id, outcome, charged, released, place);
    IF has_unpaid THEN
        PERFORM run_unpaid(s.run_id, s.customer_id, s.outcome, s.money -> 'usage')
           FROM ROWS FROM (jsonb_to_recordset(kept) AS (run_id uuid, customer_id uuid, money jsonb), unnest(paid))
                AS s (run_id, customer_id, money, outcome, entry_id, charged, released)
          WHERE s.outcome <> 'done';
    END IF;
    RETURN QUERY
    WITH step AS MATERIALIZED (
        SELECT s.*, CASE WHEN s.money ->> 'hold_id' IS NOT NULL THEN coalesce(  -- ledger_spendable(), inlined
                         (SELECT ledger_free(w.lot_remaining, w.lot_reserved, w.lot_ends, ledger_clock())
                            FROM billing_wallet w WHERE w.customer_id = s.customer_id), 0) END AS spendable
          FROM ROWS FROM (jsonb_to_recordset(kept) AS (run_id uuid, customer_id uuid, money jsonb), unnest(paid),
                          unnest(stories))
               AS s (run_id, customer_id, money, outcome, entry_id, charged, released, story)
    ), told AS (
        INSERT INTO orchestration_runframes (run_id, customer_id, frames, created_at)
        SELECT s.run_id, s.customer_id, run_told(s.story, s.spendable), moment
          FROM step s WHERE s.outcome = 'done' AND s.story IS NOT NULL
    )
    SELECT s.run_id, s.outcome, s.entry_id, s.charged, s.released, s.spendable FROM step s;
    IF cardinality(ended) < jsonb_array_length(steps) THEN
        RETURN QUERY SELECT s.run_id, e.outcome, e.entry_id, e.charged, e.released, NULL::bigint
                       FROM ROWS FROM (jsonb_to_recordset(steps) AS (run_id uuid, customer_id uuid, fence int))
                            WITH ORDINALITY AS s (run_id, customer_id, fence, place),
                            run_ended(s.run_id, s.customer_id, s.fence) e
                      WHERE s.place <> ALL (ended);
    END IF;
END $$;

-- Keep the stories of finished runs. Step: {run_id, customer_id}; beside the steps stand the frames of each.
CREATE FUNCTION run_archive(steps jsonb, stories text[]) RETURNS TABLE (run_id uuid)
LANGUAGE sql AS $$
    INSERT INTO orchestration_runframes (run_id, customer_id, frames, created_at)
    SELECT DISTINCT ON (s.run_id) s.run_id, s.customer_id, s.story, ledger_clock()
      FROM ROWS FROM (jsonb_to_recordset(steps) AS (run_id uuid, customer_id uuid), unnest(stories))
           AS s (run_id, customer_id, story)
    ON CONFLICT DO NOTHING RETURNING run_id
$$;

ALTER TABLE orchestration_run SET (fillfactor = 80);
