"""Prompt tuning: learnt input embeddings before every text (Lester et al. 2021, https://arxiv.org/abs/2104.08691)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, MinLen

from tuneboard.errors import UsageError
from tuneboard.tuning.methods._saving import save_adapter
from tuneboard.tuning.methods._structure import TASK_TYPES, head_paths
from tuneboard.tuning.methods._virtual import adapt_virtually
from tuneboard.tuning.records import ModelKind

NAME = "prompt"
HELP = "trains a soft prompt before the text, some ten thousand numbers; the transformers engine serves it"
KINDS: frozenset[ModelKind] = frozenset({"causal", "classification", "seq2seq"})
# Few numbers, far from the loss: they need large steps. The paper takes 0.3 with Adafactor, which scales it by the size
# of the weights. With AdamW, stories260K came from 3.84 to 3.44 at 1e-2, 3.31 at 3e-2 and 3.26 at 1e-1 in 40 steps.
LEARNING_RATE = 3e-2
USUAL_RATES = (5e-4, 0.5)
FEWEST_EXAMPLES = 100
OPTIMIZER = "adamw"
QUANTIZATION: str | None = None
MERGES = False  # nothing that weights could hold


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of prompt tuning."""

    virtual_tokens: Annotated[int, Ge(1)] = 20
    """Embeddings before every text; the context holds as many tokens less."""
    initial_text: Annotated[str, MinLen(1)] | None = None
    """Text that they begin as, cut or repeated to length: the task in words. None draws tokens of the vocabulary."""


def virtual_tokens(options: Options) -> int:
    """Return how many tokens of the context the prompt takes; texts must not be packed behind one prompt."""
    return options.virtual_tokens


def prepare(model: Any, options: Options, kind: ModelKind) -> Any:
    """Return the base with a soft prompt, and of a classifier with its head, to be trained.

    Raises:
        UsageError: The base reads no embeddings, or is a causal model that is to be a classifier.
    """
    from peft import PromptTuningConfig

    if kind == "classification" and hasattr(model, "score"):
        # It takes the label at the last token that is not padding, and finds none among embeddings.
        raise UsageError(
            f"method {NAME} does not fit {type(model).__name__}, which reads the label off the last token; "
            "use method: lora, or an encoder such as BERT"
        )
    first = _tokens(model, options.initial_text) if options.initial_text else None
    config = PromptTuningConfig(
        task_type=TASK_TYPES[kind],
        num_virtual_tokens=options.virtual_tokens,
        # peft makes a second prompt for the decoder of an encoder-decoder and never reads it.
        num_transformer_submodules=1,
        # peft asks configs for these and does not know all their names; prompts depend on the width alone.
        token_dim=model.get_input_embeddings().embedding_dim,
        num_layers=getattr(model.config, "num_hidden_layers", None) or 1,
        num_attention_heads=getattr(model.config, "num_attention_heads", None) or 1,
        # Worse at first and at last where they begin far from all real embeddings, says the paper (figure 3).
        prompt_tuning_init="SAMPLE_VOCAB",
        modules_to_save=list(head_paths(model, kind)) if kind == "classification" else None,
    )
    adapted = adapt_virtually(model, config, NAME, kind)
    if first:
        _begin_as(adapted, first)
    return adapted


def save(model: Any, folder: Path) -> None:
    """Write the soft prompt, in peft's own format."""
    save_adapter(model, folder)


def _tokens(model: Any, text: str) -> list[int]:
    """Encode the initial text without special tokens, which peft would repeat in the middle of the prompt."""
    from transformers import AutoTokenizer

    place, revision = model.name_or_path, getattr(model.config, "_commit_hash", None)
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, revision=revision or "main", trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"initial_text needs the base's tokenizer, and '{place}' has none; leave it out") from error
    tokens: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not tokens:
        raise UsageError(f"initial_text {text!r} has no tokens; expected words that tell the task")
    return tokens


def _begin_as(adapted: Any, tokens: list[int]) -> None:
    import torch

    weight = adapted.prompt_encoder[adapted.active_adapter].embedding.weight
    chosen = list(itertools.islice(itertools.cycle(tokens), weight.shape[0]))
    if weight.is_meta:  # a model without weights, made to count them
        return
    with torch.no_grad():
        weight.copy_(adapted.word_embeddings(torch.tensor(chosen, device=weight.device)))
