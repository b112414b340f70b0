"""Full fine-tuning: every weight of the base is trained, and a whole model comes out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneboard.errors import UsageError
from tuneboard.tuning.methods._saving import save_model
from tuneboard.tuning.methods._structure import embedding_parameters
from tuneboard.tuning.records import ModelKind

NAME = "full"
HELP = "trains every weight; makes a whole model, as large as the base"
KINDS: frozenset[ModelKind] = frozenset({"causal", "classification", "seq2seq"})
# What BERT's authors tuned around (2e-5 to 5e-5, Devlin et al. 2019) and what instruction tuning of 7B models uses.
LEARNING_RATE = 2e-5
# Models of some million parameters learn best near 1e-3, those of billions diverge well below it.
USUAL_RATES = (1e-6, 1e-3)
# With every weight free, a few hundred rows are learnt by heart before anything general is.
FEWEST_EXAMPLES = 500
OPTIMIZER = "adamw"
QUANTIZATION: str | None = None
MERGES = False  # it is whole already


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of full fine-tuning."""

    train_embeddings: bool = True
    """Whether the tables of tokens and positions are trained too; without, a tied output head is left as well."""


def prepare(model: Any, options: Options, kind: ModelKind) -> Any:
    """Return the base with all of its weights trainable."""
    if getattr(model, "is_quantized", False):
        raise UsageError(f"{NAME} trains every weight, and those of a quantized base are fixed; use method: qlora")
    model.requires_grad_(True)
    if not options.train_embeddings:
        for weight in embedding_parameters(model):
            weight.requires_grad_(False)
    return model


def save(model: Any, folder: Path) -> None:
    """Write the whole model, in transformers' own format."""
    save_model(model, folder)
