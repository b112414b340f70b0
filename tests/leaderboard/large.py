"""A database of 2,000 runs without samples, made by bulk inserts; loaded with ``runpy``, as it is in no package."""

from __future__ import annotations

from pathlib import Path

from tuneboard.store.database import writing

RUNS, BASES, PER_BASE, SUBJECTS = 2_000, 20, 20, 20

# Candidate 0 of each base is the base itself; run r evaluates the candidates of one base on everything.
_TABLES = f"""
INSERT INTO candidates BY NAME
SELECT 'model-' || b || CASE WHEN c = 0 THEN '' ELSE '-lora-' || c END AS name, 'f-' || b || '-' || c AS fingerprint,
       'example/model-' || b AS model_id, 'w-' || b AS model_sha256,
       CASE WHEN c > 0 THEN 'adapters/' || b || '/' || c END AS adapter_path,
       CASE WHEN c > 0 THEN 'a-' || b || '-' || c END AS adapter_sha256,
       CASE WHEN c > 0 THEN 'LORA' END AS adapter_kind,
       TIMESTAMP '2026-01-01' + INTERVAL (b * 100 + c) MINUTE AS created
FROM range({BASES}) AS t(b), range({PER_BASE}) AS u(c);

INSERT INTO tasks BY NAME
SELECT 't-' || t AS fingerprint, name, '1' AS version, 0 AS num_fewshot,
       CASE t WHEN 0 THEN 'group' ELSE 'multiple_choice' END AS output_type, 'd' AS data_hash, '{{}}' AS config,
       100 AS n_docs, TIMESTAMP '2026-01-01' AS created
FROM (SELECT t, CASE t WHEN 0 THEN 'mmlu' WHEN {SUBJECTS + 1} THEN 'hellaswag' WHEN {SUBJECTS + 2} THEN 'gsm8k'
                       ELSE 'mmlu_subject_' || t END AS name FROM range({SUBJECTS + 3}) AS r(t));

INSERT INTO runs BY NAME
SELECT 'r-' || r AS id, TIMESTAMP '2026-02-01' + INTERVAL (r) MINUTE AS started, started AS finished, 'done' AS status,
       60.0 AS seconds, 'tuneboard evaluate' AS command, '{{"name": "transformers", "device": "cpu"}}' AS engine,
       '{{"torch": "2.13.0"}}' AS versions, '{{"cores": 2}}' AS hardware, '{{"seed": 1}}' AS seeds, 'core' AS suite,
       '{{"tasks": [{{"task": "mmlu", "role": "guard"}}, {{"task": "gsm8k", "role": "target"}}]}}' AS settings
FROM range({RUNS}) AS t(r);

INSERT INTO cells BY NAME
SELECT 'c-' || b || '-' || c || '-' || t || '-' || round AS id, 's-' || id AS scope,
       'f-' || b || '-' || c AS candidate_fingerprint, 't-' || t AS task_fingerprint, name AS task, 'g' AS generation,
       'transformers' AS engine, 'bfloat16' AS dtype, CASE WHEN b % 4 = 0 THEN '4bit' END AS quantization, 0 AS repeat,
       CASE round WHEN 1 THEN 'all' ELSE 'part' END AS documents,
       CASE t WHEN 0 THEN 'group' ELSE 'task' END AS kind, 'done' AS status, 100 AS n, 0 AS failed, 2.0 AS seconds,
       1000 AS tokens_computed, 100 AS tokens_reused, 900 AS tokens_distinct, 0 AS tokens_padded,
       0 AS tokens_truncated,
       CASE t WHEN 0 THEN list_transform(range(1, {SUBJECTS + 1}), lambda s: 'mmlu_subject_' || s) ELSE [] END
           AS members,
       'r-' || (round * {BASES} + b) AS run_id,
       TIMESTAMP '2026-02-01' + INTERVAL (round * {BASES} + b) MINUTE AS created
FROM range({BASES}) AS x(b), range({PER_BASE}) AS y(c), range(2) AS w(round),
     (SELECT CAST(substr(fingerprint, 3) AS INT) AS t, name FROM tasks);

INSERT INTO run_cells BY NAME
SELECT 'r-' || r AS run_id, cells.id AS cell_id, CASE WHEN r < 2 * {BASES} THEN 'done' ELSE 'reused' END AS status,
       TIMESTAMP '2026-02-01' + INTERVAL (r) MINUTE AS recorded
FROM range({RUNS}) AS t(r), cells
WHERE CAST(split_part(cells.id, '-', 2) AS INT) = r % {BASES}
  AND CAST(split_part(cells.id, '-', 5) AS INT) = CASE WHEN r < {BASES} THEN 0 ELSE 1 END
  AND CAST(split_part(cells.id, '-', 3) AS INT) <= 1 + r // 200;

INSERT INTO metrics BY NAME
SELECT id AS cell_id, 'acc' AS metric, 'none' AS filter, (hash(id) % 1000) / 1000 AS value, 0.03 AS stderr,
       value - 0.06 AS ci_low, value + 0.06 AS ci_high, true AS higher_is_better
FROM cells;
"""


def fill(db: Path) -> None:
    """Make it."""
    with writing(db) as connection:
        connection.execute(_TABLES)
