-- The fourth version: what gates said, so that their history can be looked at; and more of what answering took.

CREATE TABLE verdicts (
    judged TIMESTAMP NOT NULL,
    policy VARCHAR NOT NULL,
    base VARCHAR NOT NULL,              -- as it was called then
    candidate VARCHAR NOT NULL,
    candidate_fingerprint VARCHAR,      -- its weights then; NULL where the database did not know the name
    verdict VARCHAR NOT NULL,           -- pass | fail | inconclusive | invalid
    exit_code INTEGER NOT NULL,
    content VARCHAR NOT NULL            -- JSON, as `tuneboard gate --json` prints it
);

-- What else answering took. Earlier measurements have NULL here.
ALTER TABLE costs ADD COLUMN first_token_s DOUBLE;       -- median time to the first generated token
ALTER TABLE costs ADD COLUMN latency_p50_s DOUBLE;
ALTER TABLE costs ADD COLUMN latency_p99_s DOUBLE;
ALTER TABLE costs ADD COLUMN joules_per_token DOUBLE;
ALTER TABLE costs ADD COLUMN energy_source VARCHAR;      -- whose counter was read
ALTER TABLE costs ADD COLUMN timed INTEGER;              -- requests
