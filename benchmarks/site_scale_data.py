"""A database as large as one likes, made by SQL through the real schema; nothing in it was measured.

Candidates are adapters on a few bases, each evaluated twice on one suite: MMLU by subject, HellaSwag, TruthfulQA,
GSM8K, HumanEval. Every sample has its prompt, its answers and its scores; whether it is right follows from a hash of
candidate, task and document, so that candidates differ by small, real-looking amounts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tuneboard.store.database import writing

if TYPE_CHECKING:
    import duckdb

SUBJECTS = 57
#: Samples of one run, by task; they sum to 10,000.
SHARES: Mapping[str, int] = {"mmlu": 5_700, "hellaswag": 2_500, "gsm8k": 1_000, "truthfulqa_mc1": 636, "humaneval": 164}
GENERATED = ("gsm8k", "humaneval")
#: Inserted in one transaction, which bounds memory.
SAMPLES_AT_ONCE = 400_000
ADAPTERS_OF_A_BASE = 24


@dataclass(frozen=True)
class Size:
    """How large it is to be."""

    runs: int
    samples: int

    @property
    def candidates(self) -> int:
        """Each is evaluated twice."""
        return max(2, self.runs // 2)

    def documents(self, task: str) -> int:
        """Documents of a task, or of each subject of MMLU."""
        share = SHARES["mmlu"] / SUBJECTS if task.startswith("mmlu") else SHARES[task]
        return max(1, round(share * self.samples / self.runs / sum(SHARES.values())))


def tasks() -> list[str]:
    """Names of all tasks, in the order of the suite."""
    return [f"mmlu_subject_{number:02}" for number in range(1, SUBJECTS + 1)] + [
        name for name in SHARES if name != "mmlu"
    ]


def make_database(db: Path, size: Size) -> None:
    """Make the database; prints how far it is.

    Args:
        db: The file; nothing may be there.
        size: How large.
    """
    begun = time.monotonic()
    with writing(db) as connection:
        _shared_rows(connection, size)
    per_run = sum(size.documents(name) for name in tasks())
    step = max(1, SAMPLES_AT_ONCE // per_run)
    for first in range(0, size.runs, step):
        last = min(size.runs, first + step)
        with writing(db) as connection:
            _results(connection, first, last)
        print(f"  {last:,} of {size.runs:,} runs, {last * per_run:,} samples, {time.monotonic() - begun:.0f} s")
    with writing(db) as connection:
        connection.execute(_TRAININGS)
        connection.execute(_CURVES)
        connection.execute(_COSTS)
        connection.execute(_VERDICTS)


def _shared_rows(connection: duckdb.DuckDBPyConnection, size: Size) -> None:
    settings = {"tasks": [{"task": name, "role": "target" if name == "gsm8k" else "guard"} for name in SHARES]}
    connection.execute(_CANDIDATES, {"count": size.candidates, "family": ADAPTERS_OF_A_BASE + 1})
    connection.execute(_RUNS, {"runs": size.runs, "candidates": size.candidates, "settings": json.dumps(settings)})
    for name in tasks():
        kind = "generate_until" if name in GENERATED else "multiple_choice"
        documents = size.documents(name)
        connection.execute(_TASK, {"task": name, "kind": kind, "documents": documents})
        connection.execute(_DOCUMENTS, {"task": name, "kind": kind, "documents": documents})
    everything = SUBJECTS * size.documents("mmlu_subject_01")
    for group, part in _groups().items():
        connection.execute(_TASK, {"task": group, "kind": "group", "documents": everything * len(part) // SUBJECTS})


def _groups() -> dict[str, list[str]]:
    subjects = tasks()[:SUBJECTS]
    cuts = {"mmlu": (0, 57), "mmlu_humanities": (0, 13), "mmlu_other": (13, 26)}
    cuts |= {"mmlu_social_sciences": (26, 38), "mmlu_stem": (38, 57)}
    return {group: subjects[start:end] for group, (start, end) in cuts.items()}


def _results(connection: duckdb.DuckDBPyConnection, first: int, last: int) -> None:
    span = {"first": first, "last": last}
    connection.execute(_CELLS, span)
    for statement in (_SAMPLES, _SCORES, _METRICS):
        connection.execute(statement, span)
    for group, members in _groups().items():
        connection.execute(_GROUP_CELLS, span | {"family": group, "members": members})
        connection.execute(_GROUP_METRICS, span | {"family": group, "members": members})
    connection.execute(_RUN_CELLS, span)


# The first of each family is the base.
_CANDIDATES = """
INSERT INTO candidates
SELECT CASE WHEN i % $family = 0 THEN format('base-{:03d}', i // $family)
            ELSE format('adapter-{:03d}-{:02d}', i // $family, i % $family) END,
       sha256(format('candidate {}', i)), format('example/model-{}b', 1 + i // $family % 13), NULL,
       sha256(format('model {}', i // $family)),
       CASE WHEN i % $family > 0 THEN format('adapters/trained/{}', i) END,
       CASE WHEN i % $family > 0 THEN sha256(format('adapter {}', i)) END,
       CASE WHEN i % $family > 0 THEN ['LORA', 'IA3', 'PREFIX_TUNING'][1 + i % 3] END,
       TIMESTAMP '2026-01-01' + i * INTERVAL 1 HOUR
FROM range($count) AS numbers(i)
"""

_RUNS = """
INSERT INTO runs
SELECT format('run-{:05d}', i), TIMESTAMP '2026-01-01' + i * INTERVAL 2 HOUR,
       TIMESTAMP '2026-01-01' + i * INTERVAL 2 HOUR + INTERVAL 40 MINUTE, 'done', 2400,
       format('tuneboard evaluate --model example/model --suite core --seed {}', i % $candidates),
       '{"name":"transformers","version":"5.19.0","device":"cuda","dtype":"bfloat16"}',
       '{"tuneboard":"0.1.0","torch":"2.13.0","transformers":"5.19.0"}', '{"cores":16,"gpus":[]}', '{"seed":1234}',
       'core', $settings
FROM range($runs) AS numbers(i)
"""

_TASK = """
INSERT INTO tasks SELECT sha256('task ' || $task), $task, '1.0', CASE WHEN $kind = 'group' THEN 0 ELSE 5 END, $kind,
    'data', CASE WHEN $kind = 'group' THEN '{}' ELSE json_object('task', $task, 'output_type', $kind) END, $documents,
    TIMESTAMP '2026-01-01'
"""

_DOCUMENTS = """
INSERT INTO documents
SELECT sha256('task ' || $task), i, sha256(format('{} {}', $task, i)), 0, sha256(format('prompt {} {}', $task, i)),
       repeat(format('Example for {}.\nA. one\nB. two\nC. three\nD. four\nAnswer: B\n\n', $task), 5)
       || format('Question {} of {}: which of these follows from what was said about case {}?\nAnswer:', i, $task, i),
       CASE WHEN $kind = 'generate_until' THEN []::VARCHAR[] ELSE [' A', ' B', ' C', ' D'] END,
       CASE WHEN $kind = 'generate_until' THEN format('#### {}', i % 97) ELSE format('{}', i % 4) END, NULL
FROM range($documents) AS numbers(i)
"""

# Runs from the second half on evaluate the candidates of the first again, in another precision.
_CELLS = """
INSERT INTO cells
WITH counted AS (SELECT count(*) AS candidates FROM candidates),
who AS (SELECT fingerprint, row_number() OVER (ORDER BY created) - 1 AS place FROM candidates)
SELECT sha256(format('cell {} {}', i, name)), sha256(format('scope {} {}', i, name)), who.fingerprint,
       tasks.fingerprint, name, 'g0', 'transformers', CASE WHEN i < candidates THEN 'float32' ELSE 'bfloat16' END, NULL,
       0, 'all', 'task', 'done', NULL, n_docs, 0, n_docs / 20, n_docs * 400, n_docs * 1600, n_docs * 380, n_docs, 0,
       []::VARCHAR[], format('run-{:05d}', i), TIMESTAMP '2026-01-01' + i * INTERVAL 2 HOUR
FROM range($first, $last) AS numbers(i), counted, tasks, who
WHERE who.place = i % candidates AND output_type <> 'group'
ORDER BY i, tasks.rowid
"""

_OWN = "cells.run_id BETWEEN format('run-{:05d}', $first) AND format('run-{:05d}', $last - 1)"

# A document is as hard for everybody; a candidate adds its own ability and a little of its own luck.
_ANSWERED = f"""
SELECT cells.id AS cell_id, cells.rowid AS cell, documents.doc_id, task, output_type,
       hash(task, documents.doc_id) % 1000 AS hard, hash(candidate_fingerprint, task, documents.doc_id) AS luck,
       450 + hash(candidate_fingerprint) % 120 + hash(candidate_fingerprint, task) % 40 AS able,
       CASE WHEN luck % 100 < 6 THEN hard >= able ELSE hard < able END AS fits
FROM cells JOIN tasks ON tasks.fingerprint = cells.task_fingerprint
JOIN documents ON documents.task_fingerprint = tasks.fingerprint
WHERE {_OWN} AND kind = 'task'
"""

_SAMPLES = f"""
INSERT INTO samples
SELECT cell_id, doc_id, 'ok', NULL, [substr(md5(format('{{}} {{}}', task, doc_id)), 1, 16)],
       CASE WHEN output_type = 'generate_until'
            THEN format('["Let us see: case {{}} gives {{}} and so the answer is\\n#### {{}}"]',
                        doc_id, luck % 10000, CASE WHEN fits THEN doc_id % 97 ELSE luck % 97 END)
            ELSE format('[[{{:.4f}},{{}}],[{{:.4f}},{{}}],[{{:.4f}},{{}}],[{{:.4f}},{{}}]]',
                (-0.2 - 2 * (chosen <> 0)::INT - luck % 1000 / 999)::DOUBLE, (chosen = 0)::VARCHAR,
                (-0.2 - 2 * (chosen <> 1)::INT - luck % 1009 / 999)::DOUBLE, (chosen = 1)::VARCHAR,
                (-0.2 - 2 * (chosen <> 2)::INT - luck % 1013 / 999)::DOUBLE, (chosen = 2)::VARCHAR,
                (-0.2 - 2 * (chosen <> 3)::INT - luck % 1019 / 999)::DOUBLE, (chosen = 3)::VARCHAR) END,
       NULL
FROM (SELECT *, CASE WHEN fits THEN doc_id ELSE doc_id + 1 + luck % 3 END % 4 AS chosen FROM ({_ANSWERED}))
ORDER BY cell, doc_id
"""

_SCORES = f"""
INSERT INTO scores
SELECT cell_id, doc_id, filter, metric,
       (fits OR (metric = 'acc_norm' OR filter = 'flexible-extract') AND luck % 50 = 0)::INT,
       NULL
FROM ({_ANSWERED}) JOIN (VALUES
    ('mmlu', 'acc', 'none'), ('hellaswag', 'acc', 'none'), ('hellaswag', 'acc_norm', 'none'),
    ('truthfulqa_mc1', 'acc', 'none'), ('humaneval', 'pass@1', 'create_test'),
    ('gsm8k', 'exact_match', 'strict-match'), ('gsm8k', 'exact_match', 'flexible-extract'))
    AS metrics(prefix, metric, filter)
ON starts_with(task, prefix)
ORDER BY cell, doc_id, metric, filter
"""

_METRICS = f"""
INSERT INTO metrics
SELECT cell_id, metric, filter, avg(value) AS mean, sqrt(mean * (1 - mean) / count(*)) AS spread,
       mean - 1.96 * spread, mean + 1.96 * spread, true
FROM scores JOIN cells ON cells.id = cell_id WHERE {_OWN} GROUP BY ALL
"""

_GROUP_CELLS = f"""
INSERT INTO cells
SELECT sha256(run_id || ' ' || $family), sha256('scope ' || run_id || $family), candidate_fingerprint,
       sha256('task ' || $family), $family, 'g0', 'transformers', any_value(dtype), NULL, 0, 'all', 'group', 'done',
       NULL, sum(n), 0, sum(seconds), 0, 0, 0, 0, 0, $members, run_id, any_value(created)
FROM cells WHERE {_OWN} AND list_contains($members, task) GROUP BY run_id, candidate_fingerprint
"""

_GROUP_METRICS = f"""
INSERT INTO metrics
SELECT sha256(run_id || ' ' || $family), 'acc', 'none', sum(value * n) / sum(n) AS mean,
       sqrt(mean * (1 - mean) / sum(n)) AS spread, mean - 1.96 * spread, mean + 1.96 * spread, true
FROM cells JOIN metrics ON metrics.cell_id = cells.id
WHERE {_OWN} AND list_contains($members, task) AND metric = 'acc' GROUP BY run_id
"""

_RUN_CELLS = f"INSERT INTO run_cells SELECT run_id, id, 'done', created FROM cells WHERE {_OWN}"

_TRAININGS = """
INSERT INTO training_runs BY NAME
SELECT format('training-{}', row_number() OVER (ORDER BY created)) AS id, name,
       sha256('training ' || name) AS fingerprint,
       candidates.fingerprint AS candidate_fingerprint, 'done' AS status, created AS started,
       created + INTERVAL 50 MINUTE AS finished, 'tuneboard tune recipes/mine.yaml' AS command,
       CASE adapter_kind WHEN 'LORA' THEN 'lora' WHEN 'IA3' THEN 'ia3' ELSE 'prefix' END AS method, 'causal' AS kind,
       model_id AS base_id, model_sha256 AS base_sha256, 1 AS seed, '{"method":{"name":"lora"}}' AS recipe,
       '{"sources":[]}' AS data, '{"tuneboard":"0.1.0"}' AS versions, '{"cores":16}' AS hardware,
       adapter_path AS folder,
       400 AS steps, 2.0 AS epochs, 600 + hash(name) % 3000 AS seconds, 900.0 AS cpu_seconds, 4000000 AS tokens,
       1.4 AS loss, 2.4 AS first_validation_loss, 1.5 AS validation_loss, 380 AS best_step,
       1000000 + hash(name) % 9000000 AS trained_parameters, 1240000000 AS total_parameters,
       4 + hash(name) % 60 / 10.0 AS peak_memory_gib, 0 AS resumed, []::VARCHAR[] AS warnings
FROM candidates WHERE adapter_sha256 IS NOT NULL
"""

_CURVES = """
INSERT INTO training_curves
SELECT id, 10 * step, step / 20, curve,
       CASE curve WHEN 'learning_rate' THEN 0.0002 * (1 - step / 41)
            ELSE 1.4 + exp(-step / 10) + hash(id, step) % 100 / 2000 END
FROM training_runs, range(1, 41) AS steps(step),
     (VALUES ('loss'), ('learning_rate'), ('validation_loss')) AS curves(curve)
WHERE curve <> 'validation_loss' OR step % 5 = 0
"""

_COSTS = """
INSERT INTO costs (candidate_fingerprint, requests, machine, measured, tokens_per_s, latency_p95_s, peak_memory_gib)
SELECT fingerprint, 'requests', 'one machine', created, 900 + hash(name) % 400, 0.2 + hash(name) % 100 / 1000, 5.5
FROM candidates
"""

_VERDICTS = """
INSERT INTO verdicts
WITH judged AS (
    SELECT name, created, fingerprint, hash(name) % 10 AS luck, row_number() OVER (ORDER BY created) AS place,
           (SELECT min_by(name, created) FROM candidates AS base
            WHERE base.model_sha256 = candidates.model_sha256 AND base.adapter_sha256 IS NULL) AS base
    FROM candidates WHERE adapter_sha256 IS NOT NULL)
SELECT created, 'release', base, name, fingerprint,
       CASE WHEN luck < 6 THEN 'pass' WHEN luck < 8 THEN 'fail' ELSE 'inconclusive' END,
       CASE WHEN luck < 6 THEN 0 WHEN luck < 8 THEN 1 ELSE 3 END,
       json_object('schema', 1, 'policy', 'release', 'base', base, 'candidate', name,
                   'verdict', CASE WHEN luck < 6 THEN 'pass' WHEN luck < 8 THEN 'fail' ELSE 'inconclusive' END,
                   'exit_code', CASE WHEN luck < 6 THEN 0 WHEN luck < 8 THEN 1 ELSE 3 END,
                   'rules', []::VARCHAR[], 'reasons', []::VARCHAR[])
FROM judged
"""
