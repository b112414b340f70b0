"""The classic benchmarks on real data: lm-eval's numbers, or those of the libraries and rules that score them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from parity.judging import LOGPROB_TOLERANCE, compare
from parity.sides import Note, Outcome, Question, Subject, _tuneboard, lm_eval_side, tuneboard_side

from tuneboard.bundled import tasks_dir
from tuneboard.suites.mirror import Mirror

CHOICES = ("sst2", "rte", "boolq", "cb", "copa", "wic", "wsc", "rotten_tomatoes")
FOLDERS = ("glue", "super_glue", "lambada", "bbh")
#: Ours, which lm-eval can run too.
OURS = ("classification", "wikitext")
# With 1,024 new tokens, a chain of thought has no room in a context of 512.
HARD = ("bbh_fewshot_boolean_expressions",)
EVERYDAY = {
    "choices": Question(CHOICES, None, 4),
    "few-shot": Question(("cb",), 2, 3),
    "hard": Question(HARD, None, 2),
}
IN_FULL = {
    "choices": Question(CHOICES, None, 250),
    "few-shot": Question(("sst2", "rte", "cb", "copa"), 3, 150),
    "hard": Question(("bbh_fewshot",), None, 4),
}


def lm_eval_finds(subject: Subject, question: Question, mirror: Path, tuned: bool) -> Outcome:
    import lm_eval

    folder = Path(lm_eval.__file__).parent / "tasks"
    folders = (*(folder / name for name in FOLDERS), *(tasks_dir() / name for name in OURS))
    return lm_eval_side(subject, question, mirror, tuned, folders)


def hold(subject: Subject, question: Question, mirror: Path, db: Path, note: Note) -> None:
    """Hold base and adapter against lm-eval, sample by sample."""
    mine = tuneboard_side(subject, question, mirror, db)
    for tuned in (False, True):
        theirs = lm_eval_finds(subject, question, mirror, tuned)
        label = f"{subject.name}{' + adapter' if tuned else ''}"
        for task in theirs.samples:
            note(compare(task, mine[tuned], theirs, subject, tuned).line(f"{label}, {task}"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", EVERYDAY)
def test_a_few_documents_equal_lm_eval(case: str, stories: Subject, mirror: Path, tmp_path: Path, note: Note) -> None:
    hold(stories, EVERYDAY[case], mirror, tmp_path / "classic.duckdb", note)


@pytest.mark.accept
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("case", IN_FULL)
def test_many_documents_equal_lm_eval(case: str, stories: Subject, mirror: Path, tmp_path: Path, note: Note) -> None:
    hold(stories, IN_FULL[case], mirror, tmp_path / "classic.duckdb", note)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("limit", [6, pytest.param(500, marks=pytest.mark.accept)])
def test_last_words_equal_lm_eval_up_to_the_rounding_of_log_probabilities(
    limit: int, stories: Subject, mirror: Path, tmp_path: Path
) -> None:
    question = Question(("lambada_openai",), None, limit)
    mine = tuneboard_side(stories, question, mirror, tmp_path / "words.duckdb")[False]
    theirs = lm_eval_finds(stories, question, mirror, False)
    for key, reference in theirs.samples["lambada_openai"].items():
        sample = mine.samples["lambada_openai"][key]
        (ours,), (other,) = sample["responses"], reference["responses"]
        assert sample["prompt_hash"] == reference["prompt_hash"]
        assert abs(ours[0] - other[0]) < LOGPROB_TOLERANCE and ours[1] == other[1]
    found, expected = mine.metrics["lambada_openai"], theirs.metrics["lambada_openai"]
    assert found["acc,none"] == expected["acc,none"]
    assert found["perplexity,none"] == pytest.approx(expected["perplexity,none"], rel=LOGPROB_TOLERANCE)


@pytest.mark.accept
@pytest.mark.timeout(1800)
def test_chains_of_thought_equal_lm_eval(random29m: Subject, mirror: Path, tmp_path: Path, note: Note) -> None:
    question = Question(("bbh_cot_fewshot_boolean_expressions", "bbh_cot_zeroshot_navigate"), None, 2)
    hold(random29m, question, mirror, tmp_path / "thought.duckdb", note)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("limit", [2, pytest.param(62, marks=pytest.mark.accept)])
def test_pages_are_as_likely_as_lm_eval_finds_them(limit: int, stories: Subject, mirror: Path, tmp_path: Path) -> None:
    question = Question(("wikitext_tokens",), None, limit)
    mine = tuneboard_side(stories, question, mirror, tmp_path / "pages.duckdb")
    for tuned in (False, True):
        theirs = lm_eval_finds(stories, question, mirror, tuned)
        ours = mine[tuned].samples["wikitext_tokens"]
        assert len(ours) == limit
        for key, reference in theirs.samples["wikitext_tokens"].items():
            assert ours[key]["responses"][0][0] == pytest.approx(reference["responses"][0][0], rel=1e-6)
        assert mine[tuned].metrics["wikitext_tokens"] == pytest.approx(theirs.metrics["wikitext_tokens"], rel=1e-5)


def evaluated(subject: Subject, tasks: Sequence[str], limit: int, mirror: Path, db: Path) -> dict[str, Any]:
    """Evaluate the base; returns ``{task: {metric: value}}``."""
    arguments = ["--model", str(subject.model), "--mirror", str(mirror), "--tasks", ",".join(tasks), "--device", "cpu"]
    arguments += [
        "--dtype",
        "float32",
        "--limit",
        str(limit),
        "--gen-kwargs",
        "max_gen_toks=16",
        "--json",
        "--db",
        str(db),
    ]
    cells = json.loads(_tuneboard("evaluate", *arguments))["cells"]
    assert {(cell["status"], cell["failed"]) for cell in cells} == {("done", 0)}
    return {cell["task"]: {row["metric"]: row for row in cell["metrics"]} for cell in cells}


def samples(task: str, db: Path) -> list[Any]:
    lines = _tuneboard("export", "samples", "--candidate", "base", "--task", task, "--db", str(db)).splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.timeout(600)
def test_translations_score_as_sacrebleu_says(stories: Subject, mirror: Path, tmp_path: Path) -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    db = tmp_path / "wmt.duckdb"
    found = evaluated(stories, ["wmt22-de-en"], 6, mirror, db)["wmt22-de-en"]
    said = [sample["responses"][0] for sample in samples("wmt22-de-en", db)]
    rows = Mirror(mirror).open("wmt/wmt22", "de-en", "test", "t")["test"]
    right = [[row["translation"]["en"] for row in rows.select(range(6))]]

    assert found["bleu"]["value"] == sacrebleu.corpus_bleu(said, right).score
    assert found["chrf"]["value"] == sacrebleu.corpus_chrf(said, right).score
    assert found["ter"]["value"] == sacrebleu.corpus_ter(said, right).score
    assert all(found[name]["stderr"] is not None for name in ("bleu", "chrf", "ter"))


@pytest.mark.timeout(600)
def test_questions_and_pages_score_by_their_rules(stories: Subject, mirror: Path, tmp_path: Path) -> None:
    db = tmp_path / "squad.duckdb"
    found = evaluated(stories, ["squadv2", "rotten_tomatoes"], 6, mirror, db)
    squad = samples("squadv2", db)
    exact = [sample["metrics"]["exact"] for sample in squad]
    parts = [
        [s["metrics"][f"{kind}_f1"] for s in squad if s["metrics"].get(f"{kind}_f1") is not None]
        for kind in ("HasAns", "NoAns")
    ]

    assert found["squadv2"]["exact"]["value"] == pytest.approx(sum(exact) / 6)
    assert len(parts[0]) + len(parts[1]) == 6 and all(parts)
    assert found["squadv2"]["HasAns_f1"]["value"] == pytest.approx(sum(parts[0]) / len(parts[0]))
    assert found["squadv2"]["best_exact"]["value"] >= found["squadv2"]["exact"]["value"]
    found |= evaluated(stories, ["wikitext_tokens"], 2, mirror, db)
    pages = [sample["metrics"]["bits_per_byte"] for sample in samples("wikitext_tokens", db)]
    bits = -sum(page[0] for page in pages) / sum(page[1] for page in pages) / math.log(2)
    assert found["wikitext_tokens"]["bits_per_byte"]["value"] == pytest.approx(bits)
    assert found["wikitext_tokens"]["byte_perplexity"]["value"] == pytest.approx(2**bits)
    said = [max(range(2), key=lambda i, s=sample: s["responses"][i][0]) for sample in samples("rotten_tomatoes", db)]
    right = [int(sample["target"]) for sample in samples("rotten_tomatoes", db)]
    assert found["rotten_tomatoes"]["acc"]["value"] == pytest.approx(
        sum(a == b for a, b in zip(said, right, strict=True)) / 6
    )
