"""Which requests are asked, what is reused, and what failures do."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tuneboard.config import SuiteTask
from tuneboard.engines.fake import Behaviour
from tuneboard.errors import AdapterError, DataError, EngineError, NameTaken
from tuneboard.evaluate import PromptSettings
from tuneboard.records import Candidate, ModelRef
from tuneboard.store import queries
from tuneboard.store.database import reading
from tuneboard.store.journal import journal_folder


def statuses(evaluation: Any) -> dict[tuple[str, str], str]:
    return {(one.candidate.name, one.task.name): one.status for one in evaluation.results}


def value(evaluation: Any, task: str, metric: str = "acc", filter: str = "none", candidate: str = "base") -> float:
    (result,) = (r for r in evaluation.results if (r.candidate.name, r.task.name) == (candidate, task))
    (found,) = (m.value for m in result.metrics if (m.metric, m.filter) == (metric, filter))
    return found


def samples(db: Path, task: str, candidate: str = "base") -> list[dict[str, Any]]:
    return list(queries.samples(db, candidate, task))


def journals(db: Path) -> list[Path]:
    return sorted(journal_folder(db).glob("*")) if journal_folder(db).exists() else []


def is_sum(work: Any, question: str) -> bool:
    return work.kind == "generate_until" and work.arguments[0].endswith(f"Q: {question}\nA:")


def test_identical_requests_of_several_tasks_and_of_twin_documents_are_asked_once(make_bench: Any) -> None:
    bench = make_bench("a")
    evaluation = bench("toy_mc1", "toy_mc2", "toy_sums")

    asked = Counter((work.candidate, work.kind, repr(work.arguments)) for work in bench.asked)
    assert max(asked.values()) == 1
    assert len([work for work in bench.asked if work.kind == "loglikelihood"]) == 2 * 14
    assert len([work for work in bench.asked if work.kind == "generate_until"]) == 2 * 8  # nine sums, one twice
    assert set(statuses(evaluation).values()) == {"done"}
    for candidate in ("base", "a"):
        one, two = (samples(bench.db, task, candidate) for task in ("toy_mc1", "toy_mc2"))
        assert [s["responses"] for s in one] == [s["responses"] for s in two]
        assert [s["filter"] for s in samples(bench.db, "toy_sums", candidate)].count("strict-match") == 9


def test_a_larger_limit_asks_only_for_the_new_documents(bench: Any) -> None:
    small = bench("toy_legs", limit=4)
    assert [work.arguments[0].count("Q:") for work in bench.asked] == [4] * 16
    large = bench("toy_legs", limit=7)
    assert len(bench.asked) == 12
    again = bench("toy_legs", limit=4)

    assert bench.engines == []
    assert statuses(small) == statuses(large) == {("base", "toy_legs"): "done"}
    assert statuses(again) == {("base", "toy_legs"): "reused"}
    assert value(again, "toy_legs") == value(small, "toy_legs")
    assert [cell.n for cell in queries.cells(bench.db)] == [4, 7]
    assert [s["doc_id"] for s in samples(bench.db, "toy_legs")] == [0, 1, 2, 3]


def test_requests_that_were_cut_are_counted_whichever_run_asked_them(bench: Any, make_bench: Any) -> None:
    bench.behaviour = Behaviour(bench.behaviour.texts, room=7)
    whole = make_bench(name="whole")("toy_mc2", behaviour=bench.behaviour)
    small, grown = bench("toy_mc2", limit=2), bench("toy_mc2")
    cut = [evaluation.results[0].tokens.truncated for evaluation in (small, grown, whole)]
    assert 0 < cut[0] < cut[1] == cut[2]


def test_limits_and_whole_tasks_score_the_same_documents_alike(make_bench: Any) -> None:
    whole, grown = make_bench(name="whole"), make_bench(name="grown")
    whole("toy_quizzes", "toy_sums")
    for limit in (1, 3, None):
        grown("toy_quizzes", "toy_sums", limit=limit)
    with reading(whole.db) as one, reading(grown.db) as two:
        sql = """SELECT cells.task, doc_id, filter, metric, value FROM scores JOIN cells ON cell_id = cells.id
                 WHERE documents = 'all' ORDER BY ALL"""
        assert one.execute(sql).fetchall() == two.execute(sql).fetchall()


def test_a_finished_evaluation_is_reused_without_an_engine_and_says_so(make_bench: Any) -> None:
    bench = make_bench("a")
    first = bench("toy_school", "toy_sums", "toy_tales")
    second = bench("toy_school", "toy_sums", "toy_tales")

    assert bench.engines == []
    assert set(statuses(first).values()) == {"done"}
    assert set(statuses(second).values()) == {"reused"}
    assert statuses(first).keys() == statuses(second).keys()
    for one, two in zip(first.results, second.results, strict=True):
        assert (one.metrics, one.n, one.members) == (two.metrics, two.n, two.members)
    assert {status for _, _, status in bench.ear.done_cells} == {"reused"}
    runs = {run.id: run.statuses for run in queries.runs(bench.db)}
    assert runs == {first.run: {"done": 14}, second.run: {"reused": 14}}
    assert journals(bench.db) == []


def test_a_failed_sample_is_counted_not_scored_and_tried_again(bench: Any) -> None:
    fails = Behaviour(bench.behaviour.texts, fails=lambda work: is_sum(work, "5 + 6") or "ice" in work.arguments[0])
    first = bench("toy_sums", "toy_mc1", behaviour=fails)

    assert [(r.task.name, r.status, r.n, r.failed) for r in first.results] == [
        ("toy_sums", "done", 8, 1),
        ("toy_mc1", "done", 3, 1),
    ]
    (failed,) = (s for s in samples(bench.db, "toy_sums") if s["status"] == "failed" and s["filter"] == "strict-match")
    assert (failed["doc_id"], failed["responses"], failed["metrics"]) == (2, [None], {"exact_match": None})
    assert "told to fail" in failed["reason"]
    with reading(bench.db) as connection:
        assert connection.execute("SELECT count(*) FROM scores WHERE doc_id = 2 AND value IS NOT NULL").fetchone() == (
            1,  # of toy_mc1, whose third document is sound
        )

    second = bench("toy_sums", "toy_mc1")
    assert len(bench.asked) == 1 + 3
    assert [(r.status, r.n, r.failed) for r in second.results] == [("done", 9, 0), ("done", 4, 0)]
    assert [(cell.n, cell.failed, cell.run) for cell in queries.cells(bench.db)] == [
        (4, 0, second.run),
        (9, 0, second.run),
    ]
    assert len(samples(bench.db, "toy_mc1")) == 4
    assert set(statuses(bench("toy_sums", "toy_mc1")).values()) == {"reused"}


def test_the_same_failure_again_leaves_the_earlier_result(bench: Any) -> None:
    fails = Behaviour(fails=lambda work: "ice" in work.arguments[0])
    first = bench("toy_mc1", behaviour=fails)
    second = bench("toy_mc1", behaviour=fails)
    assert len(bench.asked) == 3
    assert (first.results[0].metrics, 1) == (second.results[0].metrics, second.results[0].failed)
    assert [cell.run for cell in queries.cells(bench.db)] == [first.run]


def test_groups_follow_when_a_failed_sample_is_mended(bench: Any) -> None:
    bench("toy_quizzes", behaviour=Behaviour(fails=lambda work: "green" in work.arguments[0]))
    mended = bench("toy_quizzes")
    sound = queries.results(bench.db, task="toy_quizzes")
    assert [(r.n, r.failed, r.metrics) for r in sound] == [(17, 0, mended.results[-1].metrics)]


def test_an_engine_that_breaks_fails_what_is_left_and_the_next_run_goes_on(bench: Any) -> None:
    broken = bench("toy_mc1", "toy_legs", behaviour=Behaviour(breaks_at=28, pass_requests=4))
    assert [(r.status, r.n, r.failed) for r in broken.results] == [("done", 4, 0), ("done", 3, 9)]
    assert "told to break" in broken.results[1].reason
    answered = len(bench.asked)
    mended = bench("toy_mc1", "toy_legs")
    assert mended.sound
    assert [r.failed for r in mended.results] == [0, 0]
    assert 14 + 48 <= answered + len(bench.asked) <= 14 + 48 + 4


def test_a_request_that_the_engine_leaves_out_is_a_failed_sample(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from tuneboard.engines.fake import FakeEngine

    original = FakeEngine.run
    monkeypatch.setattr(FakeEngine, "run", lambda self, work: original(self, work[:-1]))
    (result,) = bench("toy_mc1").results
    assert (result.n, result.failed, result.reason) == (3, 1, "the engine gave no answer")


def test_a_cell_without_any_answer_has_failed(bench: Any) -> None:
    evaluation = bench("toy_mc1", "toy_tales", behaviour=Behaviour(fails=lambda w: w.kind == "loglikelihood_rolling"))
    assert statuses(evaluation) == {("base", "toy_mc1"): "done", ("base", "toy_tales"): "failed"}
    assert not evaluation.sound
    mended = bench("toy_mc1", "toy_tales")
    assert statuses(mended) == {("base", "toy_mc1"): "reused", ("base", "toy_tales"): "done"}


def test_a_task_that_cannot_score_does_not_stop_the_others(make_bench: Any) -> None:
    bench = make_bench("a")
    evaluation = bench("toy_unscorable", "toy_mc1", "toy_sums")
    found = statuses(evaluation)
    assert {found[name, "toy_unscorable"] for name in ("base", "a")} == {"failed"}
    assert {status for (_, task), status in found.items() if task != "toy_unscorable"} == {"done"}
    reasons = {r.reason for r in evaluation.results if r.status == "failed"}
    assert reasons == {"scoring failed: KeyError: 'no such column'"}
    again = bench("toy_unscorable")
    assert bench.asked == []  # the answers are in its journal
    assert not again.sound


def test_a_task_that_cannot_write_its_prompts_is_refused_before_anything_is_stored(bench: Any) -> None:
    with pytest.raises(DataError, match=r"'toy_unwritable' cannot write its prompts: ZeroDivisionError"):
        bench("toy_mc1", "toy_unwritable")
    assert not bench.db.exists()
    assert journals(bench.db) == []


def test_an_adapter_that_changes_nothing_is_invalid_and_the_others_are_evaluated(
    make_bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuneboard.engines.fake import FakeEngine

    bench = make_bench("a", "idle")
    original = FakeEngine.attach

    def attach(self: FakeEngine, name: str, adapter: Any) -> None:
        original(self, name, adapter)
        if name == "idle":
            self._weights[name] = self._weights[""]

    monkeypatch.setattr(FakeEngine, "attach", attach)
    evaluation = bench("toy_mc1", "toy_quizzes")
    found = statuses(evaluation)
    assert {status for (name, _), status in found.items() if name == "idle"} == {"invalid"}
    assert {status for (name, _), status in found.items() if name != "idle"} == {"done"}
    assert {work.candidate for work in bench.asked} == {"", "a"}
    assert not evaluation.sound
    reasons = {r.reason for r in evaluation.results if r.status == "invalid" and r.kind == "task"}
    assert len(reasons) == 1 and "'idle' was not applied" in reasons.pop()


def test_an_adapter_whose_weights_are_broken_is_invalid_and_the_others_are_evaluated(make_bench: Any) -> None:
    bench = make_bench("a", "nan")
    evaluation = bench("toy_mc1", behaviour=Behaviour(fails=lambda work: work.candidate == "nan"))
    assert statuses(evaluation) == {
        ("base", "toy_mc1"): "done",
        ("a", "toy_mc1"): "done",
        ("nan", "toy_mc1"): "invalid",
    }
    with pytest.raises(EngineError, match="the base cannot score a canary"):
        make_bench("a", name="other")("toy_mc1", behaviour=Behaviour(fails=lambda work: work.candidate == ""))


def test_an_adapter_that_does_not_fit_stops_all_and_leaves_no_trace(make_bench: Any) -> None:
    bench = make_bench("a")
    bench("toy_mc1", candidates=bench.candidates[:1])
    before = queries.runs(bench.db)
    refuses = Behaviour(refuses=frozenset({bench.candidates[1].adapter.sha256}))
    with pytest.raises(AdapterError, match="does not fit"):
        bench("toy_mc1", "toy_mc2", behaviour=refuses)
    assert bench.engines[0].closed
    assert queries.runs(bench.db) == before
    assert [model.name for model in queries.models(bench.db)] == ["base"]
    assert journals(bench.db) == []


def test_full_checkpoints_are_loaded_one_after_the_other(make_bench: Any, world: Any, tmp_path: Path) -> None:
    from tuneboard.candidates import resolve_model

    bench = make_bench("a")
    full = Candidate("full", resolve_model(ModelRef(str(world.make_model(tmp_path / "full", "other")))))
    evaluation = bench("toy_mc1", candidates=(*bench.candidates, full))
    assert set(statuses(evaluation).values()) == {"done"}
    assert [engine.ref.sha256 for engine in bench.engines] == [bench.candidates[0].model.sha256, full.model.sha256]
    assert [engine.closed for engine in bench.engines] == [True, True]
    assert len({value(evaluation, "toy_mc1", candidate=name) for name in ("base", "a", "full")}) > 0
    assert len({repr(samples(bench.db, "toy_mc1", name)[0]["responses"]) for name in ("base", "a", "full")}) == 3


def test_twin_documents_are_numbered(bench: Any) -> None:
    bench("toy_legs")
    found = samples(bench.db, "toy_legs")
    hashes = [s["doc_hash"] for s in found]
    assert [s["occurrence"] for s in found] == [0] * 9 + [1, 1, 2]
    assert hashes[9] == hashes[11] == hashes[0]
    assert hashes[10] == hashes[3]


def test_sampled_repeats_get_seeds_of_their_own_and_greedy_ones_none(bench: Any) -> None:
    bench("toy_drawn")
    drawn = bench.asked
    assert len(drawn) == 27
    assert len({work.seed for work in drawn}) == 27
    responses = [s["responses"] for s in samples(bench.db, "toy_drawn")]
    assert any(len(set(texts)) > 1 for texts in responses)
    bench("toy_drawn", seed=4321)
    assert len(bench.asked) == 27
    assert {work.seed for work in drawn}.isdisjoint(work.seed for work in bench.asked)
    bench("toy_drawn", gen_kwargs={"do_sample": False, "temperature": 0.0})
    assert len(bench.asked) == 8  # greedy repeats and twins are one request


def test_the_seed_changes_few_shot_examples_and_the_task(bench: Any) -> None:
    one = bench("toy_legs", "toy_mc1")
    contexts = {work.arguments[0] for work in bench.asked}
    two = bench("toy_legs", "toy_mc1", seed=99)
    assert contexts != {work.arguments[0] for work in bench.asked}
    assert statuses(two) == {("base", "toy_legs"): "done", ("base", "toy_mc1"): "reused"}  # no examples, no draw
    assert one.results[0].task.fingerprint != two.results[0].task.fingerprint
    assert one.results[1].task.fingerprint == two.results[1].task.fingerprint


def test_the_number_of_examples_belongs_to_the_task(bench: Any) -> None:
    one, two = bench("toy_legs"), bench("toy_legs", num_fewshot=1)
    assert [r.task.num_fewshot for e in (one, two) for r in e.results] == [3, 1]
    assert {work.arguments[0].count("Q:") for work in bench.asked} == {2}
    assert statuses(two) == {("base", "toy_legs"): "done"}


@pytest.mark.parametrize("how", ["user", "suite"])
def test_generation_settings_make_another_cell(bench: Any, how: str) -> None:
    bench("toy_sums", "toy_mc1")
    longer = {"max_gen_toks": 64}
    if how == "user":
        other = bench("toy_sums", "toy_mc1", gen_kwargs=longer)
    else:
        other = bench(SuiteTask("toy_sums", generation=longer), "toy_mc1")
    assert statuses(other) == {("base", "toy_sums"): "done", ("base", "toy_mc1"): "reused"}
    assert {work.arguments[1]["max_gen_toks"] for work in bench.asked} == {64}


def test_another_context_length_makes_another_cell(bench: Any) -> None:
    bench("toy_mc1")
    assert statuses(bench("toy_mc1", max_length=128)) == {("base", "toy_mc1"): "done"}


def test_a_system_instruction_changes_prompts_and_the_task(bench: Any) -> None:
    one = bench("toy_legs")
    two = bench("toy_legs", prompts=PromptSettings(system_instruction="Be brief."))
    assert all(work.arguments[0].startswith("Be brief.") for work in bench.asked)
    assert one.results[0].task.fingerprint != two.results[0].task.fingerprint


def test_a_chat_template_changes_prompts_and_the_task(make_bench: Any) -> None:
    from tiny_models import make_tokenizer

    bench = make_bench()
    tokenizer = make_tokenizer("bos")
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    tokenizer.save_pretrained(bench.root / "model")
    found = {}
    for turns in (True, False):
        found[turns] = bench("toy_legs", prompts=PromptSettings(True, None, turns)).results[0].task.fingerprint
        contexts = [work.arguments[0] for work in bench.asked]
        assert all(context.endswith("<assistant>") for context in contexts)
        assert {context.count("<user>") for context in contexts} == {4 if turns else 1}
    found["plain"] = bench("toy_legs").results[0].task.fingerprint
    assert len(set(found.values())) == 3


def test_a_name_that_is_bound_to_other_weights_is_refused_with_the_command_that_renames(make_bench: Any) -> None:
    bench = make_bench("a")
    bench("toy_mc1")
    other = replace(bench.candidates[1], model=replace(bench.candidates[0].model, sha256="other"))
    with pytest.raises(NameTaken, match=r"tuneboard rename a NEW-NAME --db .*results\.duckdb"):
        bench("toy_mc1", candidates=(bench.candidates[0], other))
    assert bench.engines == []


def test_weights_under_two_names_are_one_result_with_both_names(make_bench: Any) -> None:
    bench = make_bench("a")
    twin = replace(bench.candidates[1], name="twin")
    evaluation = bench("toy_mc1", candidates=(*bench.candidates, twin))
    assert set(statuses(evaluation).values()) <= {"done", "reused"}
    assert {r.candidate.name for r in queries.results(bench.db)} == {"base", "a", "twin"}
    assert value(evaluation, "toy_mc1", candidate="a") == value(evaluation, "toy_mc1", candidate="twin")
    assert journals(bench.db) == []


def test_answers_of_a_larger_limit_survive_a_smaller_one(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from tuneboard.evaluate.cells import OpenWork

    original, seen = OpenWork._take, []

    def take(self: Any, cell: Any, request_hash: str, answer: Any, first: bool) -> None:
        original(self, cell, request_hash, answer, first)
        seen.append(request_hash)
        if len(seen) == 40:
            raise KeyboardInterrupt

    monkeypatch.setattr(OpenWork, "_take", take)
    with pytest.raises(KeyboardInterrupt):
        bench("toy_legs", limit=11)
    monkeypatch.setattr(OpenWork, "_take", original)
    bench("toy_legs", limit=2)
    assert bench.asked == []
    bench("toy_legs")
    assert len(bench.asked) == 12 * 4 - 40
    assert journals(bench.db) == []


def test_ctrl_c_keeps_what_was_computed_and_the_run_says_interrupted(bench: Any) -> None:
    class Hasty(dict):  # type: ignore[type-arg]
        def __iter__(self) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench("toy_mc1", "toy_sums", behaviour=Behaviour(texts=Hasty(), pass_requests=2))
    assert [run.status for run in queries.runs(bench.db)] == ["interrupted"]
    assert bench.engines[0].closed
    bench("toy_mc1", "toy_sums")
    assert {work.kind for work in bench.asked} == {"generate_until"}


def test_a_run_records_how_it_came_to_be(make_bench: Any) -> None:
    bench = make_bench("a")
    started = time.perf_counter()
    evaluation = bench("toy_legs", "toy_sums", limit=3, seed=7, command="tuneboard evaluate --model m")
    (run,) = queries.runs(bench.db)
    assert (run.id, run.status, run.command) == (evaluation.run, "done", "tuneboard evaluate --model m")
    assert run.engine == {"name": "fake", "version": "1", "device": "memory", "dtype": "float32"}
    assert {"python", "lm_eval", "duckdb", "numpy", "datasets"} <= run.versions.keys()
    assert {"machine", "system", "cpu", "cores", "memory_gib"} <= run.hardware.keys()
    assert run.seeds["fewshot"] == 7
    assert 0 < run.seconds <= time.perf_counter() - started
    assert run.settings["limit"] == 3
    assert [c["name"] for c in run.settings["candidates"]] == ["base", "a"]
    assert run.settings["candidates"][1]["adapter"]["sha256"] == bench.candidates[1].adapter.sha256
    for cell in queries.cells(bench.db):
        assert cell.tokens.computed > 0
        assert cell.seconds > 0
    for task in queries.tasks(bench.db):
        assert task.data_hash and task.fingerprint and task.version
        assert json.dumps(task.config)
    models = {model.name: model for model in queries.models(bench.db)}
    assert models["a"].adapter_sha256 == bench.candidates[1].adapter.sha256
    assert models["base"].model_sha256 == bench.candidates[0].model.sha256


def test_a_run_that_begins_with_reused_results_still_records_its_engine(make_bench: Any) -> None:
    bench = make_bench("a")
    bench("toy_mc1", candidates=bench.candidates[:1])
    evaluation = bench("toy_mc1", "toy_mc2")
    run = next(run for run in queries.runs(bench.db) if run.id == evaluation.run)
    assert run.engine["device"] == "memory"


OWN = """\
task: own
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
output_type: multiple_choice
test_split: test
num_fewshot: 0
doc_to_text: "Q: {{{{question}}}}\\nA:"
metadata: {{version: 1.0}}
"""
SCORED_BY_ITS_OWN = f"""{OWN}
doc_to_choice: choices
doc_to_target: 0
process_results: !function scorer.score
metric_list: [{{{{metric: acc, aggregation: mean, higher_is_better: true}}}}]
"""
LABELLED = f"""{OWN}
doc_to_choice: ["yes", "no"]
doc_to_target: label
"""
FIRST = "max(range(len(results)), key=lambda place: results[place][0]) == 0"
#: Trips over one document of four, or gives for it what no mean can be taken of.
TRIPPING = {
    "process_results": f"    if 'ice' in doc['question']:\n        raise KeyError('ice')\n"
    f"    return {{'acc': {FIRST}}}\n",
    "no number": f"    return {{'acc': float('nan') if 'ice' in doc['question'] else {FIRST}}}\n",
    "a value": f"    return {{'acc': None if 'ice' in doc['question'] else {FIRST}}}\n",
}


def own_task(folder: Path, world: Any, body: str) -> tuple[Path, ...]:
    """A task that is called ``own`` whatever its scorer is."""
    folder.mkdir()
    (folder / "own.yaml").write_text(SCORED_BY_ITS_OWN.format(data=world.TASKS / "truth_test.jsonl"))
    (folder / "scorer.py").write_text(f"def score(doc, results):\n{body}")
    return (folder,)


@pytest.mark.parametrize("tripping", TRIPPING)
def test_a_document_that_cannot_be_scored_fails_alone(bench: Any, world: Any, tmp_path: Path, tripping: str) -> None:
    sound = own_task(tmp_path / "sound", world, f"    return {{'acc': {FIRST}}}\n")
    bench("own", include_paths=sound, db=tmp_path / "sound.duckdb")
    expected = [s["metrics"]["acc"] for s in samples(tmp_path / "sound.duckdb", "own") if s["doc_id"] != 1]

    (result,) = bench("own", include_paths=own_task(tmp_path / "own", world, TRIPPING[tripping])).results
    found = samples(bench.db, "own")
    (failed,) = (s for s in found if s["status"] == "failed")
    assert (result.status, result.n, result.failed) == ("done", 3, 1)
    assert result.reason == failed["reason"]
    named = {"process_results": "KeyError: 'ice'", "no number": "ValueError: acc is not a number"}
    expected_reason = named.get(tripping, "TypeError")
    assert failed["reason"].startswith(f"scoring failed: {expected_reason}")
    assert failed["metrics"] == {"acc": None}
    assert None not in failed["responses"]
    scores = [s["metrics"]["acc"] for s in found if s is not failed]
    assert (failed["doc_id"], scores) == (1, expected)
    assert result.metrics[0].value == sum(scores) / 3


def test_labels_that_are_none_of_the_choices_are_named(bench: Any, tmp_path: Path) -> None:
    labels: list[Any] = [0, 1, 2, 1, None, -1]
    rows = [json.dumps({"question": f"is it {place}", "label": label}) for place, label in enumerate(labels)]
    data = tmp_path / "rows.jsonl"
    for text, expected in (("\n".join(rows), ["own: the label of 3 of 6"]), ("\n".join(rows[:2]), [])):
        data.write_text(text)
        (tmp_path / "own.yaml").write_text(LABELLED.format(data=data))
        bench("own", include_paths=(tmp_path,), db=tmp_path / f"{len(expected)}.duckdb")
        notes = [line for line in bench.ear.notes if "label" in line and "loading" not in line]
        assert [line.partition(" documents")[0] for line in notes] == expected
        assert not notes or "(document 2, 4, 5)" in notes[0]


def test_a_scorer_that_measures_nothing_of_what_is_asked_is_a_failed_result(
    bench: Any, world: Any, tmp_path: Path
) -> None:
    evaluation = bench("own", include_paths=own_task(tmp_path / "own", world, "    return {}\n"))
    (result,) = evaluation.results
    assert (result.status, result.metrics, evaluation.sound) == ("failed", (), False)
    assert result.reason == "scoring failed: ValueError: it gave none of the task's metrics (acc)"


@pytest.mark.parametrize("broken", [TRIPPING["process_results"], "    raise KeyError('all')\n"])
def test_a_mended_scorer_is_given_the_answers_that_are_there(
    make_bench: Any, world: Any, tmp_path: Path, broken: str
) -> None:
    bench = make_bench("a")
    first = bench("own", include_paths=own_task(tmp_path / "own", world, broken))
    asked = len(bench.asked)
    mended = bench("own", include_paths=own_task(tmp_path / "mended", world, f"    return {{'acc': {FIRST}}}\n"))

    assert (asked, bench.asked) == (2 * 14, [])
    assert [(r.status, r.n, r.failed) for r in mended.results] == [("done", 4, 0)] * 2
    assert first.results[0].task.fingerprint != mended.results[0].task.fingerprint
    for candidate in ("base", "a"):
        responses = [s["responses"] for s in samples(bench.db, "own", candidate)]
        assert None not in [one for answers in responses for one in answers]
    other = bench("own", include_paths=(tmp_path / "mended",), max_length=64)
    assert len(bench.asked) == asked  # under other settings, equal requests have other answers
    assert set(statuses(other).values()) == {"done"}


def test_examples_that_are_not_as_asked_are_a_note_each(bench: Any) -> None:
    bench("toy_mc1", "toy_mc2", "toy_legs", num_fewshot=2)
    (note,) = (line for line in bench.ear.notes if "few-shot" in line)
    assert note == "asked without few-shot examples, since their own YAML fixes num_fewshot at 0: toy_mc1, toy_mc2"
    bench("toy_mc1", "toy_legs", num_fewshot=1, repeat=1)
    assert not [line for line in bench.ear.notes if "few-shot" in line]


def test_a_headline_that_a_scorer_of_its_own_does_not_give_is_noted(bench: Any) -> None:
    bench(SuiteTask("toy_mc2", headline="acd"))
    assert "toy_mc2 does not measure the headline metric 'acd' of the suite; did you mean acc?" in bench.ear.notes
    bench(SuiteTask("toy_mc2", headline="acc"))
    assert not [line for line in bench.ear.notes if "headline" in line]
