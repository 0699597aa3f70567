"""Prompts of tokens only: texts, chats, token ids, and the inputs of a model that reads them."""

from __future__ import annotations

from typing import Any

from apportion.models.inputs._prompt import Prompt, prompt_of_tokens
from apportion.models.inputs._recognised import singles, unknown


def token_prompts(prompt: Any, processor: Any) -> list[Prompt]:
    """Every prompt in a text, messages, token ids, a dict of a model's inputs, or a list of these.

    Raises:
        ApportionError: It is something else, or empty, or text is given without a tokenizer.
    """
    found = []
    for one in singles(prompt, None):
        if one.form not in ("text", "chat", "ids", "tensors"):
            raise unknown(one.given)
        found.append(prompt_of_tokens(one.form, one.given, processor))
    return found
