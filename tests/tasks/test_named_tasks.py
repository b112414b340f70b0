"""Every benchmark that tuneboard names resolves, runs offline, gives lm-eval's numbers and can be compared."""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import toy_mirror

from tuneboard import sandbox
from tuneboard.cli.main import main
from tuneboard.compare import compare
from tuneboard.config import SuiteTask
from tuneboard.headline import headline_metric
from tuneboard.store.pairs import load_scores
from tuneboard.suites import TaskRequest, find_suite, list_suites, load_tasks
from tuneboard.suites.index import task_index

#: Tasks and groups with the metric that stands for each.
CHOICES = {
    **dict.fromkeys(("sst2", "rte", "qnli", "mnli", "mnli_mismatch", "wnli"), "acc"),
    **{"cola": "mcc", "mrpc": "acc", "qqp": "acc", "stsb": "pearson"},
    **dict.fromkeys(("boolq", "cb", "copa", "wic", "wsc", "multirc", "sglue_rte"), "acc"),
    "record": "f1",
    "xnli": "acc",
    **dict.fromkeys(("arc_easy", "arc_challenge", "piqa", "openbookqa"), "acc_norm"),
    "winogrande": "acc",
    "rotten_tomatoes": "acc",
    **{f"bigbench_{name}_multiple_choice": "acc" for name in toy_mirror.BIG[:2]},
}
TEXTS = {
    "squad": "f1",
    "squadv2": "f1",
    **dict.fromkeys(("wmt14-en-fr", "wmt14-fr-en", "wmt16-en-de", "wmt16-de-en", "wmt16-en-ro", "wmt16-ro-en"), "bleu"),
    **dict.fromkeys(("wmt22-en-de", "wmt22-de-en"), "bleu"),
    **dict.fromkeys(("samsum", "dialogsum", "xsum"), "rougeL"),
    "cnn_dailymail": "rougeLsum",
    "bigbench_simple_arithmetic_json_generate_until": "exact_match",
}
HARD = {"bbh_fewshot": "exact_match", "bbh_cot_fewshot": "exact_match"}
ROLLING = {"wikitext": "word_perplexity", "wikitext_tokens": "word_perplexity"}
LAST_WORDS = {"lambada_openai": "acc", "lambada_standard": "acc"}
PROGRAMS = dict.fromkeys(("mbpp", "mbpp_instruct", "mbpp_plus", "mbpp_plus_instruct"), "pass_at_1")
NAMED = {**CHOICES, **TEXTS, **HARD, **ROLLING, **LAST_WORDS, **PROGRAMS}

#: lm-eval 0.4.13 lacks these, or cannot load or score them without the network or under transformers 5.
OURS = {"stsb", "record", "squad", "squadv2", "wmt22-en-de", "wmt22-de-en", "rotten_tomatoes", "wikitext_tokens"}
OURS |= {"samsum", "dialogsum", "xsum", "cnn_dailymail", *PROGRAMS}
THEIRS = [name for name in NAMED if name not in OURS]
#: Folders of lm-eval's own tasks in which the rest stands.
FOLDERS = ("glue", "super_glue", "xnli", "arc", "piqa", "openbookqa", "winogrande", "bigbench", "bbh", "translation")
FOLDERS += ("wikitext", "lambada")

SUITES = {"glue", "superglue", "translation", "summarization", "bbh", "multilingual", "perplexity", "classification"}
#: In hindsight, one threshold is chosen for the whole corpus: no sums make that score.
NOT_PAIRED = {("squadv2", "best_exact"), ("squadv2", "best_f1")}


