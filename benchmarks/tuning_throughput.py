"""Tokens per second of a LoRA training here and with plain transformers Trainer + peft with padding, side by side.

    python benchmarks/tuning_throughput.py [--mirror DIR] [--scale 1.0] [--rounds 2] [--precision auto]

Same model (a random 29 M-parameter Llama made on the spot), same LoRA (rank 16 on all linear layers), same examples,
same examples per step (packed: as many tokens per step on average), same optimizer, schedule and precision, loss on
answers only. Each training is a process of its own; sides take turns. What is timed is the steps after the first, on
both sides without validation and saving; tokens are those of the examples, padding apart. The last column is the loss
on held-out examples after training, computed in the same way for all: it must agree within noise.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from small_llama import make_model

ROOT = Path(__file__).resolve().parent.parent
RATE, RANK, BATCH, EPOCHS, LONGEST = 1e-3, 16, 16, 1, 512
SIDES = ("plain transformers", "tuneboard packed", "tuneboard grouped")


def load(mirror: Path, workload: str, scale: float) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return (prompt, answer) pairs to train on and to hold out."""
    import pyarrow.parquet as pq

    count = max(48, int(640 * scale))
    if workload == "GPTeacher":
        table = pq.read_table(mirror / "teknium/GPTeacher/default/train.parquet").to_pylist()
        rows = [
            (" ".join(filter(None, (row["instruction"], row.get("input")))) + "\nResponse:", " " + row["output"])
            for row in table
            if row["output"].strip()
        ]
    else:
        table = pq.read_table(mirror / "openai/gsm8k/main/train.parquet").to_pylist()
        rows = [(f"Question: {row['question']}\nAnswer:", f" {row['answer']}") for row in table]
    return rows[:count], rows[count : count + 64]


def equal_lengths(rows: list[tuple[str, str]], tokenizer: Any, length: int = 160) -> list[tuple[str, str]]:
    """Give every example the same number of tokens, by cutting all of them out of one text."""
    text = " ".join(prompt + answer for prompt, answer in rows)
    ids = tokenizer.encode(text, add_special_tokens=False)
    pieces = [tokenizer.decode(ids[at : at + length]) for at in range(0, len(ids) - length, length)]
    half = len(pieces[0]) // 2
    return [(piece[:half], piece[half:]) for piece in pieces[: len(rows)]]


def encoded(rows: list[tuple[str, str]], tokenizer: Any) -> Any:
    from tuneboard.tuning.encoding import EncodingRules, encode
    from tuneboard.tuning.records import Example

    examples = [Example(prompt, answer, format="completion") for prompt, answer in rows]
    return encode(examples, tokenizer, EncodingRules("causal", LONGEST))[0]


def data_of(workload: str, mirror: Path, scale: float, tokenizer: Any) -> tuple[Any, Any]:
    name = "GPTeacher" if "GPTeacher" in workload else "gsm8k"
    train, held = load(mirror, name, scale)
    if workload == "equal lengths":
        train, held = equal_lengths(train, tokenizer), equal_lengths(held, tokenizer)
    return train, held


