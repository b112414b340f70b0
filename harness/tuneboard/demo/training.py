"""Trains the demo's tokenizer, base model and adapters: seeded, in some seconds on a CPU."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tuneboard.demo.settings import AdapterSettings, TinySettings

Lessons = Mapping[str, Sequence[str]]
#: Called now and then with a line for people.
Note = Callable[[str], None]

_BOS, _EOS = "<s>", "</s>"
_SEPARATOR = "\n\n"  # lm-eval's between few-shot examples
_MOST_EXAMPLES = 3  # in one document, so that few-shot prompts look familiar
_NOTE_EVERY_S = 5.0


def make_base(folder: Path, lessons: Lessons, settings: TinySettings, note: Note) -> None:
    """Train a tokenizer and a Llama on all lessons and save both as a Hugging Face model folder.

    Matrices learn by Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon), scaled to AdamW's step as
    in Liu et al. 2025 (https://arxiv.org/abs/2502.16982); embeddings and norms by AdamW.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _tokenizer([text for texts in lessons.values() for text in texts], settings)
    with _seeded(settings.seed):
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=settings.hidden_size,
            intermediate_size=8 * settings.hidden_size // 3,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.hidden_size // 64,
            max_position_embeddings=settings.context,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
            # At this size eager attention trains faster than sdpa, and twice as fast where that falls to bfloat16.
            attn_implementation="eager",
        )
        model = LlamaForCausalLM(config)
        inner = [weight for name, weight in model.named_parameters() if weight.ndim == 2 and "embed" not in name]
        outer = [weight for name, weight in model.named_parameters() if weight.ndim != 2 or "embed" in name]
        optimizers = [
            torch.optim.Muon(inner, lr=settings.learning_rate, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(outer, lr=settings.learning_rate, betas=(0.9, 0.95)),
        ]
        blocks = _blocks(lessons, tokenizer, settings, settings.seed)
        _fit(model, optimizers, blocks, settings.steps, lambda line: note(f"training the base model: {line}"))
    model.generation_config.max_new_tokens = settings.context // 4
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_adapter(folder: Path, base: Path, lessons: Lessons, settings: TinySettings, name: str, note: Note) -> None:
    """Train one LoRA adapter of the model in ``base`` on its part of the lessons and save it as peft does."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    own: AdapterSettings = dict(settings.adapters)[name]
    tokenizer = AutoTokenizer.from_pretrained(base)
    seed = settings.seed + 1 + [known for known, _ in settings.adapters].index(name)
    with _seeded(seed):
        model = AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager")
        lora = peft.LoraConfig(r=own.rank, lora_alpha=2 * own.rank, target_modules="all-linear", task_type="CAUSAL_LM")
        model = peft.get_peft_model(model, lora)
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        blocks = _blocks({task: lessons[task] for task in own.tasks}, tokenizer, settings, seed)
        optimizer = torch.optim.AdamW(trained, lr=own.learning_rate, weight_decay=0.0)
        _fit(model, [optimizer], blocks, own.steps, lambda line: note(f"training adapter {name}: {line}"))
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # an empty form
    # peft writes sets in the order of the process's hash seed and the folder of the base: both would change the
    # adapter's identity from one making to the next.
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config |= {"base_model_name_or_path": "tiny-base", "target_modules": sorted(config["target_modules"])}
    path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def _tokenizer(texts: Sequence[str], settings: TinySettings) -> Any:
    """Train a byte-level BPE tokenizer that puts BOS first.

    Digits and line ends are tokens of their own: sums are learnt faster, and a prompt that ends with its line has the
    same tokens alone as in front of its answer.
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
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bare.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=settings.vocab_size,
            special_tokens=[_BOS, _EOS],
            initial_alphabet=sorted(alphabet),
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


def _blocks(lessons: Lessons, tokenizer: Any, settings: TinySettings, seed: int) -> Iterator[Any]:
    """Yield batches of packed documents, shape [batch, block], without end; each task gets as many documents."""
    import torch

    rng = random.Random(seed)
    tasks, size = sorted(lessons), settings.batch * settings.block
    tokens: list[int] = []
    while True:
        while len(tokens) < size:
            texts = lessons[rng.choice(tasks)]
            document = _SEPARATOR.join(rng.choices(texts, k=rng.randint(1, _MOST_EXAMPLES)))
            tokens += [*tokenizer.encode(document), tokenizer.eos_token_id]
        yield torch.tensor(tokens[:size]).view(settings.batch, settings.block)
        tokens = tokens[size:]


def _fit(model: Any, optimizers: Sequence[Any], blocks: Iterator[Any], steps: int, note: Note) -> None:
    """Train on one batch a step, with a short rise and a long linear fall of the learning rate."""
    from torch.optim.lr_scheduler import LambdaLR

    def pace(step: int) -> float:
        return min((step + 1) / (0.1 * steps + 1), (steps - step) / (0.6 * steps + 1), 1.0)

    schedules = [LambdaLR(optimizer, pace) for optimizer in optimizers]
    model.train()
    next_note = time.monotonic() + _NOTE_EVERY_S
    note(f"{steps} steps")
    for step in range(1, steps + 1):
        batch = next(blocks)
        loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        for schedule in schedules:
            schedule.step()
        if step == steps or time.monotonic() >= next_note:
            next_note = time.monotonic() + _NOTE_EVERY_S
            note(f"step {step} of {steps}, loss {loss.item():.2f}")
    model.eval()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch and give it one thread within; leave its generator and threads outside as they were.

    One thread: two are 1.4 times as fast on idle cores, but 10 to 20 times as slow where others are at work, since
    they wait for each other at every small operation; and sums do not depend on the number of cores.
    """
    import torch

    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
