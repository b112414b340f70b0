"""Any engine as an lm-eval ``LM``, for ``lm_eval.simple_evaluate(model=...)``."""

from __future__ import annotations

from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from tuneboard.engines.protocol import BASE, Engine, RequestKind, Work
from tuneboard.errors import EngineError


class EngineLM(LM):
    """One candidate of an engine, spoken to by lm-eval.

    Args:
        engine: A loaded engine.
        candidate: Name under which an adapter was attached; the base model by default.
    """

    def __init__(self, engine: Engine, candidate: str = BASE) -> None:
        super().__init__()
        self.engine, self.candidate = engine, candidate

    def loglikelihood(self, requests: list[Instance], **kwargs: Any) -> list[tuple[float, bool]]:
        """Return (log-probability, is greedy) per request."""
        return self._answers("loglikelihood", requests)

    def loglikelihood_rolling(self, requests: list[Instance], **kwargs: Any) -> list[float]:
        """Return the log-probability of each text."""
        return self._answers("loglikelihood_rolling", requests)

    def generate_until(self, requests: list[Instance], **kwargs: Any) -> list[str]:
        """Return one generated text per request."""
        return self._answers("generate_until", requests)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Render a chat with the model's own template."""
        return self.engine.apply_chat_template(chat_history, add_generation_prompt)

    @property
    def tokenizer_name(self) -> str:
        """Identifies tokenizer and chat template."""
        return self.engine.tokenizer_name

    def _answers(self, kind: RequestKind, requests: list[Instance]) -> list[Any]:
        work = [Work(i, self.candidate, kind, tuple(request.args), seed=i) for i, request in enumerate(requests)]
        out: list[Any] = [None] * len(work)
        for answer in self.engine.run(work):
            if answer.error is not None:
                raise EngineError(answer.error)
            out[answer.id] = answer.response
        return out
