-- The first version of the database. Later versions are made from it by migrations.py and never by editing this file.
--
-- Times are UTC. Columns that hold JSON are VARCHAR: DuckDB's JSON type refuses lone surrogates, which model outputs
-- and file names can contain; cast with ::JSON to look inside. The large tables have no index: each of their rows is
-- written once, under the lock, after a check that its cell is not there, and an index would double the time of that.

-- A name is bound to one set of weights; one set of weights may have several names.
CREATE TABLE candidates (
    name VARCHAR PRIMARY KEY,
    fingerprint VARCHAR NOT NULL,
    model_id VARCHAR NOT NULL,
    model_revision VARCHAR,
    model_sha256 VARCHAR NOT NULL,
    adapter_path VARCHAR,
    adapter_sha256 VARCHAR,
    adapter_kind VARCHAR,
    created TIMESTAMP NOT NULL
);

CREATE TABLE tasks (
    fingerprint VARCHAR PRIMARY KEY,
    name VARCHAR NOT NULL,
    version VARCHAR NOT NULL,
    num_fewshot INTEGER NOT NULL,
    output_type VARCHAR NOT NULL,
    data_hash VARCHAR NOT NULL,
    config VARCHAR NOT NULL,            -- JSON, as lm-eval resolved it
    n_docs INTEGER NOT NULL,
    created TIMESTAMP NOT NULL
);

-- One row per (task_fingerprint, doc_id), shared by all candidates.
CREATE TABLE documents (
    task_fingerprint VARCHAR NOT NULL,
    doc_id BIGINT NOT NULL,
    doc_hash VARCHAR NOT NULL,
    occurrence INTEGER NOT NULL,
    prompt_hash VARCHAR NOT NULL,
    prompt VARCHAR NOT NULL,
    choices VARCHAR[] NOT NULL,
    target VARCHAR NOT NULL
);

CREATE TABLE runs (
    id VARCHAR PRIMARY KEY,
    started TIMESTAMP NOT NULL,
    finished TIMESTAMP,
    status VARCHAR NOT NULL,            -- running until finished
    seconds DOUBLE,
    command VARCHAR NOT NULL,
    engine VARCHAR NOT NULL,            -- JSON
    versions VARCHAR NOT NULL,          -- JSON
    hardware VARCHAR NOT NULL,          -- JSON
    seeds VARCHAR NOT NULL,             -- JSON
    suite VARCHAR,
    settings VARCHAR NOT NULL           -- JSON
);

-- One result of one candidate on one task or group.
CREATE TABLE cells (
    id VARCHAR PRIMARY KEY,
    scope VARCHAR NOT NULL,
    candidate_fingerprint VARCHAR NOT NULL,
    task_fingerprint VARCHAR NOT NULL,
    task VARCHAR NOT NULL,
    generation VARCHAR NOT NULL,
    engine VARCHAR NOT NULL,
    dtype VARCHAR NOT NULL,
    quantization VARCHAR,
    repeat INTEGER NOT NULL,
    documents VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,              -- task | group
    status VARCHAR NOT NULL,            -- done | failed | invalid
    reason VARCHAR,
    n BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    seconds DOUBLE NOT NULL,
    tokens_computed BIGINT NOT NULL,
    tokens_reused BIGINT NOT NULL,
    tokens_distinct BIGINT NOT NULL,
    tokens_padded BIGINT NOT NULL,
    tokens_truncated BIGINT NOT NULL,
    members VARCHAR[] NOT NULL,
    run_id VARCHAR NOT NULL,            -- the run that computed it
    created TIMESTAMP NOT NULL
);

-- Which run shows which cell, and whether it computed or reused it.
CREATE TABLE run_cells (
    run_id VARCHAR NOT NULL,
    cell_id VARCHAR NOT NULL,
    status VARCHAR NOT NULL,            -- done | reused | failed | invalid
    recorded TIMESTAMP NOT NULL,
    PRIMARY KEY (run_id, cell_id)
);

CREATE TABLE metrics (
    cell_id VARCHAR NOT NULL,
    metric VARCHAR NOT NULL,
    filter VARCHAR NOT NULL,
    value DOUBLE NOT NULL,
    stderr DOUBLE,
    ci_low DOUBLE,
    ci_high DOUBLE,
    higher_is_better BOOLEAN
);

CREATE TABLE samples (
    cell_id VARCHAR NOT NULL,
    doc_id BIGINT NOT NULL,
    status VARCHAR NOT NULL,            -- ok | failed
    reason VARCHAR,
    request_hashes VARCHAR[] NOT NULL,
    responses VARCHAR NOT NULL,         -- JSON: [[logprob, is_greedy], ...], [logprob] or ["text", ...]; null: failed
    filtered VARCHAR                    -- JSON: {filter: [...]}; NULL: equal to the responses
);

CREATE TABLE scores (
    cell_id VARCHAR NOT NULL,
    doc_id BIGINT NOT NULL,
    filter VARCHAR NOT NULL,
    metric VARCHAR NOT NULL,
    value DOUBLE,
    detail VARCHAR                      -- JSON, where the value is no number
);
