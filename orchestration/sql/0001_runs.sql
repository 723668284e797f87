-- Runs are opened and settled together with their money, many at a time, in one call each.
--
-- The wallets of all steps are locked first, in ascending order; that lock also decides between two equal
-- idempotency keys, so no step of an array can fail its neighbours by a unique violation.
-- Rows are looked up one by one, by a unique key: a join with an array is planned by a guess of its size, and
-- the guess read 10 000 rows a call while the tables were young.
-- Published once, never edited: a new version is a new file.

-- Open runs with their holds. Step: the run's columns and `hold` (a step of ledger_hold, or null for an
-- account that is never charged). Outcomes: opened, known (this key has a run: see run_id, state),
-- mismatch (the key has a run with another body), insufficient_balance (the refused run is kept: a refusal
-- is final for its key), reserved_in_flight (nothing is kept), again (lost a race that no lock
-- decides: send it once more).
CREATE FUNCTION run_open(steps jsonb)
RETURNS TABLE (given_id uuid, run_id uuid, outcome text, state text, held bigint, spendable bigint)
LANGUAGE plpgsql
AS $$
DECLARE
    ordered jsonb := ledger_ordered(steps);
    step jsonb;
    known record;
    reserved record;
    holds jsonb := '[]';
    reserving int[] := '{}';
    moment timestamptz;
BEGIN
    PERFORM ledger_lock(ARRAY (SELECT (s ->> 'customer_id')::uuid FROM jsonb_array_elements(steps) s));
    moment := ledger_clock();
    FOR place IN 0 .. jsonb_array_length(ordered) - 1 LOOP
        step := ordered -> place;
        SELECT r.id, r.state, r.hold_micro_rub, r.fingerprint = step ->> 'fingerprint' AS is_same INTO known
          FROM orchestration_run r
         WHERE r.customer_id = (step ->> 'customer_id')::uuid AND r.idempotency_key = step ->> 'idempotency_key';
        IF FOUND THEN
            given_id := step ->> 'id';
            run_id := known.id;
            state := known.state;
            held := known.hold_micro_rub;
            spendable := NULL;
            -- A caller that lost the first answer finds its own run here: "opened" again, with its hold.
            outcome := CASE WHEN given_id = run_id AND state = 'running' THEN 'opened'
                            WHEN known.is_same THEN 'known' ELSE 'mismatch' END;
            RETURN NEXT;
        ELSIF step -> 'hold' = 'null' THEN
            RETURN QUERY SELECT * FROM run_insert(step, 'held', 0, NULL, moment);
        ELSE
            holds := holds || (step -> 'hold');
            reserving := reserving || place;
        END IF;
    END LOOP;
    FOR reserved IN SELECT h.*, row_number() OVER () AS number FROM ledger_hold(holds) h LOOP
        RETURN QUERY SELECT * FROM run_insert(ordered -> reserving[reserved.number], reserved.outcome,
                                              reserved.held, reserved.spendable, moment);
    END LOOP;
END $$;

-- The row of a run whose hold came out as `reserved`; its answer is one of run_open's.
CREATE FUNCTION run_insert(step jsonb, reserved text, held bigint, spendable bigint, moment timestamptz)
RETURNS TABLE (given_id uuid, run_id uuid, outcome text, state text, held_micro_rub bigint, spendable_micro_rub bigint)
LANGUAGE plpgsql
AS $$
BEGIN
    given_id := step ->> 'id';
    run_id := given_id;
    outcome := CASE reserved WHEN 'held' THEN 'opened' WHEN 'replayed' THEN 'opened' ELSE reserved END;
    state := CASE outcome WHEN 'opened' THEN 'running' ELSE 'refused' END;
    held_micro_rub := held;
    spendable_micro_rub := spendable;
    IF outcome IN ('opened', 'insufficient_balance') THEN
        INSERT INTO orchestration_run (id, customer_id, idempotency_key, fingerprint, surface, mode, profile,
                    model, provider, state, error_code, finish_reason, route, estimate_micro_rub,
                    hold_micro_rub, cost_micro_rub, input_tokens, output_tokens, estimated, api_key_id, fence,
                    lease_until, created_at, finished_at)
        VALUES (given_id, (step ->> 'customer_id')::uuid, step ->> 'idempotency_key', step ->> 'fingerprint',
                step ->> 'surface', step ->> 'mode', step ->> 'profile', step ->> 'model', step ->> 'provider',
                state, CASE outcome WHEN 'opened' THEN '' ELSE outcome END, '',
                CASE outcome WHEN 'opened' THEN step -> 'route' ELSE (step -> 'route') || jsonb_build_object(
                    'refused', jsonb_build_object('needed_micro_rub', step -> 'hold' -> 'amount',
                                                  'balance_micro_rub', spendable)) END,
                (step ->> 'estimate_micro_rub')::bigint, held, 0, 0, 0, false, (step ->> 'api_key_id')::uuid, 1,
                moment + make_interval(secs => (step ->> 'lease_seconds')::int), moment,
                CASE outcome WHEN 'opened' THEN NULL ELSE moment END)
        ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN
            outcome := 'again';
        END IF;
    END IF;
    RETURN NEXT;
