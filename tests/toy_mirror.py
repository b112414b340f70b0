"""A mirror of the classic benchmarks that holds a few made-up rows per data set, in the columns that the hub has.

Every row is written here: nothing is taken from the real data sets but the names of columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Rows = list[dict[str, Any]]

#: The languages of XNLI, and the tasks of BIG-Bench Hard.
LANGUAGES = ("ar", "bg", "de", "el", "en", "es", "fr", "hi", "ru", "sw", "th", "tr", "ur", "vi", "zh")
HARD = (
    *("boolean_expressions", "causal_judgement", "date_understanding", "disambiguation_qa", "dyck_languages"),
    *("formal_fallacies", "geometric_shapes", "hyperbaton", "logical_deduction_five_objects"),
    *("logical_deduction_seven_objects", "logical_deduction_three_objects", "movie_recommendation"),
    *("multistep_arithmetic_two", "navigate", "object_counting", "penguins_in_a_table"),
    *("reasoning_about_colored_objects", "ruin_names", "salient_translation_error_detection", "snarks"),
    *("sports_understanding", "temporal_sequences", "tracking_shuffled_objects_five_objects"),
    *("tracking_shuffled_objects_seven_objects", "tracking_shuffled_objects_three_objects", "web_of_lies"),
    "word_sorting",
)
#: BIG-bench has some 200 tasks of two kinds; these stand for them.
BIG = ("strategyqa", "bbq_lite_json", "simple_arithmetic_json")

_ANIMALS = ("cat", "dog", "owl", "fox", "hen", "cow")
_TOWNS = ("Arden", "Brill", "Corby", "Deal", "Esher", "Frome")


def write_mirror(root: Path, rows: int = 6) -> Path:
    """Write all data sets below ``root``, with ``rows`` rows in every split."""
    for (path, config), (splits, row) in _data_sets().items():
        _write(root / path / config, splits, [row(i) for i in range(rows)])
    return root


def write_big_bench(root: Path, configs: set[str], rows: int = 3) -> Path:
    """Write data sets of BIG-bench, each with the same rows."""
    for config in configs:
        _write(root / "hails/bigbench" / config, ("default",), [_big(i) for i in range(rows)])
    return root


def _write(folder: Path, splits: tuple[str, ...], rows: Rows) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for split in splits:
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}.parquet")


def _data_sets() -> Mapping[tuple[str, str], tuple[tuple[str, ...], Any]]:
    both, three = ("train", "validation"), ("train", "validation", "test")
    mnli = ("train", "validation_matched", "validation_mismatched")
    return {
        **{("nyu-mll/glue", name): (mnli if name == "mnli" else both, row) for name, row in _GLUE.items()},
        **{("aps/super_glue", name): (both, row) for name, row in _SUPER_GLUE.items()},
        ("rajpurkar/squad", "plain_text"): (both, lambda i: _question(i, answerable=True)),
        ("lighteval/squad_v2", "default"): (both, lambda i: _question(i, answerable=i % 2 == 0)),
        **{("wmt/wmt14", "fr-en"): (three, lambda i: _phrase(i, "fr"))},
        **{("wmt/wmt16", f"{one}-en"): (three, lambda i, one=one: _phrase(i, one)) for one in ("de", "ro")},
        **{("wmt/wmt22", pair): (("test",), lambda i: _phrase(i, "de")) for pair in ("en-de", "de-en")},
        **{("facebook/xnli", one): (both, _entailment) for one in LANGUAGES},
        **{("SaylorTwift/bbh", name): (("test",), _hard) for name in HARD},
        **{("hails/bigbench", f"{name}_zero_shot"): (("default",), _big) for name in BIG},
        **{("allenai/ai2_arc", name): (three, _science) for name in ("ARC-Easy", "ARC-Challenge")},
        ("allenai/openbookqa", "main"): (three, lambda i: {**_science(i), "question_stem": _science(i)["question"]}),
        ("baber/piqa", "default"): (both, _goal),
        ("allenai/winogrande", "winogrande_xl"): (both, _gap),
        ("EleutherAI/lambada_openai", "default"): (("test",), _tale),
        ("cimec/lambada", "default"): (("validation", "test"), _tale),
        ("google-research-datasets/mbpp", "full"): (three, _program),
        ("evalplus/mbppplus", "default"): (("test",), lambda i: {**_program(i), "prompt": _program(i)["text"]}),
        ("knkarthick/samsum", "default"): (three, _dialogue),
        ("knkarthick/dialogsum", "default"): (three, lambda i: _dialogue(i // 2) | {"id": str(i)}),
        ("EdinburghNLP/xsum", "default"): (three, _article),
        ("abisee/cnn_dailymail", "3.0.0"): (three, _news),
        **{
            ("EleutherAI/wikitext_document_level", name): (three, _page)
            for name in ("wikitext-2-raw-v1", "wikitext-2-v1")
        },
        ("cornell-movie-review-data/rotten_tomatoes", "default"): (
            three,
            lambda i: {"text": _sentence(i), "label": i % 2},
        ),
    }


def _sentence(i: int) -> str:
    return f"The {_ANIMALS[i % 6]} of {_TOWNS[i % 6]} saw {i + 2} birds."


def _pair(first: str, second: str, labels: int) -> Any:
    return lambda i: {first: _sentence(i), second: _sentence(i + i % 2), "label": i % labels, "idx": i}


_GLUE = {
    "cola": lambda i: {"sentence": _sentence(i), "label": i % 2, "idx": i},
    "sst2": lambda i: {"sentence": _sentence(i), "label": i % 2, "idx": i},
    "mrpc": _pair("sentence1", "sentence2", 2),
    "qqp": _pair("question1", "question2", 2),
    "stsb": lambda i: _pair("sentence1", "sentence2", 1)(i) | {"label": 0.75 * i},
    "mnli": _pair("premise", "hypothesis", 3),
    "qnli": _pair("question", "sentence", 2),
    "rte": _pair("sentence1", "sentence2", 2),
    "wnli": _pair("sentence1", "sentence2", 2),
}


def _record(i: int) -> dict[str, Any]:
    town, other = _TOWNS[i % 6], _TOWNS[(i + 1) % 6]
    return {
        "passage": f"A {_ANIMALS[i % 6]} ran to {other}.\n@highlight\nIt was seen in {town}\n@highlight\nIt is well",
        "query": "People of @placeholder say that it came back.",
        "entities": [town, other, f"the {other}", town],
        "answers": [town] if i % 2 else [town, f"the {other}"],
        "idx": {"passage": i // 2, "query": i},
    }


_SUPER_GLUE = {
    "boolq": lambda i: {"question": f"is {_TOWNS[i % 6]} a town", "passage": _sentence(i), "idx": i, "label": i % 2},
    "cb": _pair("premise", "hypothesis", 3),
    "copa": lambda i: {
        "premise": _sentence(i),
        "choice1": f"It was the {_ANIMALS[i % 6]}.",
        "choice2": f"It was in {_TOWNS[i % 6]}.",
        "question": ("cause", "effect")[i % 2],
        "idx": i,
        "label": i % 2,
    },
    "wic": lambda i: {
        "word": "bank",
        "sentence1": "The bank was steep.",
        "sentence2": _sentence(i) + " The bank is shut.",
        "start1": 4,
        "start2": 30,
        "end1": 8,
        "end2": 34,
        "idx": i,
        "label": i % 2,
    },
    "wsc.fixed": lambda i: {
        "text": f"The {_ANIMALS[i % 6]} bit the man because he was loud .",
        "span1_index": 4,
        "span2_index": 6,
        "span1_text": "the man",
        "span2_text": "he",
        "idx": i,
        "label": i % 2,
    },
    "multirc": lambda i: {
        "paragraph": _sentence(i // 2),
        "question": "How many birds were there?",
        "answer": str(i // 2 + 2 + i % 2),
        "idx": {"paragraph": i // 2, "question": i // 2, "answer": i},
        "label": 1 - i % 2,
    },
    "record": _record,
    "rte": _pair("premise", "hypothesis", 2),
}


def _question(i: int, answerable: bool) -> dict[str, Any]:
    spans = [_TOWNS[i // 2 % 6], f"the {_TOWNS[i // 2 % 6]}"][: 1 + i % 2] if answerable else []
    return {
        "id": f"q{i}",
        "title": "Birds",
        "context": _sentence(i // 2),
        "question": f"Which town is the {_ANIMALS[i // 2 % 6]} of?",
        "answers": {"text": spans, "answer_start": [11 for _ in spans]},
    }


def _phrase(i: int, language: str) -> dict[str, Any]:
    return {"translation": {"en": _sentence(i), language: f"{_ANIMALS[i % 6]} {_TOWNS[i % 6]} {i + 2} aves."}}


def _entailment(i: int) -> dict[str, Any]:
    return {"premise": _sentence(i), "hypothesis": _sentence(i + i % 2), "label": i % 3}


def _hard(i: int) -> dict[str, Any]:
    return {"input": f"What is {i} + 1?\nOptions:\n(A) {i + 1}\n(B) {i}\n- valid \n- invalid", "target": "(A)"}


def _big(i: int) -> dict[str, Any]:
    choices = [str(i + 1), str(i)]
    return {
        "idx": i,
        "inputs": f"What is {i} + 1?",
        "targets": choices[:1],
        "multiple_choice_targets": choices,
        "multiple_choice_scores": [1, 0],
    }


def _science(i: int) -> dict[str, Any]:
    return {
        "id": str(i),
        "question": f"What does a {_ANIMALS[i % 6]} need?",
        "choices": {"text": ["air", "gold", "paint", "ink"], "label": ["A", "B", "C", "D"]},
        "answerKey": "A",
    }


def _goal(i: int) -> dict[str, Any]:
    return {"goal": f"Feed a {_ANIMALS[i % 6]}", "sol1": "Put food down.", "sol2": "Put a lamp down.", "label": i % 2}


def _gap(i: int) -> dict[str, Any]:
    return {
        "sentence": f"The {_ANIMALS[i % 6]} ran from the man since _ was loud.",
        "option1": f"the {_ANIMALS[i % 6]}",
        "option2": "the man",
        "answer": str(1 + i % 2),
    }


def _tale(i: int) -> dict[str, Any]:
    return {
        "text": f"In {_TOWNS[i % 6]} there was a {_ANIMALS[i % 6]}. All of {_TOWNS[i % 6]} loved the {_ANIMALS[i % 6]}"
    }


def _program(i: int) -> dict[str, Any]:
    return {
        "task_id": 11 + i,
        "text": f"Write a function to add {i}.",
        "code": f"def add(x):\n    return x + {i}",
        "test_list": [f"assert add({n}) == {n + i}" for n in range(3)],
        "test_setup_code": "",
        "challenge_test_list": [""],
    }


def _dialogue(i: int) -> dict[str, Any]:
    return {
        "id": str(i),
        "dialogue": f"Ann: Where is the {_ANIMALS[i % 6]}?\nBen: In {_TOWNS[i % 6]}.",
        "summary": f"The {_ANIMALS[i % 6]} is in {_TOWNS[i % 6]}.",
        "topic": "animals",
    }


def _article(i: int) -> dict[str, Any]:
    return {"document": f"{_sentence(i)} It flew on.", "summary": f"Birds in {_TOWNS[i % 6]}.", "id": str(i)}


def _news(i: int) -> dict[str, Any]:
    return {
        "article": f"{_sentence(i)} It flew on.",
        "highlights": f"Birds in {_TOWNS[i % 6]} .\nThey flew on .",
        "id": str(i),
    }


def _page(i: int) -> dict[str, Any]:
    return {"page": f" = {_TOWNS[i % 6]} = \n {_sentence(i)} \n It is old , and small . \n"}


def load(root: Path, path: str, config: str | None) -> Any:
    """Return a data set as ``datasets.load_dataset`` does; nothing of tuneboard is used."""
    import datasets

    files = (root / path / (config or "default")).glob("*.parquet")
    return datasets.DatasetDict(
        {file.stem: datasets.Dataset.from_list(pq.read_table(file).to_pylist()) for file in sorted(files)}
    )
