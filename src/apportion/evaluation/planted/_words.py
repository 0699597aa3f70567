"""The words of the planted models: a few dozen, each one token, of one kind each."""

from __future__ import annotations

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

START, MASK = "<s>", "[MASK]"
SPECIAL = ("<unk>", "<pad>", START, MASK)
FILLERS = ("the", "a", "of", "in", "on", "at", "by", "to", "and", "or", "so", "as")
NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gus", "Ida")
COLOURS = ("red", "blue", "green", "gold", "grey", "pink", "black", "white")
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight")
ALARMS = ("fire", "smoke", "flood", "storm")
ANSWERS = ("more", "less", "calm", "alert")
WORDS = (*SPECIAL, *FILLERS, *NAMES, *COLOURS, *NUMBERS, *ALARMS, *ANSWERS)

#: The mask token counts as a filler, so that a word is absent when it stands in its place.
KINDS = ((START,), (*FILLERS, MASK), NAMES, COLOURS, NUMBERS, ALARMS, (*ANSWERS, "<unk>", "<pad>"))


def ids(words: tuple[str, ...]) -> list[int]:
    """The token ids of words."""
    return [WORDS.index(word) for word in words]


def kind_of(word: str) -> int:
    """Which of `KINDS` a word is of."""
    return next(kind for kind, words in enumerate(KINDS) if word in words)


def size_of(word: str) -> float:
    """How large a number is, evenly from −1 (one) to 1 (eight); 0 for every other word."""
    return 2 * NUMBERS.index(word) / (len(NUMBERS) - 1) - 1 if word in NUMBERS else 0.0


def word_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of whole words; every text begins with `<s>`."""
    raw = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.post_processor = processors.TemplateProcessing(
        single=f"{START} $A", special_tokens=[(START, WORDS.index(START))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="<unk>", pad_token="<pad>", bos_token=START, mask_token=MASK
    )
