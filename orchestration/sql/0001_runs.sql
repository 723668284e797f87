-- Runs are opened and settled together with their money, many at a time, in one call each.
--
-- What nearly always happens is written first, and the few steps that end in another way are mended afterwards, one by
-- one, in the same transaction. Rows are locked in one order everywhere: runs, then wallets.
-- Every look-up here has its index (`enable_seqscan`, see the ledger's functions).
-- Edited in place until the first release; from then on a new version is a new file.

-- Open runs with their holds. Step: the run's columns and `hold` (a step of ledger_hold, or null for an
-- account that is never charged). Outcomes: opened, known (this key has a run: see run_id, state),
-- mismatch (the key has a run with another body), insufficient_balance (the refused run is kept: a refusal
-- is final for its key), reserved_in_flight and limit_exceeded (nothing is kept; a twin in the same call is answered
-- as in flight).
CREATE FUNCTION run_open(steps jsonb)
RETURNS TABLE (given_id uuid, run_id uuid, outcome text, state text, held bigint, spendable bigint, limit_place int)
LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    kept jsonb := steps;  -- those whose key was new
    moment timestamptz := ledger_clock();  -- before the wallets' locks: for rows of runs only, never of money
    opened uuid[];
    holds jsonb;
    reserved record;
    step record;
    known record;
