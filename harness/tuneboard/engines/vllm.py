"""The vLLM engine: base and all adapters in one ``vllm.LLM``, requests of all candidates in one stream.

What vLLM does not take is merged into a temporary checkpoint where its weights can stand for it, else answered by the
transformers engine; both are said. One model is loaded at a time, since each takes what memory there is.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from tuneboard.engines.batches import guarded
from tuneboard.engines.loading import LoadOptions
from tuneboard.engines.mergeable import ROUNDING
from tuneboard.engines.merged import PAIRS, difference, write_merged
from tuneboard.engines.protocol import BASE, Answer, EngineInfo, Notice, Work
from tuneboard.engines.sampling import RuleBook
from tuneboard.engines.tokens import Encoder, context_length
from tuneboard.engines.vllm_adapters import Placement, place_files
from tuneboard.engines.vllm_faults import WorkerLost
from tuneboard.engines.vllm_host import Host, Plan, Reader, set_environment
from tuneboard.engines.vllm_installed import dealt_gpus, device_name, installed_version, read_model, runs_on_cpu
from tuneboard.engines.vllm_settings import VllmSettings, engine_arguments, environment, lora_needs
from tuneboard.errors import AdapterError, EngineError, ModelError
from tuneboard.records import AdapterRef, ModelRef

#: The stage on which the base and the adapters that vLLM serves are loaded.
_MAIN = ""
#: How often a model is loaded again, within one call, because its worker process ended.
_RESTARTS = 3


class _Loaded(Protocol):
    """A loaded model that answers for some candidates."""

    def run(self, work: Sequence[Work]) -> Iterator[Answer]: ...

    def close(self) -> None: ...


class VllmEngine:
    """Answers requests with vLLM; see ``protocol.Engine``.

    The model is loaded by ``start``, or by the first ``run``, when all adapters are known: vLLM must be told their
    number and ranks.

    Args:
        ref: The base model.
        options: Device, context length, and what is trusted.
        notice: Told which adapters are merged or sent to the transformers engine.
        settings: What only vLLM knows.

    Raises:
        MissingExtra: vLLM is not installed.
        ModelError: The model's config or tokenizer cannot be loaded, or the device is not one of vLLM's.
    """

    def __init__(
        self,
        ref: ModelRef,
        options: LoadOptions | None = None,
        notice: Notice = lambda line: None,
        settings: VllmSettings | None = None,
    ) -> None:
        self.ref, self.options, self.notice = ref, options or LoadOptions(), notice
        self.settings = settings or VllmSettings()
        self.on_cpu = runs_on_cpu(self.options)
        import transformers  # noqa: F401 (seconds, which are no part of loading the model)

        started = time.perf_counter()
        self.tokenizer, config, defaults = read_model(ref, self.options)
        self._own_length = context_length(config, self.tokenizer)
        self.max_length = self.options.max_length or self._own_length
        self._reader = Reader(Encoder(self.tokenizer, self.max_length), RuleBook(self.tokenizer, defaults))
        self._architecture = next(iter(getattr(config, "architectures", None) or ["unknown"]))
        self._adapters: dict[str, AdapterRef] = {}
        self._placements: dict[str, Placement] = {}
        self._loaded: _Loaded | None = None
        self._stage = _MAIN
        self._started = False
        self._dtype = ref.dtype
        self._folders: dict[str, tuple[Path, list[float]]] = {}
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._load_s = time.perf_counter() - started

    @property
    def info(self) -> EngineInfo:
        """Name, version, device and dtype."""
        routes = {name: found.route for name, found in self._placements.items() if found.route != "served"}
        details: dict[str, Any] = {
            "max_length": self.max_length,
            "architecture": self._architecture,
            "load_s": self._load_s,
            "tensor_parallel": self.settings.tensor_parallel,
            "data_parallel": self.settings.data_parallel,
            "eager": self.settings.eager or self.on_cpu,
            "elsewhere": routes,
        }
        return EngineInfo("vllm", installed_version(), device_name(), self._dtype, details)

    @property
    def tokenizer_name(self) -> str:
        """Path or id of the tokenizer."""
        return str(self.tokenizer.name_or_path)

    def attach(self, name: str, adapter: AdapterRef) -> None:
        """Add an adapter under ``name``; its weights are read by ``start``.

        Raises:
            AdapterError: Its files cannot be read.
        """
        try:
            found = place_files(adapter)
        except (OSError, ValueError) as error:
            raise AdapterError(f"adapter {adapter.path} cannot be read ({error}); save it again") from error
        if found.route == "merged" and self.ref.quantization:
            found = Placement("transformers", f"{found.reason}, and cannot be merged into quantized weights")
        self._adapters[name] = adapter
        self._place(name, found)
        if found.route == "served" and self._stage == _MAIN:
            self._leave()  # the next run loads the model with this adapter too

    def start(self) -> None:
        """Load the base with the adapters that vLLM serves.

        Raises:
            ModelError: It cannot be loaded; says which setting to change.
        """
        self._enter(_MAIN)
        self._started = True

    def run(self, work: Sequence[Work]) -> Iterator[Answer]:
        """Answer all of ``work``, all that vLLM serves in one stream; what breaks one model fails its own requests.

        Raises:
            EngineError: No adapter of a name is attached.
            ModelError: As for ``start``, where that was not called before.
        """
        if not self._started:
            self.start()  # only then is known what vLLM takes
        stages: dict[str, list[Work]] = {}
        for item in work:
            stages.setdefault(self._stage_of(item.candidate), []).append(item)
        # What is loaded goes first; what is asked for oftenest, last, and so stays for the next call.
        for stage in sorted(stages, key=lambda one: (one != self._stage, one == _MAIN)):
            yield from guarded(stages[stage], self._persist(stage, stages[stage]))

    def _persist(self, stage: str, work: Sequence[Work]) -> Iterator[Answer]:
        """Replace a worker process that ended by another, which is asked what is open, as long as that leads on."""
        left = {item.id: item for item in work}
        for restarts in range(_RESTARTS + 1):
            before = len(left)
            try:
                for answer in self._run(stage, list(left.values())):
                    left.pop(answer.id, None)
                    yield answer
                return
            except WorkerLost as lost:
                if len(left) == before or restarts == _RESTARTS:
                    raise
                self.notice(f"{lost}: it is started again for {len(left)} of {len(work)} requests")

    def _run(self, stage: str, work: Sequence[Work]) -> Iterator[Answer]:
        try:
            loaded = self._enter(stage)
            own = work
            if stage in self._folders and self._placements[stage].route == "merged":
                own = [replace(item, candidate=BASE) for item in work]
            yield from loaded.run(own)
        except EngineError:
            self._leave()  # a worker process that died is not asked again
            raise

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Render a chat with the model's own template.

        Raises:
            ModelError: The tokenizer has none.
        """
        from tuneboard.engines.chat import ChatTemplate

        if not self.tokenizer.chat_template:
            raise ModelError(f"{self.tokenizer_name} has no chat template; leave --apply-chat-template out")
        template = ChatTemplate(self.tokenizer, str(self.tokenizer.chat_template))
        return template.apply_chat_template(chat_history, add_generation_prompt)

    def close(self) -> None:
        """Free the model and remove temporary checkpoints."""
        self._leave()
        self._reader.known.clear()
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    def _place(self, name: str, found: Placement) -> None:
        self._placements[name] = found
        if found.route == "merged":
            self.notice(f"{name}: vLLM does not serve it ({found.reason}); it is merged into a temporary checkpoint")
        elif found.route == "transformers":
            self.notice(f"{name}: vLLM does not serve it ({found.reason}); the transformers engine answers for it")

    def _stage_of(self, candidate: str) -> str:
        if candidate == BASE:
            return _MAIN
        if candidate not in self._placements:
            raise EngineError(f"no adapter named '{candidate}' is attached")
        return _MAIN if self._placements[candidate].route == "served" else candidate

    def _enter(self, stage: str) -> _Loaded:
        """Load what a stage needs; what was loaded before goes first."""
        if self._loaded is not None and self._stage == stage:
            return self._loaded
        self._leave()
        started = time.perf_counter()
        if stage == _MAIN:
            self._loaded = self._main()
        elif self._placements[stage].route == "merged":
            self._loaded = self._merged(stage)
        if stage != _MAIN and self._placements[stage].route == "transformers":
            self._loaded = self._transformers(stage)
        self._stage = stage
        self._load_s += time.perf_counter() - started
        assert self._loaded is not None
        return self._loaded

    def _leave(self) -> None:
        if self._loaded is not None:
            self._loaded.close()
        self._loaded = None

    def _main(self) -> Host:
        served = {name: self._adapters[name] for name, found in self._placements.items() if found.route == "served"}
        host = self._host(self.ref, served)
        self._dtype = host.dtype
        for name, reason in host.refused.items():
            self._place(name, Placement("merged", reason))
        return host

    def _host(self, ref: ModelRef, served: dict[str, AdapterRef]) -> Host:
        ranks = [self._placements[name].rank for name in served]
        layers = sorted({layer for name in served for layer in self._placements[name].layers})
        needs = lora_needs(ranks, layers, self.settings, self.on_cpu)
        set_environment(environment(self.max_length, self._own_length, self.settings, self.on_cpu))
        arguments = engine_arguments(ref, self.max_length, self.settings, needs, self.on_cpu)
        arguments["trust_remote_code"] = self.options.trust_remote_code
        if not self.options.allow_pickle and ref.quantization != "4bit":
            arguments["load_format"] = "safetensors"
        gpus = dealt_gpus(self.options.device, self.settings, self.on_cpu)
        plan = Plan(ref, arguments, self.settings, needs, gpus)
        host = Host(plan, served, self._reader)
        if host.slow_lora:
            self.notice("this vLLM's operations for adapters on CPUs are other than expected, and slow")
        return host

    def _merged(self, name: str) -> Host | None:
        """Load an adapter that was merged; None where the merged weights answer otherwise than the adapter."""
        folder, wanted = self._folder(name)
        host = self._host(replace(self.ref, id=str(folder), revision=None), {})
        try:
            work = [Work(place, BASE, "loglikelihood", pair) for place, pair in enumerate(PAIRS)]
            got = {answer.id: answer for answer in host.run(work)}
            scores = [
                one.response[0] if isinstance(one.response, tuple) else float("nan") for _, one in sorted(got.items())
            ]
            tokens = [len(self._reader.encoder.pair(*pair).targets) for pair in PAIRS]
            shift, most = difference(wanted, scores, tokens), ROUNDING.get(self._dtype, ROUNDING["bfloat16"])
        except BaseException:
            host.close()
            raise
        if shift <= most:
            return host
        host.close()
        reason = f"merged, it would answer otherwise: log-probabilities of a token differ by up to {shift:.2g}"
        self._place(name, Placement("transformers", reason))
        return None

    def _folder(self, name: str) -> tuple[Path, list[float]]:
        if name not in self._folders:
            if self._temporary is None:
                self._temporary = tempfile.TemporaryDirectory(prefix="tuneboard-merged-")
            folder = Path(self._temporary.name) / str(len(self._folders))
            wanted = write_merged(self.ref, self._adapters[name], self.options, folder)
            self._folders[name] = folder, wanted
        return self._folders[name]

    def _transformers(self, name: str) -> _Loaded:
        from tuneboard.engines.transformers import TransformersEngine

        engine = TransformersEngine(self.ref, self.options, self.notice)
        try:
            engine.attach(name, self._adapters[name])
        except BaseException:
            engine.close()
            raise
        return engine
