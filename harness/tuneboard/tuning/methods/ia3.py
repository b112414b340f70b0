"""IA3: one learnt factor for each key, value and inner feed-forward activation (Liu et al. 2022, https://arxiv.org/abs/2205.05638).

Layers of attention have their outputs scaled, feed-forward layers their inputs. Factors begin at one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import MinLen

from tuneboard.errors import UsageError
from tuneboard.tuning.methods._adapting import adapt, adapter_config
from tuneboard.tuning.methods._saving import save_adapter
from tuneboard.tuning.methods._structure import TASK_TYPES, head_paths
from tuneboard.tuning.methods._targets import Targets, find_targets, matched, shortest_ends
from tuneboard.tuning.records import ModelKind

NAME = "ia3"
HELP = "trains factors on activations, some ten thousand in all; for few examples"
KINDS: frozenset[ModelKind] = frozenset({"causal", "classification", "seq2seq"})
# The paper's; factors near one need large steps.
LEARNING_RATE = 3e-3
USUAL_RATES = (5e-4, 5e-2)
# The paper learns from 20 to 70.
FEWEST_EXAMPLES = 20
OPTIMIZER = "adamw"
QUANTIZATION: str | None = None
MERGES = True

#: What the layers of most decoders are called; taken for architectures that peft knows nothing of.
_USUAL_TARGETS, _USUAL_FEEDFORWARD = ("k_proj", "v_proj", "down_proj"), ("down_proj",)


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of IA3."""

    targets: Literal["auto"] | Annotated[list[str], MinLen(1)] = "auto"
    """Layers that are scaled: peft's choice for the architecture, or ends of their paths."""
    feedforward: list[str] | None = None
    """Those of ``targets`` that are scaled at their input; None with ``auto``, and for none of them."""

    def __post_init__(self) -> None:
        if self.targets == "auto" and self.feedforward is not None:
            raise UsageError(f"method {NAME}: feedforward goes with a list of targets; name them, or leave both out")
        odd = [name for name in self.feedforward or () if name not in self.targets]
        if odd:
            among = ", ".join(self.targets)
            raise UsageError(f"method {NAME}: feedforward '{odd[0]}' is not among the targets ({among}); add it there")


def prepare(model: Any, options: Options, kind: ModelKind) -> Any:
    """Return the base with factors on its targets, and of a classifier with its head, to be trained.

    Raises:
        UsageError: A target is not in the model, or the architecture is unknown and none is named.
    """
    from peft import IA3Config

    targets, feedforward = _automatic(model, kind) if options.targets == "auto" else _named(model, options, kind)
    config = IA3Config(
        task_type=TASK_TYPES[kind],
        target_modules=list(targets.names),
        feedforward_modules=list(feedforward),
        fan_in_fan_out=targets.transposed,
        modules_to_save=list(head_paths(model, kind)) if kind == "classification" else None,
    )
    return adapt(model, config, NAME)


def save(model: Any, folder: Path) -> None:
    """Write the adapter, in peft's own format."""
    save_adapter(model, folder)


def resolved(model: Any) -> dict[str, Any]:
    """Return what ``auto`` came to in a model that ``prepare`` made: the ends of the layers' paths."""
    config = adapter_config(model)
    return {"targets": sorted(config.target_modules), "feedforward": sorted(config.feedforward_modules)}


def _named(model: Any, options: Options, kind: ModelKind) -> tuple[Targets, Sequence[str]]:
    return find_targets(model, options.targets, kind, None), sorted(set(options.feedforward or ()))


def _automatic(model: Any, kind: ModelKind) -> tuple[Targets, Sequence[str]]:
    from peft.utils import TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING as FEEDFORWARD
    from peft.utils import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING as TARGETS

    everything = [path for path, _ in model.named_modules() if path]
    name = model.config.model_type
    wanted, inner = TARGETS.get(name, _USUAL_TARGETS), FEEDFORWARD.get(name, _USUAL_FEEDFORWARD)
    if not matched(everything, wanted):
        raise UsageError(
            f"method {NAME}: the keys, values and feed-forward layers of {type(model).__name__} are not known; "
            "name them as targets: [...] and feedforward: [...]"
        )
    targets = find_targets(model, "auto", kind, wanted)
    scaled_inside = matched(targets.paths, inner)
    feedforward = shortest_ends(scaled_inside, everything)
    rest = shortest_ends(set(targets.paths) - set(scaled_inside), everything)
    return Targets(tuple(sorted({*feedforward, *rest})), targets.paths, targets.transposed), feedforward
