"""A running vLLM with the adapters that it serves: loads it, puts requests of all its candidates through it."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing import active_children
from typing import Any

from tuneboard.engines.protocol import BASE, Answer, Work
from tuneboard.engines.sampling import RuleBook
from tuneboard.engines.tokens import Encoder, ScoredSequence
from tuneboard.engines.vllm_cpu_blocks import smaller_blocks
from tuneboard.engines.vllm_cpu_heads import check_heads
from tuneboard.engines.vllm_faults import first_line, run_fault, start_fault
from tuneboard.engines.vllm_generation import TextRequest, answers, requests, settings
from tuneboard.engines.vllm_log import ProcessLog
from tuneboard.engines.vllm_requests import Probe
from tuneboard.engines.vllm_scoring import Scoring
from tuneboard.engines.vllm_settings import LoraNeeds, VllmSettings
from tuneboard.engines.vllm_stream import Request, Streams
from tuneboard.errors import EngineError
from tuneboard.records import AdapterRef, ModelRef

#: Environment variables that were set here, with their values: what the user set stays.
_OURS: dict[str, str] = {}


def set_environment(wanted: Mapping[str, str]) -> None:
    """Set the environment variables that vLLM reads; what the user has set himself wins."""
    for name, value in wanted.items():
        if os.environ.get(name) in (None, _OURS.get(name)):
            os.environ[name] = _OURS[name] = value
    if os.environ.get("TORCHDYNAMO_DISABLE") == "1":
        import torch._dynamo

        torch._dynamo.config.disable = True  # the variable is read at the import, which may be past


@dataclass(frozen=True, slots=True)
class Plan:
    """What a host is started with."""

    ref: ModelRef
    arguments: Mapping[str, Any]
    """Those of ``vllm.LLM``."""
    settings: VllmSettings
    needs: LoraNeeds
    devices: tuple[str, ...] = ("",)
    """Of each copy: its GPUs as in ``CUDA_VISIBLE_DEVICES``; empty: all."""


@dataclass(slots=True)
class Reader:
    """How requests become tokens: of one model, shared by all that serve its candidates."""

    encoder: Encoder
    book: RuleBook
    known: dict[tuple[Any, ...], list[ScoredSequence]] = field(default_factory=dict)

    def sequences(self, item: Work) -> list[ScoredSequence]:
        """Encode a log-likelihood request; candidates ask the same ones."""
        key = (item.kind, *item.arguments)
        if key not in self.known:
            self.known[key] = self.encoder.sequences(item.kind, item.arguments)
        return self.known[key]

    def warm(self, work: Sequence[Work]) -> None:
        """Encode the texts of many requests at once."""
        new = [item for item in work if (item.kind, *item.arguments[:2]) not in self.known]
        self.encoder.warm(text for item in new for text in self.encoder.texts(item.kind, item.arguments))


@contextmanager
def _visible(devices: str) -> Iterator[None]:
    """Within it, new processes see these GPUs alone; all where none is named."""
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    if devices:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices
    try:
        yield
    finally:
        if devices and before is None:
            del os.environ["CUDA_VISIBLE_DEVICES"]
        elif devices and before is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = before


class Host:
    """A running vLLM.

    Args:
        plan: What to start.
        adapters: Those to serve, by name.
        reader: Encodes requests.

    Attributes:
        refused: Adapters that vLLM does not take after all, with its reason.
        slow_lora: Whether adapters run by vLLM's own operations for CPUs, since tuneboard's do not fit this version.

    Raises:
        ModelError: It does not start; says which setting to change.
    """

    def __init__(self, plan: Plan, adapters: Mapping[str, AdapterRef], reader: Reader) -> None:
        self.plan, self.reader = plan, reader
        if "block_size" in plan.arguments:  # chosen on a CPU alone
            check_heads(plan.ref, bool(plan.arguments.get("trust_remote_code")))
        self.log = ProcessLog()
        try:
            self.llms = self._start()
        except BaseException as error:
            fault = start_fault(plan.ref, error, self.log, plan.settings)
            self.log.remove()
            if isinstance(error, Exception):
                raise fault from error
            raise
        self.stream = Streams(list(zip(self.llms, self.workers, strict=True)))
        self.refused: dict[str, str] = {}
        self.loras: dict[str, Any] = {BASE: None}
        for number, (name, adapter) in enumerate(adapters.items(), start=1):
            self._add(name, number, adapter)

    def _start(self) -> list[Any]:
        """Start every copy of the model, each on GPUs of its own."""
        made: list[Any] = []
        self.workers: list[list[Any]] = []
        self.slow_lora = False
        with self.log.capturing():
            from vllm import LLM

            # vLLM collects garbage several times as it stops: seconds, over what the imports alone have made.
            gc.freeze()
            arguments = {**self.plan.arguments, **smaller_blocks(self.plan.arguments)}
            for devices in self.plan.devices:
                before = set(active_children())
                with _visible(devices):
                    made.append(LLM(**arguments))
                if "worker_extension_cls" in self.plan.arguments:
                    self.slow_lora |= not _grouped(made[-1])
                self.workers.append([child for child in active_children() if child not in before])
        return made

    def _add(self, name: str, number: int, adapter: AdapterRef) -> None:
        """Load an adapter now: met in mid-run, one that vLLM refuses would end a worker process."""
        from vllm.lora.request import LoRARequest

        lora = LoRARequest(lora_name=f"{number}-{name}", lora_int_id=number, lora_path=adapter.path)
        try:
            with self.log.capturing():
                if not all(llm.llm_engine.add_lora(lora) for llm in self.llms):
                    raise EngineError("it was not added")
        except Exception as error:  # whatever vLLM has against it
            self.refused[name] = first_line(error)
            return
        self.loras[name] = lora

    @property
    def dtype(self) -> str:
        """The data type that vLLM computes in."""
        return str(self.llms[0].llm_engine.model_config.dtype).split(".")[-1]

    @cached_property
    def _params(self) -> dict[Any, Any]:
        return {}

    def run(self, work: Sequence[Work]) -> Iterator[Answer]:
        """Answer all of ``work``: log-likelihoods, then texts.

        Raises:
            EngineError: vLLM failed, or its worker process ended.
        """
        for part in self._apart(work):
            scores = [item for item in part if item.kind != "generate_until"]
            texts = [item for item in part if item.kind == "generate_until"]
            try:
                yield from Scoring(scores, self._shifts(part), self.reader.sequences, self.reader.warm).run(self._ask)
                yield from self._generate(texts)
            except EngineError:
                raise
            except Exception as error:  # vLLM and drivers may raise anything
                raise run_fault(error, self.log) from error
        self.reader.encoder.forget()

    def _apart(self, work: Sequence[Work]) -> list[list[Work]]:
        """Keep the base's requests in batches of their own where the kernels need that."""
        if not self.plan.needs.base_apart:
            return [list(work)]
        base = [item for item in work if item.candidate == BASE]
        others = [item for item in work if item.candidate != BASE]
        return [part for part in (base, others) if part]

    def _shifts(self, work: Sequence[Work]) -> dict[str, int]:
        """Number the adapters that are ready together, so that each is brought to the device once."""
        names = [name for name in dict.fromkeys(item.candidate for item in work) if name != BASE]
        slots = max(1, self.plan.needs.slots)
        return {BASE: 0} | {name: place // slots for place, name in enumerate(names)}

    def _ask(self, probes: Iterator[Probe]) -> Iterator[tuple[Probe, Any]]:
        open_probes: dict[int, Probe] = {}

        def made() -> Iterator[Request]:
            for key, probe in enumerate(probes):
                open_probes[key] = probe
                yield Request(key, probe.tokens, self._score_params(probe), self.loras[probe.candidate])

        for key, output in self.stream.run(made()):
            yield open_probes.pop(key), output

    def _score_params(self, probe: Probe) -> Any:
        key = (probe.next_ids, probe.rows > 0, probe.fresh)
        if key not in self._params:
            from vllm import SamplingParams
            from vllm.sampling_params import RequestOutputKind

            self._params[key] = SamplingParams(
                max_tokens=1,
                temperature=0.0,
                logprob_token_ids=list(probe.next_ids),
                prompt_logprobs=0 if probe.rows else None,
                skip_reading_prefix_cache=probe.fresh,
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
        return self._params[key]

    def _generate(self, work: Sequence[Work]) -> Iterator[Answer]:
        failed: list[Answer] = []
        self.reader.encoder.warm(item.arguments[0] for item in work)
        texts = requests(work, self._shifts(work), self.reader.encoder, self.reader.book, failed.append)
        yield from failed
        outputs = self.stream.run(self._text_request(place, one) for place, one in enumerate(texts))
        yield from answers(texts, outputs, self.reader.encoder.tokenizer)

    def _text_request(self, place: int, one: TextRequest) -> Request:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(output_kind=RequestOutputKind.FINAL_ONLY, **settings(one))
        return Request(place, one.tokens, params, self.loras[one.item.candidate])

    def close(self) -> None:
        """Stop vLLM and give its memory back."""
        with self.log.capturing():
            for llm in self.llms:
                with suppress(Exception):  # it may have died before
                    llm.llm_engine.engine_core.shutdown()
            self.llms.clear()
            del self.stream
            with suppress(Exception):
                from vllm.distributed import cleanup_dist_env_and_memory

                cleanup_dist_env_and_memory()
            gc.unfreeze()
        self.log.remove()


def _grouped(llm: Any) -> bool:
    """Put tuneboard's operations for adapters in the place of vLLM's; returns whether all workers took them."""
    try:
        return all(llm.collective_rpc("group_lora_tokens"))
    except Exception:  # whatever a version refuses: vLLM's own are slow, not wrong
        return False
