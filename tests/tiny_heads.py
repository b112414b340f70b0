"""Small random classification models, and adapters for labels, over the encoders of ``tiny_models``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SENTIMENTS = ("negative", "positive")
RELATIONS = ("entailment", "neutral", "contradiction")


def save_classifier(folder: Path, base: Path, labels: Sequence[str] = SENTIMENTS, seed: int = 0) -> Path:
    """Write a full checkpoint: the encoder in ``base`` with a random head for ``labels``."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(seed)
    names = dict(enumerate(labels))
    model = AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=len(labels), id2label=names, label2id={name: i for i, name in names.items()}
    )
    words = AutoTokenizer.from_pretrained(base)
    if model.config.pad_token_id is None:
        model.config.pad_token_id = words.eos_token_id
    _widen(model)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def save_label_adapter(
    folder: Path, base: Path, config: Any, labels: Sequence[str] | None = SENTIMENTS, seed: int = 1, **settings: Any
) -> Path:
    """Write a random adapter with a head of its own; ``settings`` go to ``labels.json``, None writes no such file."""
    import torch
    from peft import get_peft_model
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(seed)
    count = len(labels) if labels is not None else 2
    model = get_peft_model(AutoModelForSequenceClassification.from_pretrained(base, num_labels=count), config)
    _widen(model)
    model.save_pretrained(folder)
    if labels is not None:
        (folder / "labels.json").write_text(json.dumps({"labels": list(labels)} | settings), encoding="utf-8")
    return folder


def _widen(model: Any) -> None:
    """Draw heads, and what adapters start as zero or one, wide enough that scores differ by far more than rounding."""
    import torch

    with torch.no_grad():
        for name, weight in model.named_parameters():
            if any(part in name for part in ("classifier", "score", "classification_head")):
                weight.add_(torch.randn_like(weight) * 0.5)
            if any(part in name for part in ("lora_", "ia3", "prompt_encoder")):
                weight.add_(torch.randn_like(weight) * 0.3)


class PlainLabels:
    """A freshly loaded classification model, perhaps with an adapter, asked one text at a time."""

    def __init__(self, base: Path, adapter: Path | None = None, labels: Sequence[str] = SENTIMENTS) -> None:
        from peft import PeftModel
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(base)
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(labels), dtype="auto")
        self.model = (PeftModel.from_pretrained(model, adapter) if adapter else model).eval()
        self.labels = list(labels)

    def __call__(self, label: str, *texts: str) -> tuple[float, bool]:
        import torch

        room = {"truncation": True, "max_length": self.model.config.max_position_embeddings}
        inputs = dict(self.tokenizer(*texts, return_tensors="pt", **room))
        if self.model.config.model_type not in ("bert", "roberta"):
            inputs.pop("token_type_ids", None)
        with torch.inference_mode():
            scores = self.model(**inputs).logits[0].double().log_softmax(-1)
        place = self.labels.index(label)
        return float(scores[place]), int(scores.argmax()) == place
