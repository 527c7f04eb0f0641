"""Questions and answers as tokens, in a base model's own chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from schemas.journal import Instruction
from trainers.models.phi3_lora.packing import Piece

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CHARS_PER_TOKEN = 20
"""So many times `max_tokens` characters of a text are tokenised, not all 100,000 of a text that is cut anyway."""


class Chat:
    """Questions and answers in a base model's chat template.

    Args:
        tokenizer: With a chat template.
        max_tokens: Of a question, and of an answer with its end; longer ones are cut.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, max_tokens: int) -> None:
        self.tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._special = sorted(tokenizer.get_added_vocab(), key=len, reverse=True)
        asked, answered = self._template("?"), self._template("?", "!")
        closing = self._ids(answered[len(asked) + 1 :]) or [tokenizer.eos_token_id]
        self.end = closing[0]

    def pieces(self, instructions: Sequence[Instruction]) -> list[Piece]:
        """What each asks, up to where the answer begins, and the answer."""
        return [Piece(self.prompt(one), self._answer(one.output)) for one in instructions]

    def prompt(self, asked: Instruction) -> tuple[int, ...]:
        """A question up to where the answer begins."""
        return tuple(self._ids(self._template(self._cut(question(asked)))))

    def _template(self, user: str, assistant: str = "") -> str:
        said = [{"role": "user", "content": user}]
        if assistant:
            said.append({"role": "assistant", "content": assistant})
        return str(self.tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=not assistant))

    def _answer(self, text: str) -> tuple[int, ...]:
        return (*self._ids(self._plain(text)), self.end)[: self._max_tokens]

    def _cut(self, text: str) -> str:
        plain = self._plain(text)
        ids = self._ids(plain)
        return plain if len(ids) <= self._max_tokens else str(self.tokenizer.decode(ids[: self._max_tokens]))

    def _plain(self, text: str) -> str:
        """The beginning of a feed's text, in which nothing ends a turn: special tokens are torn apart."""
        text = text[: self._max_tokens * CHARS_PER_TOKEN]
        for token in self._special:
            text = text.replace(token, f"{token[:1]} {token[1:]}")
        return text

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)


def question(asked: Instruction) -> str:
    """What a user says: the instruction, and below it the input where there is one."""
    return f"{asked.instruction}\n\n{asked.input}" if asked.input else asked.instruction
