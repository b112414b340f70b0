-- The second version: trainings, each with its curves. Later versions are made by further files.

-- One training of one recipe; it keeps its row when it is killed and goes on.
CREATE TABLE training_runs (
    id VARCHAR PRIMARY KEY,
    name VARCHAR NOT NULL,              -- of the candidate that it makes
    fingerprint VARCHAR NOT NULL,       -- over recipe, data and base
    candidate_fingerprint VARCHAR,      -- what it made: candidates.fingerprint; NULL until then
    status VARCHAR NOT NULL,            -- running until finished, then done | failed | interrupted
    reason VARCHAR,
    started TIMESTAMP NOT NULL,
    finished TIMESTAMP,
    command VARCHAR NOT NULL,
    git_commit VARCHAR,
    method VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,              -- causal | classification | seq2seq
    base_id VARCHAR NOT NULL,
    base_revision VARCHAR,
    base_sha256 VARCHAR NOT NULL,
    seed BIGINT NOT NULL,
    recipe VARCHAR NOT NULL,            -- JSON, resolved
    data VARCHAR NOT NULL,              -- JSON: sources, steps, leaks, counts
    versions VARCHAR NOT NULL,          -- JSON
    hardware VARCHAR NOT NULL,          -- JSON
    folder VARCHAR,                     -- where the candidate lies
    steps BIGINT,
    epochs DOUBLE,
    seconds DOUBLE,                     -- over all sittings
    cpu_seconds DOUBLE,
    tokens BIGINT,
    loss DOUBLE,
    first_validation_loss DOUBLE,
    validation_loss DOUBLE,
    best_step BIGINT,
    trained_parameters BIGINT,
    total_parameters BIGINT,
    peak_memory_gib DOUBLE,
    resumed BIGINT,                     -- how often it went on from a checkpoint
    warnings VARCHAR[]
);

CREATE TABLE training_curves (
    run_id VARCHAR NOT NULL,
    step BIGINT NOT NULL,
    epoch DOUBLE NOT NULL,
    name VARCHAR NOT NULL,              -- loss, validation_loss, learning_rate, grad_norm, tokens_per_s, memory_gib
    value DOUBLE
);
