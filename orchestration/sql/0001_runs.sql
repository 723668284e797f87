-- Runs are opened and settled together with their money, many at a time, in one call each.
--
-- The wallets of all steps are locked first, in ascending order; that lock also decides between two equal
-- idempotency keys, so no step of an array can fail its neighbours by a unique violation.
-- Published once, never edited: a new version is a new file.

-- Open runs with their holds. Step: the run's columns and `hold` (a step of ledger_hold, or null for an
-- account that is never charged). Outcomes: opened, known (this key has a run: see run_id, state),
-- mismatch (the key has a run with another body), insufficient_balance (the refused run is kept: a refusal
-- is final for its key), reserved_in_flight (nothing is kept), again (twin in one array: send it once more).
CREATE FUNCTION run_open(steps jsonb)
RETURNS TABLE (given_id uuid, run_id uuid, outcome text, state text, held bigint, spendable bigint)
LANGUAGE plpgsql
AS $$
DECLARE
    moment timestamptz;
BEGIN
    PERFORM ledger_lock(ARRAY (SELECT (s ->> 'customer_id')::uuid FROM jsonb_array_elements(steps) s));
    moment := ledger_clock();
    RETURN QUERY
    WITH step AS MATERIALIZED (
        SELECT s.*, row_number() OVER (PARTITION BY s.customer_id, s.idempotency_key ORDER BY s.place) AS twin
          FROM ROWS FROM (jsonb_to_recordset(steps) AS (
               id uuid, customer_id uuid, idempotency_key text, fingerprint text, surface text, mode text,
               profile text, model text, provider text, route jsonb, estimate_micro_rub bigint,
               api_key_id uuid, lease_seconds int, hold jsonb)) WITH ORDINALITY AS s (
               id, customer_id, idempotency_key, fingerprint, surface, mode, profile, model, provider, route,
               estimate_micro_rub, api_key_id, lease_seconds, hold, place)
    ), known AS MATERIALIZED (
        SELECT s.id AS given, r.id, r.state, r.hold_micro_rub AS held, r.fingerprint = s.fingerprint AS is_same
          FROM step s JOIN orchestration_run r
            ON r.customer_id = s.customer_id AND r.idempotency_key = s.idempotency_key
    ), fresh AS MATERIALIZED (
        SELECT * FROM step s WHERE s.twin = 1 AND NOT EXISTS (SELECT 1 FROM known k WHERE k.given = s.id)
    ), held AS MATERIALIZED (
        SELECT h.* FROM (SELECT jsonb_agg(f.hold) AS holds FROM fresh f WHERE f.hold IS NOT NULL AND f.hold <> 'null') a,
               LATERAL ledger_hold(a.holds) h
         WHERE a.holds IS NOT NULL
    ), verdict AS MATERIALIZED (
        SELECT f.*, coalesce(h.held, 0) AS held, h.spendable,
               CASE WHEN h.hold_id IS NULL OR h.outcome = 'held' THEN 'opened' ELSE h.outcome END AS outcome
          FROM fresh f LEFT JOIN held h ON h.hold_id = f.id
    ), made AS (
        INSERT INTO orchestration_run (id, customer_id, idempotency_key, fingerprint, surface, mode, profile,
                    model, provider, state, error_code, finish_reason, route, estimate_micro_rub,
                    hold_micro_rub, cost_micro_rub, input_tokens, output_tokens, estimated, api_key_id, fence,
                    lease_until, created_at, finished_at)
        SELECT v.id, v.customer_id, v.idempotency_key, v.fingerprint, v.surface, v.mode, v.profile,
               v.model, v.provider,
               CASE v.outcome WHEN 'opened' THEN 'running' ELSE 'refused' END,
               CASE v.outcome WHEN 'opened' THEN '' ELSE v.outcome END, '', v.route, v.estimate_micro_rub,
               v.held, 0, 0, 0, false, v.api_key_id, 1,
               moment + make_interval(secs => v.lease_seconds), moment,
               CASE v.outcome WHEN 'opened' THEN NULL ELSE moment END
          FROM verdict v WHERE v.outcome IN ('opened', 'insufficient_balance')
        ON CONFLICT (customer_id, idempotency_key) DO NOTHING
        RETURNING id
    )
    SELECT v.id, v.id,
           CASE WHEN v.outcome = 'opened' AND NOT EXISTS (SELECT 1 FROM made m WHERE m.id = v.id) THEN 'again'
                ELSE v.outcome END, 'running', v.held, v.spendable
      FROM verdict v
     UNION ALL
    -- A caller that lost the first answer finds its own run here: "opened" again, with its hold.
    SELECT k.given, k.id,
           CASE WHEN k.given = k.id AND k.state = 'running' THEN 'opened'
                WHEN k.is_same THEN 'known' ELSE 'mismatch' END,
           k.state::text, k.held, NULL FROM known k
     UNION ALL
    SELECT s.id, NULL, 'again', NULL, 0, NULL FROM step s
     WHERE s.twin > 1 AND NOT EXISTS (SELECT 1 FROM known k WHERE k.given = s.id);
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
    moment timestamptz;