@pytest.fixture(scope="module")
def no_network() -> Iterator[None]:
    def refuse(*args: Any, **settings: Any) -> Any:
        raise AssertionError(f"tried to reach {args}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        yield


@pytest.fixture(scope="module")
def names() -> list[str]:
    """All of them; programs only where something isolates them."""
    return [name for name in NAMED if name not in PROGRAMS or sandbox.isolation().available]


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("named") / "named.duckdb"


@pytest.fixture(scope="module")
def world(make_world: Callable[..., Any]) -> Any:
    """The fake engine answers questions in texts now rightly, now nearly so."""
    towns = {f"Which town is the {animal} of?\n\nAnswer:": f" {town}." for animal, town in _pairs()[:3]}
    german = {f"English phrase: {toy_mirror._sentence(i)}\nGerman phrase:": f" {_german(i)}" for i in range(4)}
    return make_world({**towns, **german})


def _pairs() -> list[tuple[str, str]]:
    return list(zip(toy_mirror._ANIMALS, toy_mirror._TOWNS, strict=True))


def _german(i: int) -> str:
    return toy_mirror._phrase(i, "de")["translation"]["de"]


@pytest.fixture(scope="module")
def evaluated(world: Any, toys: Path, db: Path, names: list[str], no_network: None) -> Any:
    return world.evaluate(names, toys, db)


def test_every_named_task_runs_offline_on_toy_data(evaluated: Any, names: list[str]) -> None:
    results = {(one.candidate.name, one.task.name): one for one in evaluated.results}

    assert {one.reason for one in evaluated.results if one.status != "done"} == set()
    assert {one.failed for one in evaluated.results} == {0}
    for candidate in ("base", "tuned"):
        for name in names:
            metric = headline_metric(name, results[candidate, name].metrics)
            assert metric is not None and metric.metric == NAMED[name], name
            assert math.isfinite(metric.value), name
    assert len(results["base", "xnli"].members) == 15
    assert {len(results["base", name].members) for name in HARD} == {27}


def test_their_numbers_are_those_of_lm_eval(
    evaluated: Any, world: Any, toys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets
    import lm_eval
    from lm_eval.tasks import TaskManager

    from tuneboard.engines.lm_eval_model import EngineLM

    folder = Path(lm_eval.__file__).parent / "tasks"
    manager = TaskManager(include_path=[folder / name for name in FOLDERS], include_defaults=False)
    monkeypatch.setattr(datasets, "load_dataset", lambda path, name=None, **_: toy_mirror.load(toys, path, name))
    found = lm_eval.simple_evaluate(
        model=EngineLM(world.engine(), "tuned"), tasks=THEIRS, task_manager=manager, bootstrap_iters=0
    )

    theirs = {
        (task, key): value
        for task, metrics in found["results"].items()
        for key, value in metrics.items()
        if "," in key and "_stderr" not in key and isinstance(value, float | int)
    }
    ours = {
        (one.task.name, f"{metric.metric},{metric.filter}"): metric.value
        for one in evaluated.results
        for metric in one.metrics
        if one.candidate.name == "tuned"
    }
    assert {task for task, _ in theirs} >= set(THEIRS)
    assert {key: ours.get(key) for key in theirs} == pytest.approx(theirs, abs=1e-12)


def test_base_and_candidate_compare_on_every_metric(evaluated: Any, db: Path, names: list[str]) -> None:
    scores = load_scores(db, "base", ["tuned"])
    (found,) = compare(scores).candidates
    rows = {(row.task, row.metric): row for row in found.tasks}

    assert {(one.task, one.metric) for one in found.refused} == NOT_PAIRED
    for name in names:
        row = next(row for row in found.tasks if row.task == name and row.headline)
        assert row.metric == NAMED[name], name
        assert row.margin is not None and row.margin > 0, name
        assert row.effect.ci[0] <= row.delta <= row.effect.ci[1], name
    assert "whole corpus" in rows["stsb", "pearson"].effect.why
    assert "whole corpus" in rows["stsb", "spearman"].effect.why
    assert "whole corpus" in rows["cb", "f1"].effect.why
    assert "whole corpus" in rows["cola", "mcc"].effect.why
    assert "whole corpus" in rows["wmt22-en-de", "bleu"].effect.why
    assert "whole corpus" in rows["wikitext_tokens", "bits_per_byte"].effect.why
    assert rows["sst2", "acc"].effect.test == "McNemar exact, Tango interval"
    assert rows["samsum", "rougeL"].margin == pytest.approx(0.01)
    assert rows["squadv2", "f1"].effect.test == rows["dialogsum", "rougeL"].effect.test == "t with clustered errors"


def test_a_score_of_some_questions_leaves_out_none(evaluated: Any, db: Path) -> None:
    (found,) = compare(load_scores(db, "base", ["tuned"])).candidates
    rows = {row.metric: row for row in found.tasks if row.task == "squadv2"}

    assert (rows["exact"].n, rows["HasAns_exact"].n, rows["NoAns_exact"].n) == (6, 3, 3)
    assert {row.left_out for row in rows.values()} == {0}
    assert rows["HasAns_f1"].margin == pytest.approx(25.0)


def test_corpus_metrics_of_texts_keep_the_signature_of_sacrebleu(
    evaluated: Any, db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    assert main(["show", "wmt22-en-de", "--db", str(db), "--json"]) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]

    version = sacrebleu.__version__
    assert f"wmt22-en-de: bleu is nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{version}" in notes
    assert f"wmt22-en-de: chrf is nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:{version}" in notes
    assert main(["show", "wmt16-de-en", "--db", str(db)]) == 0
    assert "tok:13a" in capsys.readouterr().out


def test_each_language_is_shown_with_its_gap_to_english(
    evaluated: Any, db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", "xnli", "--db", str(db), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    of = {(row["candidate"], row["task"]): row for row in found["languages"]}
    english, french = of["tuned", "xnli_en"], of["tuned", "xnli_fr"]

    assert len(of) == 30 and english["gap"] is None
    assert french["gap"] == pytest.approx(french["value"] - english["value"])
    gaps = [of["tuned", f"xnli_{name}"]["gap"] for name in toy_mirror.LANGUAGES if name != "en"]
    assert found["mean_gap"]["tuned"] == pytest.approx(sum(gaps) / 14)
    assert main(["show", "xnli", "--db", str(db)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["acc", "by", "language", "base", "gap", "tuned", "gap"] for line in lines)
    assert any(line.startswith("mean gap to English") for line in lines)
    main(["show", "sst2", "--db", str(db)])
    assert "by language" not in capsys.readouterr().out


def test_show_tasks_tells_source_metrics_examples_and_size(
    toys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--db", str(tmp_path / "none.duckdb"), "--mirror", str(toys), "--json"]
    assert main(["show", "tasks", *arguments]) == 0
    rows = {row["task"]: row for row in json.loads(capsys.readouterr().out)["tasks"]}

    assert set(NAMED) <= set(rows)
    leaves = [name for name in NAMED if rows[name]["kind"] == "task"]
    assert set(NAMED) - set(leaves) == {"xnli", *HARD}
    for name in NAMED:
        assert rows[name]["metric"], name
        assert rows[name]["size"] == {"xnli": 90}.get(name, 162 if name in HARD else 6), name
    for name in leaves:
        assert rows[name]["source"] and rows[name]["num_fewshot"] is not None, name
    assert rows["stsb"] == {
        "task": "stsb",
        "kind": "task",
        "source": "nyu-mll/glue stsb",
        "metric": "pearson, spearman",
        "num_fewshot": 0,
        "size": 6,
        "results": 0,
    }
    assert (rows["mbpp"]["num_fewshot"], rows["mbpp"]["metric"]) == (3, "pass_at_1")
    assert rows["super-glue-lm-eval-v1"]["size"] == 48 and rows["record"]["source"] == "aps/super_glue record"


def test_sizes_are_unknown_where_no_data_is_at_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "tasks", "sst2", "--db", str(tmp_path / "none.duckdb"), "--json"]) == 0
    assert {row["size"] for row in json.loads(capsys.readouterr().out)["tasks"] if row["task"] == "sst2"} == {None}


@pytest.mark.parametrize("name", sorted(SUITES))
def test_suites_load_with_roles_headlines_and_a_description(name: str, toys: Path) -> None:
    suite = find_suite(name)
    # The toys have too few rows for five examples.
    tasks = tuple(SuiteTask(one.task, role=one.role, headline=one.headline, limit=3) for one in suite.tasks)
    loaded = load_tasks(TaskRequest(tasks, mirror=toys, num_fewshot=None))

    assert suite.description and name in {one.name for one in list_suites()}
    assert all(one.headline for one in suite.tasks)
    assert {one.role for one in suite.tasks} <= {"guard", "none"}
    assert all((one.limit is None) == (one.sample_seed is None) for one in suite.tasks)
    assert {one.task for one in suite.tasks} <= set(NAMED)
    assert loaded.tasks


@pytest.mark.accept
def test_all_of_big_bench_runs_on_toy_data(world: Any, tmp_path: Path, no_network: None) -> None:
    index = {name: one for name, one in task_index().items() if name.startswith("bigbench_") and one.kind == "task"}
    mirror = toy_mirror.write_big_bench(tmp_path, {str(one.facts.config) for one in index.values()})
    found = world.evaluate(sorted(index), mirror, tmp_path / "big.duckdb")

    assert len(index) > 280
    assert {(one.status, one.failed, one.n) for one in found.results} == {("done", 0, 3)}
