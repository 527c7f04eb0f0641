"""Instructions as token ids, in the chat template of a base model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from schemas.journal import Instruction
from trainers.models.phi3_lora.packing import PromptAnswer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHARS_PER_TOKEN = 20
"""At most the largest number of tokens times this many characters of a text are tokenized; the rest is cut."""
CONTEXT_CHARS_PER_TOKEN = 2
"""A context has at most a token for this many characters: `smollm2` needs one for four."""


class Chat:
    """Turns instructions into token ids in the chat template of a tokenizer.

    Args:
        tokenizer: A tokenizer with a chat template.
        max_tokens: Largest number of tokens of an answer with its end token; the rest is cut.
        max_question_tokens: Largest number of tokens of a question with its context; None: as of an answer.

    Attributes:
        end_id: Id of the token that ends an answer.
        max_question_tokens: As given.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, max_tokens: int, max_question_tokens: int | None = None
    ) -> None:
        self.tokenizer = tokenizer
        self._max_tokens = max_tokens
        self.max_question_tokens = max_question_tokens or max_tokens
        self._special_tokens = sorted(tokenizer.get_added_vocab(), key=len, reverse=True)
        prompt, with_answer = self._render("?"), self._render("?", "!")
        closing = self._token_ids(with_answer[len(prompt) + 1 :]) or [int(tokenizer.eos_token_id)]
        self.end_id = closing[0]

    def encode(self, instructions: Sequence[Instruction]) -> list[PromptAnswer]:
        """Token ids of the prompt and the answer of each instruction."""
        return [PromptAnswer(self.prompt(one), self._answer(one.output)) for one in instructions]

    def prompt(self, instruction: Instruction) -> tuple[int, ...]:
        """Token ids up to where the answer begins; the output of the instruction is not read.

        Of what is too long, the end of the input is cut, and only then the end of the question.
        """
        asked = self._truncate(instruction.instruction, self.max_question_tokens)
        room = max(0, self.max_question_tokens - len(self._token_ids(asked)))
        given = self._truncate(instruction.input, room)
        text = question_text(msgspec.structs.replace(instruction, instruction=asked, input=given))
        return tuple(self._token_ids(self._render(text)))

    def _render(self, user: str, assistant: str = "") -> str:
        messages = [{"role": "user", "content": user}]
        if assistant:
            messages.append({"role": "assistant", "content": assistant})
        return str(
            self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=not assistant)
        )

    def _answer(self, text: str) -> tuple[int, ...]:
        return (*self._token_ids(self._escape(text, self._max_tokens)), self.end_id)[: self._max_tokens]

    def _truncate(self, text: str, limit: int) -> str:
        escaped = self._escape(text, limit)
        ids = self._token_ids(escaped)
        return escaped if len(ids) <= limit else str(self.tokenizer.decode(ids[:limit]))

    def _escape(self, text: str, max_tokens: int) -> str:
        """The beginning of a text, with a space in every special token, so that a feed cannot end a turn."""
        text = text[: max_tokens * CHARS_PER_TOKEN]
        for token in self._special_tokens:
            text = text.replace(token, f"{token[:1]} {token[1:]}")
        return text

    def _token_ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)


def max_question_tokens(max_tokens: int, context_chars: int) -> int:
    """The largest number of tokens of a question with its context, for the limits of a recipe."""
    return max_tokens + context_chars // CONTEXT_CHARS_PER_TOKEN


def question_text(instruction: Instruction) -> str:
    """The user's message: the input if there is one, and below it the instruction.

    A small model that is asked first has forgotten the question when it has read the context.

    >>> question_text(Instruction(instruction="How is T1 mitigated?", input="Audit", output=""))
    'Audit\\n\\nHow is T1 mitigated?'
    """
    if not instruction.input:
        return instruction.instruction
    return f"{instruction.input}\n\n{instruction.instruction}"
