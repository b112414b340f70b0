-- The third version: what documents share, and what answering cost.

-- The text, template or the like that a document has in common with others; NULL where its task names no such column.
ALTER TABLE documents ADD COLUMN cluster VARCHAR;

-- Speed and memory of one candidate at a time; gates that evaluate nothing themselves take the newest.
CREATE TABLE costs (
    candidate_fingerprint VARCHAR NOT NULL,
    requests VARCHAR NOT NULL,          -- hash over what was timed; other requests take other times
    machine VARCHAR NOT NULL,
    measured TIMESTAMP NOT NULL,
    tokens_per_s DOUBLE,
    latency_p95_s DOUBLE,
    peak_memory_gib DOUBLE
);
