"""Tasks that stand in for lm-eval's own ask what those ask, and score as those would."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import toy_mirror
from task_yaml import settings

from tuneboard import bundled, sandbox
from tuneboard.config import SuiteTask
from tuneboard.suites import TaskRequest, build_requests, load_tasks

pytest.importorskip("lm_eval")


@pytest.fixture(scope="module")
def their_folder() -> Path:
    import lm_eval

    return Path(lm_eval.__file__).parent / "tasks"


@pytest.fixture
def theirs(their_folder: Path, toys: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str, int], Any]]:
    """Build lm-eval's own task on the toy data, with a stand-in for the module that transformers 5 dropped."""
    import datasets
    from lm_eval.tasks import TaskManager

    monkeypatch.setattr(datasets, "load_dataset", lambda path, name=None, **_: toy_mirror.load(toys, path, name))
    gone = ModuleType("squad_metrics")
    gone.compute_f1, gone.compute_exact = _their_f1, _their_exact  # type: ignore[attr-defined]
    for name in ("transformers.data", "transformers.data.metrics"):
        monkeypatch.setitem(sys.modules, name, sys.modules.get(name) or ModuleType(name))
    monkeypatch.setattr(sys.modules["transformers.data.metrics"], "squad_metrics", gone, raising=False)
    monkeypatch.setitem(sys.modules, "transformers.data.metrics.squad_metrics", gone)

    def build(family: str, name: str, shots: int) -> Any:
        manager = TaskManager(include_path=their_folder / family, include_defaults=False)
        task = manager.load([name])["tasks"][name]
        task.set_config("num_fewshot", shots)
        task.set_fewshot_seed(1234)
        return task

    yield build
    sys.modules.pop("lm_eval.tasks.super_glue.record.util", None)


def _their_f1(gold: str, said: str) -> float:
    """Of single words, which are all that the toy data has beside articles."""
    return float(_their_exact(gold, said))


def _their_exact(gold: str, said: str) -> int:
    one, other = ([word for word in text.lower().split() if word != "the"] for text in (gold, said))
    return int(one == other)


def ours(name: str, toys: Path, shots: int) -> Any:
    return load_tasks(TaskRequest((SuiteTask(name),), mirror=toys, num_fewshot=shots)).tasks[name]


# lm-eval's squadv2 cannot show examples: its doc_to_text does not take what is handed to it.
@pytest.mark.parametrize(
    ("family", "name", "shots"), [("squadv2", "squadv2", 0), ("super_glue", "record", 0), ("super_glue", "record", 2)]
)
def test_requests_are_those_of_lm_eval(
    family: str, name: str, shots: int, theirs: Callable[[str, str, int], Any], toys: Path
) -> None:
    mine, reference = ours(name, toys, shots), theirs(family, name, shots)
    mine_asked = build_requests(mine, range(len(mine.eval_docs)))
    reference.build_all_requests(limit=None, rank=0, world_size=1, cache_requests=False, rewrite_requests_cache=False)

    assert [(one.request_type, one.args, one.idx, one.doc_id) for one in mine_asked] == [
        (one.request_type, one.args, one.idx, one.doc_id) for one in reference.instances
    ]
    assert [one.doc for one in mine_asked] == [one.doc for one in reference.instances]
    assert list(mine.eval_docs[0]) == list(reference.eval_docs[0])  # the hash of a document knows its order
    assert [mine.doc_to_target(doc) for doc in mine.eval_docs] == [
        reference.doc_to_target(doc) for doc in reference.eval_docs
    ]
    assert mine.higher_is_better() == reference.higher_is_better()
    assert mine.VERSION == reference.VERSION


def test_examples_of_squadv2_answer_behind_one_blank(toys: Path) -> None:
    task = ours("squadv2", toys, 2)
    text, none = build_requests(task, [0])
    assert text.args[0].count("Answer: ") == 2 and "Answer:  " not in text.args[0]
    assert none.args == (text.args[0], " unanswerable")


def test_record_scores_the_same_entity(theirs: Callable[[str, str, int], Any], toys: Path) -> None:
    mine, reference, draw = ours("record", toys, 0), theirs("super_glue", "record", 0), random.Random(1)
    for doc in mine.eval_docs:
        answers = [(-draw.random(), False) for _ in doc["entities"]]
        found, expected = mine.process_results(doc, answers), reference.process_results(doc, answers)
        assert found == pytest.approx({name: float(value) for name, value in expected.items()})


@pytest.mark.parametrize("name", ["mbpp", "mbpp_instruct", "mbpp_plus", "mbpp_plus_instruct"])
def test_mbpp_asks_what_lm_eval_asks(name: str, their_folder: Path) -> None:
    mine, reference = settings(bundled.tasks_dir() / "mbpp", name), settings(their_folder / "mbpp", name)

    # Filters run the programs here, where lm-eval's build them at most; without one, lm-eval calls its own "none".
    named = [one["name"] for one in mine.pop("filter_list")]
    assert named == [one["name"] for one in reference.pop("filter_list", [{"name": "none"}])]
    shown = mine["fewshot_config"].pop("samples"), reference["fewshot_config"].pop("samples")
    assert shown == ("shown_problems", "list_fewshot_samples")
    assert mine == reference


