"""Chats to tokens by the model's own chat template, with the assistant's turns marked.

Where the template says itself what the assistant generates (``{% generation %}``), it is asked. Elsewhere the chat is
rendered turn by turn: what a turn adds to the rendering before it, after the template's own opening, is the turn.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from tuneboard.errors import DataError, UsageError
from tuneboard.tuning.records import Example

_GENERATION = re.compile(r"\{%-?\s*generation\b")


class ChatEncoder:
    """Encodes chats with one tokenizer.

    Args:
        tokenizer: A transformers tokenizer.

    Raises:
        UsageError: The model has no chat template.
    """

    def __init__(self, tokenizer: Any) -> None:
        template = tokenizer.chat_template
        if not template:
            raise UsageError(
                "the data are chats and the base model has no chat template; train an instruct model, "
                "or give the data as prompt + completion"
            )
        self.tokenizer = tokenizer
        self._marks_turns = isinstance(template, str) and bool(_GENERATION.search(template))

    def encode(self, example: Example, loss_on: Literal["answer", "all"]) -> tuple[list[int], list[bool]]:
        """Return the chat's token ids, and for each whether it is learnt.

        Raises:
            DataError: The template refuses the chat.
            UsageError: Nothing that the assistant says could be found in the rendering.
        """
        text = self._render(example, len(example.messages))
        ids, spans = self._tokens(text)
        if loss_on == "all":
            return ids, [True] * len(ids)
        learnt = self._own_mask(example, ids) if self._marks_turns else None
        if learnt is None:
            turns = self._turns(example, text)
            learnt = [any(start < b and end > a for a, b in turns) for start, end in spans]
        if not any(learnt):
            raise UsageError(
                f"{example.place or 'a chat'}: the chat template shows nothing of what the assistant says, so there is "
                "nothing to learn; set loss_on: all, or give the data as prompt + completion"
            )
        return ids, learnt

    def _render(self, example: Example, count: int, opening: bool = False) -> str:
        from jinja2.exceptions import TemplateError

        messages = [{"role": role, "content": content} for role, content in example.messages[:count]]
        # As evaluation does: a system message that the template refuses is left out.
        variants = [messages, [message for message in messages if message["role"] != "system"]]
        for chosen in variants:
            try:
                return str(self.tokenizer.apply_chat_template(chosen, tokenize=False, add_generation_prompt=opening))
            except TemplateError as error:
                problem = error
        reason = str(problem).strip().splitlines()[0]
        raise DataError(f"{example.place or 'a chat'}: the model's chat template refuses it: {reason}")

    def _tokens(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Tokenize as evaluation does: no second BOS where the template wrote one."""
        bos = self.tokenizer.bos_token
        special = not (bos and text.startswith(bos))
        row = self.tokenizer(text, add_special_tokens=special, return_offsets_mapping=True)
        ids, spans = list(row["input_ids"]), [tuple(span) for span in row["offset_mapping"]]
        if special and ids and ids[-1] == self.tokenizer.eos_token_id and not spans[-1][1]:
            ids, spans = ids[:-1], spans[:-1]  # the template ends turns itself
        return ids, spans

    def _own_mask(self, example: Example, ids: list[int]) -> list[bool] | None:
        """Ask the template; None where it does not answer, or about other tokens."""
        messages = [{"role": role, "content": content} for role, content in example.messages]
        row = self.tokenizer.apply_chat_template(
            messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        bare, mask = list(row["input_ids"]), [bool(one) for one in row["assistant_masks"]]
        ahead = len(ids) - len(bare)
        if ahead < 0 or ids[ahead:] != bare or not any(mask):
            return None
        return [False] * ahead + mask

    def _turns(self, example: Example, text: str) -> list[tuple[int, int]]:
        """Return where in the rendering the assistant's turns stand; a turn that later ones change is left out."""
        turns = []
        for index, (role, _) in enumerate(example.messages):
            if role != "assistant":
                continue
            before = self._render(example, index, opening=True) if index else ""
            through = self._render(example, index + 1)
            if text.startswith(through) and through.startswith(before):
                turns.append((len(before), len(through)))
        return turns