BEGIN
    PERFORM ledger_lock(ARRAY (SELECT (s ->> 'customer_id')::uuid FROM jsonb_array_elements(steps) s));
    moment := ledger_clock();
    RETURN QUERY
    WITH step AS MATERIALIZED (
        SELECT DISTINCT ON (s.run_id) s.* FROM jsonb_to_recordset(steps) AS s (
               run_id uuid, customer_id uuid, fence int, state text, finish_reason text, error_code text,
               model text, provider text, cost_micro_rub bigint, input_tokens bigint, output_tokens bigint,
               estimated boolean, attempts jsonb, money jsonb)
    ), mine AS MATERIALIZED (
        SELECT s.* FROM step s JOIN orchestration_run r ON r.id = s.run_id
         WHERE r.customer_id = s.customer_id AND r.state = 'running' AND r.fence = s.fence
         ORDER BY s.run_id FOR NO KEY UPDATE OF r
    ), again AS MATERIALIZED (
        SELECT s.run_id, r.ledger_entry_id, r.cost_micro_rub, r.hold_micro_rub - r.cost_micro_rub AS released
          FROM step s JOIN orchestration_run r ON r.id = s.run_id
         WHERE r.customer_id = s.customer_id AND r.finished_at IS NOT NULL AND r.fence = s.fence
           AND r.state <> 'refused'
    ), paid AS MATERIALIZED (
        SELECT p.* FROM (SELECT jsonb_agg(m.money) AS moneys FROM mine m WHERE m.money IS NOT NULL AND m.money <> 'null') a,
               LATERAL ledger_settle(a.moneys) p
         WHERE a.moneys IS NOT NULL
    ), verdict AS MATERIALIZED (
        SELECT m.*, coalesce(p.outcome, 'done') AS outcome, p.entry_id, coalesce(p.charged, 0) AS charged,
               coalesce(p.released, 0) AS released, p.spendable
          FROM mine m LEFT JOIN paid p ON p.settled_hold_id = m.run_id
    ), ended AS (
        UPDATE orchestration_run r
           SET state = CASE WHEN v.outcome IN ('done', 'replayed') THEN v.state ELSE 'failed' END,
               error_code = CASE WHEN v.outcome IN ('done', 'replayed') THEN v.error_code ELSE 'settle_' || v.outcome END,
               finish_reason = v.finish_reason, model = v.model, provider = v.provider,
               cost_micro_rub = v.charged, ledger_entry_id = v.entry_id, input_tokens = v.input_tokens,
               output_tokens = v.output_tokens, estimated = v.estimated, finished_at = moment
          FROM verdict v WHERE r.id = v.run_id
    ), tried AS (
        INSERT INTO orchestration_attempt (id, run_id, customer_id, stage, number, model, provider,
                    key_fingerprint, status, error_class, http_status, input_tokens, output_tokens,
                    cost_micro_rub, first_token_ms, duration_ms, started_at)
        SELECT a.id, v.run_id, v.customer_id, a.stage, a.number, a.model, a.provider, a.key_fingerprint,
               a.status, a.error_class, a.http_status, a.input_tokens, a.output_tokens, a.cost_micro_rub,
               a.first_token_ms, a.duration_ms, a.started_at
          FROM verdict v, LATERAL jsonb_to_recordset(v.attempts) AS a (
               id uuid, stage text, number int, model text, provider text, key_fingerprint text, status text,
               error_class text, http_status int, input_tokens bigint, output_tokens bigint,
               cost_micro_rub bigint, first_token_ms int, duration_ms int, started_at timestamptz)
    )
    SELECT v.run_id, v.outcome, v.entry_id, v.charged, v.released, v.spendable FROM verdict v
     UNION ALL
    SELECT a.run_id, 'replayed', a.ledger_entry_id, a.cost_micro_rub, a.released, NULL FROM again a
     UNION ALL
    SELECT s.run_id, 'fenced', NULL, 0, 0, NULL FROM step s
     WHERE NOT EXISTS (SELECT 1 FROM mine m WHERE m.run_id = s.run_id)
       AND NOT EXISTS (SELECT 1 FROM again a WHERE a.run_id = s.run_id);
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