@pytest.fixture
def their_mbpp(their_folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """lm-eval's module, whose scorer would be downloaded, with one that does nothing."""
    import importlib.util

    import evaluate

    class Nothing:
        def compute(self, **_: Any) -> Any:
            return [{"pass@1": 0.0}]

    monkeypatch.setattr(evaluate, "load", lambda name: Nothing())
    spec = importlib.util.spec_from_file_location("their_mbpp", their_folder / "mbpp" / "utils.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_mbpp_shows_lm_evals_examples(scorer: Callable[[str], ModuleType], their_mbpp: ModuleType) -> None:
    assert scorer("mbpp").shown_problems() == their_mbpp.list_fewshot_samples()


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n    return 1\n```\nThis is how.",
        "def f(): pass",
        "\n```python\ndef f(): pass\n```",
        "x = 1\n```\n```python\ny = 2\n```",
        "python\nx = 1\n```",
        "",
        "```",
    ],
)
def test_mbpp_takes_the_block_that_lm_eval_takes(
    text: str, scorer: Callable[[str], ModuleType], their_mbpp: ModuleType
) -> None:
    assert scorer("mbpp")._first_block(text) == their_mbpp.extract_code_blocks(text)


@pytest.mark.skipif(not sandbox.isolation().available, reason=sandbox.isolation().reason)
def test_mbpp_counts_answers_that_pass_their_tests(scorer: Callable[[str], ModuleType]) -> None:
    mbpp = scorer("mbpp")
    docs = [{"test_list": ["assert add(1) == 3", "assert add(2) == 4", "assert add(0) == 2"]}] * 3
    right, wrong, lucky = "def add(x): return x + 2", "def add(x): return x", "def add(x): return 3"
    endings = mbpp.run_answers([[right, wrong], [right], ["os._exit(0)"]], docs)

    assert [[one["status"] for one in each] for each in endings] == [["passed", "failed"], ["passed"], ["failed"]]
    assert mbpp.pass_at_1(["tests"], [endings[0]]) == 0.5
    assert mbpp.pass_at_1(["tests"], [endings[1]]) == 1.0
    (fenced,), (one,) = (
        run([[f"\n{lucky}\n```\nDone."]], docs[:1])
        for run in (mbpp.run_first_blocks, mbpp.run_first_blocks_on_one_test)
    )
    assert (fenced[0]["status"], one[0]["status"]) == ("failed", "passed")


def test_stsb_rates_by_the_mean_grade_and_correlates_as_scipy_does(scorer: Callable[[str], ModuleType]) -> None:
    from scipy.stats import pearsonr, spearmanr

    stsb, draw = scorer("glue"), random.Random(3)
    even = stsb.ratings({"label": 2.6}, [(-5.0, False)] * 6)
    assert even["pearson"] == even["spearman"] == pytest.approx((2.6, 2.5))
    sure = stsb.ratings({"label": 5.0}, [(-900.0 if grade < 5 else -1.0, False) for grade in range(6)])
    assert sure["pearson"] == pytest.approx((5.0, 5.0))
    third = stsb.ratings({"label": 0.0}, [(math.log(p), False) for p in (0.5, 0.25, 0.25, 1e-9, 1e-9, 1e-9)])
    assert third["pearson"] == pytest.approx((0.0, 0.75))

    items = [(round(draw.random() * 5, 1), draw.random() * 5) for _ in range(60)]
    items += [(2.0, 1.0), (2.0, 1.0)]  # ties
    assert stsb.pearson(items) == pytest.approx(pearsonr(*zip(*items, strict=True)).statistic, abs=1e-12)
    assert stsb.spearman(items) == pytest.approx(spearmanr(*zip(*items, strict=True)).statistic, abs=1e-12)
    assert stsb.pearson([(1.0, 2.0), (3.0, 2.0)]) == stsb.spearman([(1.0, 2.0)]) == 0.0
    assert stsb.pearson([(label, 0.1) for label, _ in items]) == 0.0


def test_summaries_score_as_rouge_score_does_with_stemming(scorer: Callable[[str], ModuleType]) -> None:
    rouge = pytest.importorskip("rouge_score.rouge_scorer")
    reference, said = "Birds were seen in Arden .\nThey flew on .", " The bird flies on.\nIt was seeing Arden "
    found = scorer("summarization").rouge({"article": "x", "highlights": reference}, [said])

    expected = rouge.RougeScorer(list(found), use_stemmer=True).score(reference, said.strip())
    assert found == {kind: score.fmeasure for kind, score in expected.items()}
    assert found["rouge1"] > rouge.RougeScorer(["rouge1"]).score(reference, said)["rouge1"].fmeasure
    assert found["rougeL"] != found["rougeLsum"]
    same = scorer("summarization").rouge({"dialogue": "x", "summary": "Birds in Arden."}, ["Birds in Arden."])
    assert set(same.values()) == {1.0}