def plain(model_folder: Path, train: Any, precision: str, work: Path) -> dict[str, float]:
    """Train as transformers' and peft's own examples do."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        DataCollatorForSeq2Seq,
        PrinterCallback,
        Trainer,
        TrainerCallback,
        TrainingArguments,
        set_seed,
    )

    set_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    tokenizer.pad_token = tokenizer.eos_token
    config = LoraConfig(task_type="CAUSAL_LM", r=RANK, lora_alpha=2 * RANK, target_modules="all-linear")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(model_folder), config)
    rows = [
        {"input_ids": one.ids.tolist(), "attention_mask": [1] * len(one.ids), "labels": one.labels.tolist()}
        for one in train
    ]
    moments: list[float] = []

    class Moments(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            moments.append(time.perf_counter())

    arguments = TrainingArguments(
        output_dir=str(work),
        per_device_train_batch_size=BATCH,
        num_train_epochs=EPOCHS,
        learning_rate=RATE,
        lr_scheduler_type="cosine",
        warmup_steps=0.03,
        weight_decay=0.0,
        bf16=precision == "bfloat16",
        seed=0,
        report_to="none",
        save_strategy="no",
        logging_steps=10,
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
    )
    collate = DataCollatorForSeq2Seq(tokenizer)
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collate, callbacks=[Moments()])
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    model.save_pretrained(work / "made")
    return {"tokens": sum(len(one.ids) for one in train) * EPOCHS, **pace(moments)}


def ours(model_folder: Path, rows: Any, batching: str, precision: str, work: Path) -> dict[str, float]:
    import dataclasses

    from tuneboard.records import ModelRef
    from tuneboard.tuning.bases import load_base
    from tuneboard.tuning.methods import find_method
    from tuneboard.tuning.records import DataReport, DataSpec, Example, PreparedData, Recipe, TrainingSpec
    from tuneboard.tuning.training import TrainingJob, train

    method = find_method("lora")
    options = dataclasses.asdict(method.Options(rank=RANK, targets="all-linear", dropout=0.0))
    base = load_base(ModelRef(str(model_folder)), "causal")
    examples = tuple(Example(prompt, answer, format="completion") for prompt, answer in rows)
    mean = statistics.fmean(len(one.ids) for one in encoded(rows, base.tokenizer))
    batch = max(1, round(BATCH * mean / LONGEST)) if batching == "packed" else BATCH
    spec = TrainingSpec(epochs=EPOCHS, batch_size=batch, learning_rate=RATE, batching=batching, precision=precision)
    recipe = Recipe("bench", ModelRef(str(model_folder)), "lora", options, DataSpec((), max_length=LONGEST), spec)
    report = DataReport((), (), (), len(examples), 0, sha256="bench")
    moments: list[float] = []

    class Moments:
        def step(self, *args: Any) -> None:
            moments.append(time.perf_counter())

        def note(self, line: str) -> None: ...

    data = PreparedData(examples, (), report)
    model, trained = train(TrainingJob(recipe, method, base, data, work / "work"), Moments())
    method.save(model, work / "made")
    return {"tokens": trained.tokens, **pace(moments)}


def pace(moments: list[float]) -> dict[str, float]:
    return {"steps": len(moments), "seconds": (moments[-1] - moments[0]) * len(moments) / max(1, len(moments) - 1)}


def held_out_loss(model_folder: Path, adapter: Path, held: Any) -> float:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from tuneboard.tuning.batching import Layout, collator, single_rows
    from tuneboard.tuning.losses import count_labels, summed_loss

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model_folder), adapter).eval()
    total, count = 0.0, 0
    with torch.no_grad(), summed_loss(model, "causal") as loss:
        for start in range(0, len(held), 8):
            batch = collator(Layout("causal", 0))(single_rows(held[start : start + 8]))
            total += float(loss(model, batch))
            count += count_labels(batch)
    return total / count


def one_side(arguments: argparse.Namespace) -> None:
    """Train once and print a line of JSON."""
    import torch
    from transformers import AutoTokenizer

    from tuneboard.tuning.precision import choose_precision
    from tuneboard.tuning.records import TrainingSpec

    folder = Path(arguments.model)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    train, held = data_of(arguments.workload, Path(arguments.mirror), arguments.scale, tokenizer)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = choose_precision(TrainingSpec(precision=arguments.precision), device, 29_000_000)
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        if arguments.side == SIDES[0]:
            result = plain(folder, encoded(train, tokenizer), precision, work)
        else:
            result = ours(folder, train, arguments.side.split()[-1], precision, work)
        result["held_out_loss"] = held_out_loss(folder, work / "made", encoded(held, tokenizer))
    print(json.dumps({**result, "precision": precision}))


def measured(workload: str, side: str, arguments: argparse.Namespace) -> dict[str, Any]:
    options = {"--side": side, "--workload": workload, "--model": arguments.model, "--mirror": arguments.mirror}
    options |= {"--scale": arguments.scale, "--precision": arguments.precision}
    command = [sys.executable, __file__, *(str(part) for pair in options.items() for part in pair)]
    paths = os.pathsep.join(filter(None, (str(ROOT / "harness"), os.environ.get("PYTHONPATH"))))
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": paths}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{side} failed on {workload}:\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--mirror", default=os.environ.get("TUNEBOARD_MIRROR") or str(ROOT.parent / "shared" / "mirror")
    )
    parser.add_argument("--scale", type=float, default=1.0, help="share of 640 examples a training")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--only", default="", help="part of a workload's name")
    parser.add_argument("--work", default=str(ROOT / "results/bench"), help="folder for the model")
    for hidden in ("--side", "--workload", "--model"):
        parser.add_argument(hidden, default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        one_side(arguments)
        return
    if not Path(arguments.mirror).is_dir():
        sys.exit("no mirror of real data; name one with --mirror or TUNEBOARD_MIRROR")
    arguments.model = str(make_model(Path(arguments.work), Path(arguments.mirror)))
    columns = ("workload", "side", "steps", "tokens", "tokens/s", "ratio", "held-out loss")
    print(f"| {' | '.join(columns)} |\n{'| --- ' * len(columns)}|")
    for workload in ("equal lengths", "GSM8K", "GPTeacher"):
        if arguments.only.lower() not in workload.lower():
            continue
        results: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
        for _ in range(arguments.rounds):
            for side in SIDES:
                results[side].append(measured(workload, side, arguments))
        speeds = {
            side: statistics.median(one["tokens"] / one["seconds"] for one in runs) for side, runs in results.items()
        }
        for side, runs in results.items():
            last = runs[-1]
            row = (f"{workload}, {last['precision']}", side, f"{last['steps']}", f"{last['tokens']:,}")
            row += (f"{speeds[side]:,.0f}", f"{speeds[side] / speeds[SIDES[0]]:.2f}", f"{last['held_out_loss']:.3f}")
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
