"""Policies from YAML, and all that can be wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tuneboard.config import load_suite
from tuneboard.errors import ConfigError, UnknownName, UsageError
from tuneboard.gates import Known, Rule, find_policy, list_policies, load_policy
from tuneboard.gates.policy import _policy_model

KNOWN = Known(
    tasks=frozenset({"mmlu", "mmlu_anatomy", "gsm8k", "hellaswag", "wikitext"}),
    candidates=frozenset({"base", "mine"}),
    headlines={"wikitext": "word_perplexity", "gsm8k": "exact_match"},
)
Write = Callable[[str], Path]


def problems(path: Path, known: Known | None = KNOWN) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_policy(path, known)
    return list(caught.value.problems)


def test_a_small_policy_has_the_defaults(write: Write) -> None:
    path = write("candidate: mine\nrules: [{rule: not_regress}]\n")

    policy = load_policy(path, KNOWN)

    assert (policy.name, policy.base, policy.candidate) == ("policy", "base", "mine")
    assert policy.rules == (Rule("not_regress", ("all",)),)
    assert (policy.alpha, policy.correction, policy.on_inconclusive) == (0.05, "holm", "report")
    assert policy.evaluate is None and policy.source == str(path)


def test_every_key_arrives(write: Write) -> None:
    path = write(
        """\
name: ours
description: d
base: base
candidate: mine
suite: quick
margins: {mmlu: 0.01, wikitext: 0.7}
alpha: 0.01
correction: none
on_inconclusive: warn
rules:
  - {rule: improve, tasks: targets, metric: "acc,none", margin: 0.02}
  - {rule: at_least, tasks: [gsm8k, mmlu_*], value: 0.4}
  - {rule: peak_memory, value: 1.1}
evaluate: {model: m, adapter: a, tasks: [gsm8k], limit: 9, engine: vllm, sequential: false, batch: 8, seed: 5}
"""
    )

    policy = load_policy(path, KNOWN)

    assert policy.name == "ours" and policy.margins == {"mmlu": 0.01, "wikitext": 0.7}
    assert policy.rules[0] == Rule("improve", ("targets",), "acc,none", 0.02)
    assert policy.rules[1].tasks == ("gsm8k", "mmlu_*") and policy.rules[1].value == 0.4
    assert policy.suite_tasks[0].task == "mmlu" and policy.suite_tasks[0].role == "guard"
    plan = policy.evaluate
    assert plan is not None and plan.tasks == ("gsm8k",) and (plan.batch, plan.seed, plan.limit) == (8, 5, 9)
    assert (policy.alpha, policy.correction, policy.on_inconclusive) == (0.01, "none", "warn")


def test_the_command_line_names_base_and_candidate(write: Write) -> None:
    path = write("candidate: nobody\nrules: [{rule: not_regress}]\n")

    policy = load_policy(path, KNOWN, base="mine", candidate="base")

    assert (policy.base, policy.candidate) == ("mine", "base")


def test_all_mistakes_are_told_at_once(write: Write) -> None:
    path = write(
        """\
base: bse
marginz: {gsm8k: 0.1}
margins:
  mmul: 0.01
  gsm8k: 2.0
rules:
  - rule: not_regres
  - {rule: not_regress, tasks: [hellaswg], margin: 0.01}
  - {rule: at_least, tasks: gsm8k}
  - {rule: peak_memory, tasks: gsm8k, value: 0}