BEGIN
    WITH made AS (
        INSERT INTO orchestration_run AS r (
                    id, customer_id, idempotency_key, fingerprint, surface, mode, profile, model, provider, route,
                    estimate_micro_rub, api_key_id, hold_micro_rub, lease_until, state, error_code, finish_reason,
                    cost_micro_rub, input_tokens, output_tokens, estimated, fence, created_at)
        SELECT s.id, s.customer_id, s.idempotency_key, s.fingerprint, s.surface, s.mode, s.profile, s.model,
               s.provider, s.route, s.estimate_micro_rub, s.api_key_id,
               coalesce((s.hold ->> 'amount')::bigint, 0), moment + make_interval(secs => s.lease_seconds),
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
        held := reserved.held;
        spendable := reserved.spendable;
        limit_place := reserved.limit_place;
        IF reserved.outcome IN ('held', 'replayed') THEN
            outcome := 'opened';
            state := 'running';
            IF held < reserved.asked THEN
                UPDATE orchestration_run r SET hold_micro_rub = held WHERE r.id = given_id;
            END IF;
        ELSE
            outcome := reserved.outcome;
            state := 'refused';
            IF outcome = 'insufficient_balance' THEN
                UPDATE orchestration_run r
                   SET state = 'refused', error_code = outcome, hold_micro_rub = 0, finished_at = moment,
                       route = r.route || jsonb_build_object('refused', jsonb_build_object(
                               'needed_micro_rub', reserved.asked, 'balance_micro_rub', spendable))
                 WHERE r.id = given_id;
            ELSE
                DELETE FROM orchestration_run r WHERE r.id = given_id;
            END IF;
        END IF;
        RETURN NEXT;
    END LOOP;
    IF cardinality(opened) > jsonb_array_length(holds) THEN  -- accounts that are never charged
        RETURN QUERY SELECT s.id, s.id, 'opened', 'running', 0::bigint, NULL::bigint, NULL::int
                       FROM jsonb_to_recordset(kept) AS s (id uuid, hold jsonb)
                      WHERE s.hold IS NULL;
    END IF;
    IF cardinality(opened) = jsonb_array_length(steps) THEN
        RETURN;
    END IF;
    FOR step IN
        SELECT * FROM jsonb_to_recordset(steps) AS s (
               id uuid, customer_id uuid, idempotency_key text, fingerprint text)
         WHERE s.id <> ALL (opened)
    LOOP
        given_id := step.id;
        SELECT r.id, r.state, r.hold_micro_rub, r.fingerprint = step.fingerprint AS is_same INTO known
          FROM orchestration_run r
         WHERE r.customer_id = step.customer_id AND r.idempotency_key = step.idempotency_key;
        IF FOUND THEN
            run_id := known.id;
            state := known.state;
            held := known.hold_micro_rub;
            spendable := NULL;
            limit_place := NULL;
            -- A caller that lost the first answer finds its own run here: "opened" again, with its hold.
            outcome := CASE WHEN known.id = step.id AND known.state = 'running' THEN 'opened'
                            WHEN known.is_same THEN 'known' ELSE 'mismatch' END;
        ELSE  -- its twin in this call was not kept
            run_id := step.id;
            state := 'refused';
            held := 0;
            spendable := ledger_spendable(step.customer_id);
            limit_place := NULL;
            outcome := 'reserved_in_flight';
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;

-- End runs and move their money: capture, release, usage rows, attempts, the run's last state.
-- Step: {run_id, customer_id, fence, state, finish_reason, error_code, model, provider, input_tokens,
-- output_tokens, estimated, attempts: [rows, each with its run and customer], money: a step of ledger_settle,
-- story}. A run that was told at once brings its frames in `story`, in two parts with the balance between them: they
-- are kept together with the charge ("done"), so that no answer is charged and lost.
-- Outcomes: those of ledger_settle, and fenced (somebody else has ended or taken over the run). A step that
-- was applied before (its answer was lost) is answered from the run: "replayed"; so are all but the first of a run's own.
CREATE FUNCTION run_settle(steps jsonb)
RETURNS TABLE (run_id uuid, outcome text, entry_id uuid, charged bigint, released bigint, spendable bigint)
LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    kept jsonb := steps;  -- those that were ours to end
    moment timestamptz := ledger_clock();  -- before the wallets' locks, as above
    ended int[] := '{}';  -- their places
    paid record;
    step jsonb;
    money jsonb;
    run record;
BEGIN
    -- One by one: for a single run half the price of a statement over many, for 64 a twentieth more.
    FOR place IN 1 .. jsonb_array_length(steps) LOOP
        step := steps -> place - 1;
        money := step -> 'money';
        UPDATE orchestration_run r
           SET state = step ->> 'state', error_code = step ->> 'error_code', finish_reason = step ->> 'finish_reason',
               model = step ->> 'model', provider = step ->> 'provider',
               input_tokens = (step ->> 'input_tokens')::bigint, output_tokens = (step ->> 'output_tokens')::bigint,
               estimated = (step ->> 'estimated')::boolean, finished_at = moment,
               cost_micro_rub = (money ->> 'amount')::bigint,
               ledger_entry_id = CASE WHEN (money ->> 'amount')::bigint > 0 THEN (money ->> 'entry_id')::uuid END
         WHERE r.id = (step ->> 'run_id')::uuid
           -- No index serves this form: a plan made while the table was empty would read all runs of the customer.
           AND r.customer_id IS NOT DISTINCT FROM (step ->> 'customer_id')::uuid
           AND r.state = 'running' AND r.fence = (step ->> 'fence')::int;
        IF FOUND THEN
            ended := ended || place;
        END IF;
    END LOOP;
    IF cardinality(ended) < jsonb_array_length(steps) THEN
        kept := (SELECT coalesce(jsonb_agg(s.step ORDER BY s.place), '[]')
                   FROM jsonb_array_elements(kept) WITH ORDINALITY AS s (step, place)
                  WHERE s.place = ANY (ended));
    END IF;
    INSERT INTO orchestration_attempt (id, run_id, customer_id, stage, number, model, provider, key_fingerprint,
                status, error_class, http_status, input_tokens, output_tokens, cost_micro_rub, first_token_ms,
                duration_ms, started_at)
    SELECT a.*
      FROM jsonb_to_recordset(jsonb_path_query_array(kept, '$[*].attempts[*]')) AS a (
           id uuid, run_id uuid, customer_id uuid, stage text, number int, model text, provider text,
           key_fingerprint text, status text, error_class text, http_status int, input_tokens bigint,
           output_tokens bigint, cost_micro_rub bigint, first_token_ms int, duration_ms int,
           started_at timestamptz);

    FOR paid IN
        SELECT p.*
          FROM ledger_settle(jsonb_path_query_array(kept, '$[*].money')) WITH ORDINALITY
               AS p (hold_id, entry_id, outcome, charged, released, place)
    LOOP
        step := kept -> paid.place::int - 1;
        run_id := step ->> 'run_id';
        outcome := paid.outcome;
        entry_id := paid.entry_id;
        charged := paid.charged;
        released := paid.released;
        spendable := CASE WHEN paid.hold_id IS NOT NULL  -- the first answer comes when all of the money has moved
                          THEN ledger_spendable((step ->> 'customer_id')::uuid) END;
        IF outcome = 'done' AND jsonb_typeof(step -> 'story') = 'array' THEN
            INSERT INTO orchestration_runframes (run_id, customer_id, frames, created_at)
            VALUES (run_settle.run_id, (step ->> 'customer_id')::uuid,
                    (step #>> '{story,0}') || coalesce(spendable::text, 'null') || (step #>> '{story,1}'), moment);
        ELSIF outcome = 'replayed' THEN
            UPDATE orchestration_run r SET ledger_entry_id = paid.entry_id WHERE r.id = run_id;
        ELSIF outcome <> 'done' THEN
            UPDATE orchestration_run r
               SET state = 'failed', error_code = 'settle_' || outcome, cost_micro_rub = 0, ledger_entry_id = NULL
             WHERE r.id = run_id;
            UPDATE orchestration_attempt a SET cost_micro_rub = 0 WHERE a.run_id = run_settle.run_id;
            IF outcome = 'expired' THEN  -- nobody pays for it, but what it cost us is known: usage without a charge
                PERFORM ledger_settle(jsonb_build_array((step -> 'money') || jsonb_build_object(
                    'hold_id', NULL, 'amount', 0, 'usage', (
                        SELECT coalesce(jsonb_agg(u.line || '{"charged_micro_rub": 0}'), '[]')
                          FROM jsonb_array_elements(step #> '{money,usage}') AS u (line)))));
            END IF;
        END IF;
        RETURN NEXT;
    END LOOP;
    IF cardinality(ended) = jsonb_array_length(steps) THEN
        RETURN;
    END IF;
    FOR step IN
        SELECT s.step FROM jsonb_array_elements(steps) WITH ORDINALITY AS s (step, place) WHERE s.place <> ALL (ended)
    LOOP
        run_id := step ->> 'run_id';
        SELECT r.* INTO run FROM orchestration_run r
         WHERE r.id = run_id AND r.customer_id = (step ->> 'customer_id')::uuid;
        spendable := NULL;
        IF run.finished_at IS NOT NULL AND run.fence = (step ->> 'fence')::int AND run.state <> 'refused' THEN
            outcome := 'replayed';
            entry_id := run.ledger_entry_id;
            charged := run.cost_micro_rub;
            released := run.hold_micro_rub - run.cost_micro_rub;
        ELSE
            outcome := 'fenced';
            entry_id := NULL;
            charged := 0;
            released := 0;
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;

-- Keep the stories of finished runs. Step: {run_id, customer_id, frames}.
CREATE FUNCTION run_archive(steps jsonb) RETURNS TABLE (run_id uuid)
LANGUAGE sql AS $$
    INSERT INTO orchestration_runframes (run_id, customer_id, frames, created_at)
    SELECT DISTINCT ON (s.run_id) s.run_id, s.customer_id, s.frames, ledger_clock()
      FROM jsonb_to_recordset(steps) AS s (run_id uuid, customer_id uuid, frames text)
    ON CONFLICT DO NOTHING RETURNING run_id
$$;

ALTER TABLE orchestration_run SET (fillfactor = 80);
