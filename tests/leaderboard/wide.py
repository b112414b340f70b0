"""A database as wide as comparisons get: ten candidates on 57 subjects in four areas, a target, and a task whose metric
is better when it is low. Made by bulk inserts of scores without texts; loaded with ``runpy``, as it is in no package.
"""

from __future__ import annotations

from pathlib import Path

from tuneboard.gates import Cost
from tuneboard.store.costs import keep_costs
from tuneboard.store.database import writing

AREAS = ("mmlu_humanities", "mmlu_other", "mmlu_social_sciences", "mmlu_stem")
#: Candidate 0 is the base.
NAMES = ["base", *(f"tuned-{number}" for number in range(1, 10))]

# Candidate k rises on arith, is a little lower in bits, and breaks documents of the first eleven subjects.
_ANSWERS = """
CREATE TEMP TABLE answers AS
SELECT k, printf('mmlu_subject_%02d', s) AS task, 'acc' AS metric, 0 AS repeat, d,
       CASE WHEN hash(s * 100 + d) % 2 = 0 AND NOT (s < 11 AND d < k // 3) THEN 1.0 ELSE 0.0 END AS value
FROM range(10) AS a(k), range(57) AS b(s), range(6) AS c(d)
UNION ALL
SELECT k, 'arith', 'acc', r, d, CASE WHEN d < 20 + 4 * k - (CASE WHEN k > 0 THEN r ELSE 0 END) THEN 1.0 ELSE 0.0 END
FROM range(10) AS a(k), range(2) AS b(r), range(60) AS c(d)
UNION ALL
SELECT k, 'stories', 'bits', 0, d, 3 + hash(d) % 1000 / 1000 - 0.05 * k + hash(d * 31 + k) % 100 / 1000
FROM range(10) AS a(k), range(60) AS b(d);

CREATE TEMP TABLE results AS
SELECT k, task, metric, repeat, count(*) AS n, avg(value) AS value, 'task' AS kind, []::VARCHAR[] AS members
FROM answers GROUP BY ALL
UNION ALL
SELECT k, name, 'acc', 0, count(*), avg(value), 'group', list_sort(list_distinct(list(task)))
FROM answers JOIN (VALUES ('mmlu_humanities', 0, 12), ('mmlu_other', 13, 25), ('mmlu_social_sciences', 26, 37),
                          ('mmlu_stem', 38, 56), ('mmlu', 0, 56)) AS groups(name, first, last)
  ON task LIKE 'mmlu_subject_%' AND right(task, 2)::INT BETWEEN first AND last
GROUP BY k, name;
"""

_TABLES = """
INSERT INTO candidates BY NAME
SELECT name, 'f-' || name AS fingerprint, 'models/tiny' AS model_id, 'w0' AS model_sha256,
       CASE WHEN name <> 'base' THEN 'adapters/' || name END AS adapter_path,
       CASE WHEN name <> 'base' THEN name END AS adapter_sha256, TIMESTAMP '2026-01-01' AS created
FROM (SELECT unnest(list_concat($names, ['idle', 'other'])) AS name);

INSERT INTO tasks BY NAME
SELECT DISTINCT 't-' || task AS fingerprint, task AS name, '1' AS version, 0 AS num_fewshot,
       CASE kind WHEN 'group' THEN 'group' ELSE 'multiple_choice' END AS output_type, 'd' AS data_hash, '{}' AS config,
       n AS n_docs, TIMESTAMP '2026-01-01' AS created
FROM results;
INSERT INTO tasks SELECT * REPLACE ('t-arith-3' AS fingerprint, 3 AS num_fewshot) FROM tasks WHERE name = 'arith';

INSERT INTO runs BY NAME
SELECT 'run' AS id, TIMESTAMP '2026-02-01' AS started, started AS finished, 'done' AS status, 60.0 AS seconds,
       'tuneboard evaluate' AS command, '{"device": "cpu"}' AS engine, '{}' AS versions, '{}' AS hardware,
       '{}' AS seeds, 'wide' AS suite,
       '{"tasks": [{"task": "arith", "role": "target"}, {"task": "mmlu", "role": "guard"},
                   {"task": "stories", "headline": "bits"}]}' AS settings;

CREATE TEMP TABLE made AS
SELECT printf('c-%d-%s-%d', k, task, repeat) AS id, 'f-' || $names[k + 1] AS candidate_fingerprint,
       't-' || task AS task_fingerprint, task, repeat, kind, 'done' AS status, n, members
FROM results
UNION ALL
VALUES ('c-idle', 'f-idle', 't-arith', 'arith', 0, 'task', 'invalid', 0, []),
                 ('c-other', 'f-other', 't-arith-3', 'arith', 0, 'task', 'done', 10, []);

INSERT INTO cells BY NAME
SELECT *, id AS scope, 'g' AS generation, 'transformers' AS engine, 'float32' AS dtype, 'all' AS documents,
       CASE status WHEN 'invalid' THEN 'the adapter changes no answer' END AS reason, 0 AS failed, 2.0 AS seconds,
       1000 AS tokens_computed, 0 AS tokens_reused, 1000 AS tokens_distinct, 0 AS tokens_padded,
       0 AS tokens_truncated, 'run' AS run_id,
       TIMESTAMP '2026-02-01' + INTERVAL (row_number() OVER ()) SECOND AS created
FROM made ORDER BY kind, task, id;

INSERT INTO run_cells BY NAME
SELECT 'run' AS run_id, id AS cell_id, status, created - INTERVAL (repeat) DAY AS recorded FROM cells;

INSERT INTO metrics BY NAME
SELECT printf('c-%d-%s-%d', k, task, repeat) AS cell_id, metric, 'none' AS filter, value,
       metric <> 'bits' AS higher_is_better
FROM results;

INSERT INTO scores BY NAME
SELECT printf('c-%d-%s-%d', k, task, repeat) AS cell_id, d AS doc_id, 'none' AS filter, metric, value
FROM answers ORDER BY cell_id, doc_id;
"""


def fill(db: Path) -> Path:
    """Make the database, with a candidate that was not applied and one that was asked with other examples."""
    with writing(db) as connection:
        connection.execute(_ANSWERS)
        for statement in _TABLES.split(";\n"):
            if statement.strip():
                connection.execute(statement, {"names": NAMES} if "$names" in statement else None)
    costs = {f"f-{name}": Cost(100.0 - 5 * place, 0.1, 0.5, "cpu") for place, name in enumerate(NAMES[:4])}
    keep_costs(db, "requests", costs)
    return db
