"""Finds out, when a model is loaded or virtual tokens are attached to it, whether its prefixes can be shared."""

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
from tuneboard.engines.virtual import VirtualTokens
from tuneboard.errors import ModelError

#: Largest difference of a sum of five log-probabilities that is put down to rounding. Wrong masks differ by units.
_TOLERANCE = {True: 1e-3, False: 0.5}
#: Tokens of one probe, where the context holds so many.
_LENGTH = 40


def can_share(tree: TreeModel, notice: Notice) -> bool:
    """Say whether tree-masked rows behind a cache give what ordinary passes give, on a few random sequences.

    Raises:
        ModelError: The model does not run at all.
    """
    requests = _probes(tree)
    try:
        plain = _results(PlainScorer(tree.model).score(requests, [0] * len(requests)))
    except Exception as error:
        name = getattr(tree.model, "name_or_path", "the model")
        raise ModelError(f"{name} loads, but does not run on {tree.device}: {_reason(error)}") from error
    if not tree.masks_all_layers:
        return False
    if _agrees(tree, requests, plain, notice):
        return True
    tree.stop_trimming()
    return _agrees(tree, requests, plain, notice)


def can_share_behind(tree: TreeModel, virtual: VirtualTokens, room: int, notice: Notice) -> bool:
    """Say the same of a model that shares prefixes, with virtual tokens at the root of its cache.

    Args:
        tree: The model.
        virtual: The virtual tokens.
        room: Real tokens that the context holds behind them, at least 1.
        notice: Told about halved batches.

    Raises:
        ModelError: The model does not run with them, not even one sequence at a time.
    """
    requests = _probes(tree, min(room, _LENGTH))
    try:
        plain = _results(PlainScorer(tree.model, virtual).score(requests, [0] * len(requests)))
    except Exception as error:
        raise ModelError(f"{type(tree.model).__name__} does not run with them: {_reason(error)}") from error
    try:
        tree.plant(virtual)
        return _agrees(tree, requests, plain, notice)
    except Exception:
        # As below: passes with embeddings in place of tokens are the architecture's own affair.
        return False
    finally:
        tree.plant(None)


def _agrees(tree: TreeModel, requests: Sequence[ScoredSequence], plain: dict[int, float], notice: Notice) -> bool:
    try:
        shared = _results(TreeScorer(tree, Budget(45, min_extend=8), notice).score(requests, [0] * len(requests)))
    except Exception:
        # What an architecture without a cache or with masks of its own raises is its own affair.
        return False
    exact = tree.dtype in (torch.float32, torch.float64) and not getattr(tree.model, "is_quantized", False)
    return all(abs(shared[i] - plain[i]) <= _TOLERANCE[exact] + 1e-4 * abs(plain[i]) for i in plain)


def _probes(tree: TreeModel, length: int = _LENGTH) -> Sequence[ScoredSequence]:
    """Four sequences that part after half and three quarters; the last five positions of each are scored."""
    vocabulary = int(tree.model.get_input_embeddings().weight.shape[0])
    ids = np.random.default_rng(0).integers(0, vocabulary, size=(4, length)).astype(np.int32)
    ids[1:, : length // 2] = ids[0, : length // 2]
    ids[2, : length * 3 // 4] = ids[1, : length * 3 // 4]
    return [ScoredSequence(row, np.roll(row, -1)[-5:]) for row in ids]


def _results(passes: Iterator[Scored]) -> dict[int, float]:
    return {index: logprob for done in passes for index, logprob, _ in done.results}


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
