from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from full_disk import no_file_above
from tiny_workshop import Workshop, make_workshop

from tuneboard.cli.main import main
from tuneboard.tuning import merging


@pytest.fixture
def workshop(tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TUNEBOARD_MIRROR", raising=False)
    return make_workshop(tmp_path, tiny_model)


def tuned(workshop: Workshop, kind: str = "llama", **changes: Any) -> None:
    recipe = workshop.recipe(kind, training__epochs=1, training__learning_rate=1e-2, **changes)
    assert main(["tune", str(recipe), "--quiet"]) == 0


def rolling(capsys: pytest.CaptureFixture[str], words: list[str]) -> dict[str, float]:
    """Scores on a text, which any change of the weights moves."""
    Path("text.jsonl").write_text(json.dumps({"text": "What colour is the cat? green"}) + "\n", encoding="utf-8")
    Path("text.yaml").write_text(
        "task: text\ndataset_path: json\ndataset_kwargs: {data_files: {test: text.jsonl}}\ntest_split: test\n"
        "output_type: loglikelihood_rolling\ndoc_to_text: ''\ndoc_to_target: '{{text}}'\n"
        "metric_list: [{metric: word_perplexity}]\n",
        encoding="utf-8",
    )
    capsys.readouterr()
    assert main([*words, "--tasks", "text", "--include-path", ".", "--json", "--quiet"]) == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    return {cell["candidate"]: cell["metrics"][0]["value"] for cell in cells}


@pytest.mark.parametrize("method", [{"name": "lora", "dora": True}, "ia3"])
def test_merged_weights_score_as_the_adapter_does(
    workshop: Workshop, capsys: pytest.CaptureFixture[str], method: Any
) -> None:
    tuned(workshop, method=method)
    capsys.readouterr()
    assert main(["merge", "mine", "--out", "merged/whole"]) == 0
    out, err = capsys.readouterr()
    assert "agree" in err and "merged/whole" in out
    words = shlex.split(out.splitlines()[-1].partition(": ")[2])[1:]
    words = [*words[: words.index("--suite")], "--adapter", "mine=adapters/trained/mine"]
    scores = rolling(capsys, words)
    assert scores["whole"] == pytest.approx(scores["mine"], rel=1e-3)
    assert abs(scores["whole"] / scores["base"] - 1) > 1e-3
    facts = json.loads(Path("merged/whole/provenance.json").read_text())
    assert facts["merged"]["difference"] < 1e-3 and facts["trained_as"]["name"] == "mine"
    assert facts["serving"][1]["takes"] == "as it is"
    assert "| text | 0 | 1 | word_perplexity |" in Path("merged/whole/README.md").read_text(), "evaluate filled it in"


@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_quantized_weights_are_smaller_and_answer(
    workshop: Workshop, capsys: pytest.CaptureFixture[str], bits: str
) -> None:
    tuned(workshop)
    capsys.readouterr()
    for out, more in (("whole", []), ("small", ["--quantize", bits])):
        assert main(["merge", "mine", "--out", out, *more, "--json", "--quiet"]) == 0
    content = json.loads(capsys.readouterr().out.partition("}\n")[2])
    assert content["difference"] < 1e-3 < content["quantized_difference"]
    assert json.loads(Path("small/config.json").read_text())["quantization_config"]["quant_method"] == "bitsandbytes"
    sizes = {name: (Path(name) / "model.safetensors").stat().st_size for name in ("whole", "small")}
    assert sizes["small"] < 0.8 * sizes["whole"]
    base = str(workshop.models["llama"])
    scores = rolling(capsys, ["evaluate", "--model", base, "--candidate", "whole=whole", "--candidate", "small=small"])
    assert scores["small"] != scores["whole"]
    assert scores["small"] == pytest.approx(scores["whole"], rel=0.9)


def test_a_classifier_keeps_its_head_and_its_labels(workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    tuned(workshop, "bert")
    assert main(["merge", "adapters/trained/mine", "--out", "whole", "--json", "--quiet"]) == 0
    config = json.loads(Path("whole/config.json").read_text())
    assert list(config["id2label"].values()) == ["even", "odd"]


def test_an_encoder_decoder_merges(workshop: Workshop) -> None:
    tuned(workshop, "t5")
    assert main(["merge", "mine", "--out", "whole", "--quiet"]) == 0
    assert json.loads(Path("whole/provenance.json").read_text())["kind"] == "seq2seq"


def test_a_candidate_of_the_database_is_found_by_its_name(
    workshop: Workshop, tiny_adapter: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from tuneboard.candidates import resolve_adapter, resolve_model
    from tuneboard.records import Candidate, ModelRef
    from tuneboard.store.writes import Store

    base = workshop.models["llama"]
    adapter = resolve_adapter(str(tiny_adapter(base)))
    Store(Path("x.duckdb")).register(Candidate("known", resolve_model(ModelRef(str(base))), adapter))
    assert main(["merge", "known", "--out", "whole", "--db", "x.duckdb", "--quiet"]) == 0
    assert json.loads(Path("whole/provenance.json").read_text())["trained_as"] is None
    assert main(["merge", "knwon", "--out", "other", "--db", "x.duckdb"]) == 2
    assert "unknown candidate 'knwon'; did you mean known" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("prefix", "is a prefix tuning adapter"),
        ("prompt", "is a prompt tuning adapter"),
        ("bottleneck", "is a bottleneck adapter"),
        ("full", "is a full checkpoint already"),
    ],
)
def test_what_cannot_be_merged_is_one_line(
    workshop: Workshop, capsys: pytest.CaptureFixture[str], method: str, said: str
) -> None:
    tuned(workshop, method=method)
    capsys.readouterr()
    assert main(["merge", "mine", "--out", "whole", "--quiet"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and said in err
    assert not Path("whole").exists()


def test_weights_that_would_answer_otherwise_are_refused_with_the_difference(
    workshop: Workshop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft.tuners.tuners_utils import BaseTuner

    tuned(workshop)
    merge = BaseTuner.merge_and_unload

    def wrong(self: Any, *args: Any, **kwargs: Any) -> Any:
        merged = merge(self, *args, **kwargs)
        merged.model.layers[0].self_attn.q_proj.weight.data.mul_(1.5)
        return merged

    monkeypatch.setattr(BaseTuner, "merge_and_unload", wrong)
    capsys.readouterr()
    assert main(["merge", "mine", "--out", "whole", "--quiet"]) == 2
    err = capsys.readouterr().err
    assert "differ by up to" in err and "rounding in float32 explains 0.001" in err
    assert [place for place in Path.cwd().iterdir() if "whole" in place.name] == []


def test_another_base_and_a_place_that_is_taken_are_refused(
    workshop: Workshop, tiny_model: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned(workshop)
    capsys.readouterr()
    other = str(tiny_model("llama", seed=5))
    assert main(["merge", "mine", "--out", "whole", "--model", other, "--quiet"]) == 2
    assert "was trained on other weights" in capsys.readouterr().err
    Path("whole").mkdir()
    assert main(["merge", "mine", "--out", "whole", "--quiet"]) == 2
    assert "is there already" in capsys.readouterr().err


def test_probes_are_compared_where_the_adapter_finds_tokens_likely() -> None:
    import torch

    wanted = [torch.log_softmax(torch.tensor([[8.0] * 30 + [-40.0]]), -1)]
    same = [wanted[0].clone()]
    same[0][0, -1] += 5.0  # a token that nobody would say
    assert merging._difference(wanted, same) == 0.0
    other = [wanted[0] + 0.25]
    assert merging._difference(wanted, other) == pytest.approx(0.25)


def test_the_suggested_name_is_one_that_evaluate_takes(workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    tuned(workshop)
    capsys.readouterr()
    for out, name in (("merged/mine", "mine-merged"), ("merged/base", "base-merged"), ("again/mine", "mine-merged")):
        assert main(["merge", "mine", "--out", out, "--json", "--quiet"]) == 0
        words = shlex.split(json.loads(capsys.readouterr().out)["evaluate"])[1:]
        assert words[words.index("--candidate") + 1] == f"{name}={out}"
        words = [*words[: words.index("--suite")], "--adapter", "mine=adapters/trained/mine"]
        assert set(rolling(capsys, words)) == {"base", "mine", name}


def test_a_merged_classifier_is_to_be_evaluated_on_its_labels(
    workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned(workshop, "bert")
    capsys.readouterr()
    assert main(["merge", "mine", "--out", "merged/mine", "--quiet"]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert "whose choices are its labels" in line
    assert line.endswith(": tuneboard evaluate --model merged/mine --base-name mine-merged --tasks TASK")


def test_a_base_that_the_recipe_named_by_a_relative_path_is_found_from_another_folder(
    workshop: Workshop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(workshop.models["llama"], "base")
    tuned(workshop, base="base")
    elsewhere = workshop.root / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    adapter = str(workshop.root / "adapters/trained/mine")
    assert main(["merge", adapter, "--out", "whole", "--quiet"]) == 0
    (workshop.root / "base").rename(workshop.root / "moved")
    capsys.readouterr()
    assert main(["merge", adapter, "--out", "other", "--quiet"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and f"no model at '{workshop.root / 'base'}'" in err
    assert f"name the model that {adapter} was trained on with --model BASE" in err
    assert main(["merge", adapter, "--out", "other", "--model", str(workshop.root / "moved"), "--quiet"]) == 0


def test_a_full_disk_is_one_line_and_leaves_nothing(workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    tuned(workshop)
    capsys.readouterr()
    with no_file_above(5_000):
        assert main(["merge", "mine", "--out", "merged/whole", "--quiet"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert "cannot write the merged model to merged/whole (File too large; " in err and "are free there now" in err
    assert "run the same command again, or give another folder with --out" in err
    assert not list(Path("merged").iterdir())