alpha: 0.9
suite: quik
"""
    )

    found = problems(path)

    expected = [
        "'candidate' is missing",
        "line 1: unknown candidate 'bse'; did you mean base?",
        "line 2: unknown key 'marginz'; did you mean margins?",
        "line 4: unknown task 'mmul'; did you mean mmlu?",
        "line 5: margin 2; gsm8k exact_match goes from 0 to 1",
        "line 7: 'rules[0].rule' is 'not_regres'; expected",
        "line 8: unknown task 'hellaswg'; did you mean hellaswag?",
        "line 9: at_least needs 'value'",
        "line 10: peak_memory has no 'tasks'",
        "line 10: value 0; expected a share",
        "line 11: 'alpha' is 0.9",
        "line 12: unknown suite 'quik'; did you mean quick?",
    ]
    assert len(found) == len(expected)
    for problem, start in zip(found, expected, strict=True):
        assert problem.startswith(start)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("rules: []", "no rules are given"),
        ("rules: [improve]", "'rules[0]' is 'improve'; expected keys with values: rule, tasks, metric, margin, value"),
        ("rules: [{rule: improve}]\nalpha: yes", "'alpha' is True; expected a valid number"),
        ("rules: [{rule: not_regress, tasks: []}]", "'tasks' is empty"),
        ("rules: [{rule: not_regress, value: 1}]", "not_regress has no 'value'"),
        ("rules: [{rule: not_regress, margin: -0.1}]", "margin -0.1; expected a number above 0"),
        ("rules: [{rule: not_regress, margin: yes}]", "'rules[0].margin' is True; expected a valid number"),
        ("rules: [{rule: not_regress, tasks: mmlu, margin: 0.5}]", "expected less than 0.5"),
        ("rules: [{rule: not_regress, tasks: mmlu_*, margin: 0.5}]", "mmlu_anatomy acc goes from 0 to 1"),
        ("rules: [{rule: not_regress, tasks: wikitext, metric: acc, margin: 3}]", "wikitext acc goes from 0 to 1"),
        ("rules: [{rule: at_least, tasks: mmlu, value: 40}]", "value 40 for mmlu"),
        ("rules: [{rule: at_least, tasks: mmlu, value: 0.4, margin: 0.1}]", "at_least has no margin"),
        ("rules: [{rule: tokens_per_s}]", "tokens_per_s needs 'value'"),
        ("rules: [{rule: improve}]\nevaluate: {model: m}", "either 'adapter' or 'checkpoint'"),
        ("rules: [{rule: improve}]\nevaluate: {model: m, adapter: a}", "nothing to evaluate"),
        ("rules: [{rule: improve}]\nevaluate: {model: m, adapter: a, tasks: [x], batch: 64}", "evaluate.batch"),
    ],
)
def test_mistakes_are_found(write: Write, line: str, problem: str) -> None:
    found = problems(write(f"candidate: mine\n{line}\n"))

    assert any(problem in one for one in found), found


@pytest.mark.parametrize("margin", ["0.9", "12"])
def test_scores_without_the_scale_of_0_to_1_may_have_large_margins(write: Write, margin: str) -> None:
    path = write(f"candidate: mine\nrules: [{{rule: not_regress, tasks: wikitext, margin: {margin}}}]\n")

    assert load_policy(path, KNOWN).rules[0].margin == float(margin)


def test_a_baseline_file_and_what_will_be_evaluated_need_no_results_yet(write: Write) -> None:
    assert load_policy(write("base: b.json\ncandidate: mine\nrules: [{rule: improve}]\n"), KNOWN).base == "b.json"
    new = "candidate: new\nrules: [{rule: improve}]\nevaluate: {model: m, adapter: a, tasks: [mmlu]}\n"
    assert load_policy(write(new), KNOWN).candidate == "new"


def test_the_shipped_policy_fits_its_suite() -> None:
    policy = load_policy(find_policy("quick"), candidate="mine")

    suite = load_suite(Path(find_policy("quick")).parent.parent / "suites" / "quick.yaml")
    assert policy.suite_tasks == suite.tasks
    assert set(policy.margins) == {task.task for task in suite.tasks}
    names = ["demo", "demo-model", "quick"]
    assert [(one.name, bool(one.description)) for one in list_policies()] == [(name, True) for name in names]


def test_the_shipped_policy_explains_every_key() -> None:
    text = find_policy("quick").read_text(encoding="utf-8")

    model = _policy_model()
    inner = [*model.model_fields["rules"].annotation.__args__, *model.model_fields["evaluate"].annotation.__args__]
    keys = set(model.model_fields) | {key for one in inner for key in getattr(one, "model_fields", {})}
    # Quotes keep this from passing by a key's name being part of a sentence.
    assert keys - {"checkpoint"} <= {
        line.lstrip("# -").split()[0].rstrip(":") for line in text.splitlines() if line.strip("# -")
    }
    assert "`checkpoint:`" in text
    assert yaml.safe_load(text)["alpha"] == 0.05


def test_unknown_policies_name_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean quick"):
        find_policy("quik")
    with pytest.raises(UsageError, match="no policy file"):
        find_policy(str(tmp_path / "gone.yaml"))
