"""Finds out, when a model is loaded, whether its prefixes can be shared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from tuneboard.engines.forward import TreeModel
from tuneboard.engines.plain import PlainScorer
from tuneboard.engines.prefix import Budget
from tuneboard.engines.protocol import Notice
from tuneboard.engines.scoring import Scored, TreeScorer
from tuneboard.engines.tokens import ScoredSequence
from tuneboard.errors import ModelError

#: Largest difference of a sum of five log-probabilities that is put down to rounding. Wrong masks differ by units.
_TOLERANCE = {True: 1e-3, False: 0.5}


def can_share(tree: TreeModel, notice: Notice) -> bool:
    """Say whether tree-masked rows behind a cache give what ordinary passes give, on a few random sequences.

    Raises:
        ModelError: The model does not run at all.
    """
    requests = _probes(int(tree.model.get_input_embeddings().weight.shape[0]))
    order = [0] * len(requests)
    try:
        plain = _results(PlainScorer(tree.model).score(requests, order))
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        name = getattr(tree.model, "name_or_path", "the model")
        raise ModelError(f"{name} loads, but does not run on {tree.device}: {reason[0]}") from error
    if not tree.masks_all_layers:
        return False
    if _agrees(tree, requests, plain, notice):
        return True
    tree.stop_trimming()
    return _agrees(tree, requests, plain, notice)


def _agrees(tree: TreeModel, requests: Sequence[ScoredSequence], plain: dict[int, float], notice: Notice) -> bool:
    try:
        shared = _results(TreeScorer(tree, Budget(45, min_extend=8), notice).score(requests, [0] * len(requests)))
    except Exception:
        # What an architecture without a cache or with masks of its own raises is its own affair.
        return False
    exact = tree.dtype == torch.float32 and not getattr(tree.model, "is_quantized", False)
    return all(abs(shared[i] - plain[i]) <= _TOLERANCE[exact] + 1e-4 * abs(plain[i]) for i in plain)


def _probes(vocabulary: int) -> Sequence[ScoredSequence]:
    """Four sequences of 40 tokens that part after 20 and 30; the last five positions of each are scored."""
    ids = np.random.default_rng(0).integers(0, vocabulary, size=(4, 40)).astype(np.int32)
    ids[1:, :20] = ids[0, :20]
    ids[2, :30] = ids[1, :30]
    return [ScoredSequence(row, np.roll(row, -1)[-5:]) for row in ids]


def _results(passes: Iterator[Scored]) -> dict[int, float]:
    return {index: logprob for done in passes for index, logprob, _ in done.results}
