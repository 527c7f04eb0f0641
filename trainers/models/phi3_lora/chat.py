"""Instructions as token ids, in the chat template of a base model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from schemas.journal import Instruction
from trainers.models.phi3_lora.packing import PromptAnswer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHARS_PER_TOKEN = 20
"""At most `max_tokens` times this many characters of a text are tokenized; the rest is cut anyway."""


class Chat:
    """Turns instructions into token ids in the chat template of a tokenizer.

    Args:
        tokenizer: A tokenizer with a chat template.
        max_tokens: Largest number of tokens of a question, and of an answer with its end token; the rest is cut.

    Attributes:
        end_id: Id of the token that ends an answer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> None:
        self.tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._special_tokens = sorted(tokenizer.get_added_vocab(), key=len, reverse=True)
        prompt, with_answer = self._render("?"), self._render("?", "!")
        closing = self._token_ids(with_answer[len(prompt) + 1 :]) or [int(tokenizer.eos_token_id)]
        self.end_id = closing[0]

    def encode(self, instructions: Sequence[Instruction]) -> list[PromptAnswer]:
        """Token ids of the prompt and the answer of each instruction."""
        return [PromptAnswer(self.prompt(one), self._answer(one.output)) for one in instructions]

    def prompt(self, instruction: Instruction) -> tuple[int, ...]:
        """Token ids up to where the answer begins; the output of the instruction is not read."""
        return tuple(self._token_ids(self._render(self._truncate(question_text(instruction)))))

    def _render(self, user: str, assistant: str = "") -> str:
        messages = [{"role": "user", "content": user}]
        if assistant:
            messages.append({"role": "assistant", "content": assistant})
        return str(
            self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=not assistant)
        )

    def _answer(self, text: str) -> tuple[int, ...]:
        return (*self._token_ids(self._escape(text)), self.end_id)[: self._max_tokens]

    def _truncate(self, text: str) -> str:
        escaped = self._escape(text)
        ids = self._token_ids(escaped)
        return escaped if len(ids) <= self._max_tokens else str(self.tokenizer.decode(ids[: self._max_tokens]))

    def _escape(self, text: str) -> str:
        """The beginning of a text, with a space in every special token, so that a feed cannot end a turn."""
        text = text[: self._max_tokens * CHARS_PER_TOKEN]
        for token in self._special_tokens:
            text = text.replace(token, f"{token[:1]} {token[1:]}")
        return text

    def _token_ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)


def question_text(instruction: Instruction) -> str:
    """The user's message: the instruction, and the input below it if there is one.

    >>> question_text(Instruction(instruction="How is T1 mitigated?", input="Audit", output=""))
    'How is T1 mitigated?\\n\\nAudit'
    """
    if not instruction.input:
        return instruction.instruction
    return f"{instruction.instruction}\n\n{instruction.input}"
