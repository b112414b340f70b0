"""A model's chat template, without the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tuneboard.engines.served import ServedChat, is_served
from tuneboard.errors import ModelError
from tuneboard.records import ModelRef


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """Renders chats as one model expects them."""

    tokenizer: Any
    chat_template: str
    """The template's own text: part of a task's identity."""

    @classmethod
    def of(cls, ref: ModelRef) -> ChatTemplate:
        """Load the template of a model.

        Raises:
            ModelError: The model has none.
        """
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(ref.id, revision=ref.revision or "main")
        except (OSError, ValueError) as error:
            raise ModelError(f"the tokenizer of {ref.id} cannot be loaded: {error}") from error
        if not tokenizer.chat_template:
            raise ModelError(f"{ref.id} has no chat template; leave --apply-chat-template out")
        return cls(tokenizer, str(tokenizer.chat_template))

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Render a chat; a system message that the template refuses is left out, as lm-eval does.

        Raises:
            ModelError: The template refuses the rest too.
        """
        from jinja2.exceptions import TemplateError

        options = {
            "tokenize": False,
            "add_generation_prompt": add_generation_prompt,
            "continue_final_message": not add_generation_prompt,
        }
        try:
            return str(self.tokenizer.apply_chat_template(chat_history, **options))
        except TemplateError:
            plain = [message for message in chat_history if message["role"] != "system"]
        try:
            return str(self.tokenizer.apply_chat_template(plain, **options))
        except TemplateError as error:
            model = self.tokenizer.name_or_path
            raise ModelError(
                f"the chat template of {model} refuses a prompt: {error}; mend it, or leave --apply-chat-template out"
            ) from error


def chat_of(ref: ModelRef) -> ChatTemplate | ServedChat:
    """Return what renders chats for a model: its own template, or the server that has it.

    Raises:
        ModelError: The model has no template.
    """
    return ServedChat() if is_served(ref) else ChatTemplate.of(ref)
