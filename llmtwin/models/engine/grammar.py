"""Constrained decoding with llguidance. It knows token ids and grammars, no model and no twin."""

from __future__ import annotations

from collections.abc import Sequence

import llguidance
import llguidance.numpy
import numpy as np
import torch

from llmtwin.errors import InputError
from llmtwin.models.base import Base

Matcher = llguidance.LLMatcher


class Grammars:
    """Compiles grammars for one base's tokenizer."""

    def __init__(self, base: Base) -> None:
        """Index the vocabulary of `base` once (half a second)."""
        self._vocab = base.config.vocab
        self._tokenizer = llguidance.LLTokenizer(
            base.tokenizer.to_str(), n_vocab=self._vocab, eos_token=sorted(base.end_ids)
        )

    def matcher(self, grammar: str) -> Matcher:
        """A fresh matcher of a JSON schema (`{…`) or a Lark grammar; InputError if it is neither.

        JSON is written without blanks: shorter, and a model that has not learned JSON cannot dwell on them.
        """
        try:
            compiled = (
                Matcher.grammar_from_json_schema(grammar, overrides={"whitespace_flexible": False})
                if grammar.lstrip().startswith("{")
                else Matcher.grammar_from_lark(grammar)
            )
        except ValueError as error:
            raise InputError(f"the grammar cannot be read: {error}") from error
        matcher = Matcher(self._tokenizer, compiled)
        if matcher.is_error():
            raise InputError(f"the grammar cannot be read: {matcher.get_error()}")
        return matcher

    def forbid(self, logits: torch.Tensor, matchers: Sequence[Matcher | None]) -> torch.Tensor:
        """`logits` (B, vocab) with minus infinity wherever a row's matcher does not allow the token."""
        if not any(matchers):
            return logits
        bits = llguidance.numpy.allocate_token_bitmask(len(matchers), self._vocab)
        bits[:] = -1
        for row, matcher in enumerate(matchers):
            if matcher is not None:
                llguidance.numpy.fill_next_token_bitmask(matcher, bits, row)
        allowed = np.unpackbits(bits.view(np.uint8), axis=1, bitorder="little")[:, : self._vocab]
        return logits.masked_fill(torch.from_numpy(allowed == 0).to(logits.device), float("-inf"))