END $$;

-- End runs and move their money: capture, release, usage rows, attempts, the run's last state.
-- Step: {run_id, customer_id, fence, state, finish_reason, error_code, model, provider, cost_micro_rub,
-- input_tokens, output_tokens, estimated, attempts: [...], money: a step of ledger_settle or null}.
-- Outcomes: those of ledger_settle, and fenced (somebody else has ended or taken over the run). A step that
-- was applied before (its answer was lost) is answered from the run: "replayed".
CREATE FUNCTION run_settle(steps jsonb)
RETURNS TABLE (run_id uuid, outcome text, entry_id uuid, charged bigint, released bigint, spendable bigint)
LANGUAGE plpgsql
AS $$
DECLARE
    ordered jsonb := ledger_ordered(steps);
    step jsonb;
    run record;
    paid record;
    moneys jsonb := '[]';
    mine int[] := '{}';
    moment timestamptz;
BEGIN
    PERFORM ledger_lock(ARRAY (SELECT (s ->> 'customer_id')::uuid FROM jsonb_array_elements(steps) s));
    moment := ledger_clock();
    FOR place IN 0 .. jsonb_array_length(ordered) - 1 LOOP
        step := ordered -> place;
        SELECT r.* INTO run FROM orchestration_run r
         WHERE r.id = (step ->> 'run_id')::uuid AND r.customer_id = (step ->> 'customer_id')::uuid
           FOR NO KEY UPDATE;
        IF run.state = 'running' AND run.fence = (step ->> 'fence')::int THEN
            moneys := moneys || (step -> 'money');
            mine := mine || place;
        ELSE
            run_id := step ->> 'run_id';
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
        END IF;
    END LOOP;
    FOR paid IN SELECT p.*, row_number() OVER () AS number FROM ledger_settle(moneys) p LOOP
        step := ordered -> mine[paid.number];
        run_id := step ->> 'run_id';
        outcome := paid.outcome;
        entry_id := paid.entry_id;
        charged := paid.charged;
        released := paid.released;
        spendable := paid.spendable;
        UPDATE orchestration_run r
           SET state = CASE WHEN paid.outcome IN ('done', 'replayed') THEN step ->> 'state' ELSE 'failed' END,
               error_code = CASE WHEN paid.outcome IN ('done', 'replayed') THEN step ->> 'error_code'
                                 ELSE 'settle_' || paid.outcome END,
               finish_reason = step ->> 'finish_reason', model = step ->> 'model', provider = step ->> 'provider',
               cost_micro_rub = paid.charged, ledger_entry_id = paid.entry_id,
               input_tokens = (step ->> 'input_tokens')::bigint,
               output_tokens = (step ->> 'output_tokens')::bigint,
               estimated = (step ->> 'estimated')::boolean, finished_at = moment
         WHERE r.id = (step ->> 'run_id')::uuid;
        INSERT INTO orchestration_attempt (id, run_id, customer_id, stage, number, model, provider,
                    key_fingerprint, status, error_class, http_status, input_tokens, output_tokens,
                    cost_micro_rub, first_token_ms, duration_ms, started_at)
        SELECT a.id, (step ->> 'run_id')::uuid, (step ->> 'customer_id')::uuid, a.stage, a.number, a.model,
               a.provider, a.key_fingerprint, a.status, a.error_class, a.http_status, a.input_tokens,
               a.output_tokens, a.cost_micro_rub, a.first_token_ms, a.duration_ms, a.started_at
          FROM jsonb_to_recordset(step -> 'attempts') AS a (
               id uuid, stage text, number int, model text, provider text, key_fingerprint text, status text,
               error_class text, http_status int, input_tokens bigint, output_tokens bigint,
               cost_micro_rub bigint, first_token_ms int, duration_ms int, started_at timestamptz);
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
