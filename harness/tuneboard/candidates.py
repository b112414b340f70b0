"""From what the user names (folders, hub ids) to candidates with the hash of their weights; imports no torch."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tuneboard.errors import AdapterError, ModelError
from tuneboard.records import AdapterRef, ModelRef, fingerprint

_CONFIGS = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "labels.json",
)
_ADAPTER_CONFIG = "adapter_config.json"
#: Names of a classifier's labels: they decide what its scores mean.
_LABELS = "labels.json"
_ADAPTER_WEIGHTS = "adapter_model.safetensors"
_PICKLES = ("*.bin", "*.pt", "*.pth")
#: What torch calls the data types that a config may name.
_DTYPES = ("float32", "bfloat16", "float16", "float64")


def resolve_model(ref: ModelRef, allow_pickle: bool = False) -> ModelRef:
    """Fill in a model's hash and, for ``dtype="auto"``, the data type that its config names.

    Raises:
        ModelError: No model there, or only weights in a refused format.
    """
    folder = Path(ref.id).expanduser()
    if folder.is_dir():
        config = _read_json(folder / "config.json", ModelError, "a Hugging Face model folder has one")
        weights = _weights(folder, allow_pickle)
        sha256 = _hash_files([folder / name for name in _CONFIGS] + weights)
        return _with(ref, id=str(folder), sha256=sha256, dtype=_dtype(ref.dtype, config))
    if folder.is_absolute() or ref.id.startswith((".", "~")) or ref.id.count("/") != 1:
        raise ModelError(
            f"no model at '{ref.id}': there is no such folder; expected a folder or a hub id like org/name"
        )
    commit, config = _from_hub(ref.id, ref.revision)
    return _with(ref, revision=commit, sha256=fingerprint("hub", ref.id, commit), dtype=_dtype(ref.dtype, config))


def resolve_adapter(path: str, allow_pickle: bool = False) -> AdapterRef:
    """Check that an adapter can be read, and hash it.

    Raises:
        AdapterError: No adapter there, or its weights are pickled.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        folder = _adapter_from_hub(path)
    config = _read_json(folder / _ADAPTER_CONFIG, AdapterError, "a PEFT adapter folder has one")
    weights = folder / _ADAPTER_WEIGHTS
    if not weights.is_file():
        pickled = [name.name for pattern in _PICKLES for name in folder.glob(pattern)]
        if not pickled:
            raise AdapterError(f"adapter {path} has no {_ADAPTER_WEIGHTS}; save it with peft's save_pretrained")
        if not allow_pickle:
            raise AdapterError(
                f"adapter {path} has only pickled weights ({pickled[0]}), which can run code when read; "
                "save it with safetensors, or add --allow-pickle if you trust it"
            )
        weights = folder / pickled[0]
    if "peft_type" not in config:
        raise AdapterError(f"{folder / _ADAPTER_CONFIG} names no peft_type; expected the config of a PEFT adapter")
    sha256 = _hash_files([folder / _ADAPTER_CONFIG, weights, folder / _LABELS])
    return AdapterRef(str(folder), sha256, str(config["peft_type"]).upper())


def _with(ref: ModelRef, **changes: Any) -> ModelRef:
    from dataclasses import replace

    return replace(ref, **changes)


def _dtype(asked: str, config: dict[str, Any]) -> str:
    if asked != "auto":
        if asked not in _DTYPES:
            raise ModelError(f"dtype '{asked}' is unknown; expected auto, {', '.join(_DTYPES)}")
        return asked
    text_config = config.get("text_config") or {}
    names = (holder.get(key) for holder in (config, text_config) for key in ("dtype", "torch_dtype"))
    return next((str(name).removeprefix("torch.") for name in names if name), "float32")


def _weights(folder: Path, allow_pickle: bool) -> list[Path]:
    weights = sorted(folder.glob("*.safetensors"))
    pickles = sorted(name for pattern in _PICKLES for name in folder.glob(pattern))
    if not weights and pickles and not allow_pickle:
        raise ModelError(
            f"{folder} has only pickled weights ({pickles[0].name}), which can run code when read; "
            "convert them to safetensors, or add --allow-pickle if you trust them"
        )
    if not weights and not pickles:
        raise ModelError(f"{folder} has no weights; expected *.safetensors, as transformers' save_pretrained writes")
    return weights or pickles


def _read_json(path: Path, error: type[ModelError], hint: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error(f"there is no {path.name} in {path.parent}; {hint}") from None
    except (OSError, ValueError) as problem:
        raise error(f"{path} cannot be read ({problem}); {hint}") from problem
    if not isinstance(value, dict):
        raise error(f"{path} is not a JSON object; {hint}")
    return value


def _from_hub(name: str, revision: str | None) -> tuple[str, dict[str, Any]]:
    from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache

    try:
        cached = try_to_load_from_cache(name, "config.json", revision=revision)
        if os.environ.get("HF_HUB_OFFLINE") in ("1", "true", "True") and isinstance(cached, str):
            return Path(cached).parent.name, json.loads(Path(cached).read_text(encoding="utf-8"))
        commit = str(HfApi().model_info(name, revision=revision).sha)
        path = hf_hub_download(name, "config.json", revision=commit)
        return commit, json.loads(Path(path).read_text(encoding="utf-8"))
    except Exception as error:  # the hub's client lets through what the network library of its version raises
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"no model at '{name}': no such folder, and the hub does not give it ({reason}); check name and network"
        ) from error


def _adapter_from_hub(name: str) -> Path:
    if Path(name).is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise AdapterError(f"no adapter at '{name}': there is no such folder; expected the folder of a PEFT adapter")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=["adapter_*", _LABELS]))
    except Exception as error:  # as above
        raise AdapterError(f"no adapter at '{name}': no such folder, and the hub does not give it") from error


def _hash_files(paths: Sequence[Path]) -> str:
    """Hash names and contents; a large file is read once and its hash remembered by size and time of change."""
    cache = _HashCache()
    parts = [(path.name, cache.digest(path)) for path in paths if path.is_file()]
    cache.save()
    return fingerprint(parts)


class _HashCache:
    """Hashes of large files from earlier runs, in the user's cache folder; losing it costs time only."""

    _LARGE = 64 << 20

    def __init__(self) -> None:
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        self.path = Path(root) / "tuneboard" / "weights.json"
        self.known: dict[str, str] = {}
        self.changed = False
        with suppress(OSError, ValueError):
            self.known = dict(json.loads(self.path.read_text(encoding="utf-8")))

    def digest(self, path: Path) -> str:
        stat = path.stat()
        key = f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}"
        if stat.st_size < self._LARGE:
            return _sha256(path)
        if key not in self.known:
            self.known[key], self.changed = _sha256(path), True
        return self.known[key]

    def save(self) -> None:
        if not self.changed:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self.path.parent, delete=False, encoding="utf-8") as file:
                json.dump(self.known, file)
            os.replace(file.name, self.path)
        except OSError:
            pass


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unique_names(names: Iterable[str]) -> None:
    """Refuse a name that is given to two candidates, or that a table could not show.

    Raises:
        ModelError: Naming the one that is wrong.
    """
    seen: set[str] = set()
    for name in names:
        if not name.strip() or not name.isprintable():
            raise ModelError(f"a candidate is named {name!a}; expected printable characters, at least one")
        if name in seen:
            raise ModelError(f"the name '{name}' is given to two candidates; give each its own")
        seen.add(name)
