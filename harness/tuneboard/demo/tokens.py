"""The demo's tokenizer, and the stream of tokens that its base learns from."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from tuneboard.demo.settings import TinySettings
from tuneboard.demo.world import World

if TYPE_CHECKING:
    import torch

_BOS, _EOS = "<s>", "</s>"


def make_tokenizer(world: World, settings: TinySettings) -> Any:
    """Train a byte-level BPE tokenizer that puts BOS first.

    Digits and line ends are tokens of their own: sums are not learnt otherwise, and a prompt that ends with its line
    has the same tokens alone as in front of its answer.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Split("\n", "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    bare.decoder = decoders.ByteLevel()
    bare.train_from_iterator(
        (text for part in world.parts for lessons in part.lessons for text in lessons.texts),
        trainers.BpeTrainer(
            vocab_size=settings.vocab_size,
            special_tokens=[_BOS, _EOS],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    bare.post_processor = processors.TemplateProcessing(single=f"{_BOS} $A", special_tokens=[(_BOS, 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=bare,
        bos_token=_BOS,
        eos_token=_EOS,
        pad_token=_EOS,
        model_max_length=settings.context,
        clean_up_tokenization_spaces=False,
    )


def training_blocks(world: World, tokenizer: Any, settings: TinySettings) -> torch.Tensor:
    """Return packed documents, shape [steps * batch, block]; each kind of lessons has its share of the tokens.

    A kind whose texts are too few for its share is read again and again, in another order each time.
    """
    import torch

    rng = random.Random(f"{world.seed}:stream")
    wanted = settings.steps * settings.batch * settings.block
    all_lessons = [lessons for part in world.parts for lessons in part.lessons]
    whole = sum(lessons.share for lessons in all_lessons)
    documents: list[list[int]] = []
    for lessons in all_lessons:
        rows = [[*ids, tokenizer.eos_token_id] for ids in tokenizer(list(lessons.texts))["input_ids"]]
        budget = wanted * lessons.share / whole
        while budget > 0:
            rng.shuffle(rows)
            for row in rows:
                if budget <= 0:
                    break
                documents.append(row)
                budget -= len(row)
    rng.shuffle(documents)
    stream = [token for document in documents for token in document]
    return torch.tensor(stream[:wanted]).view(-1, settings.block)
