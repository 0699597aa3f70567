"""One word, one token: the tokenizers of the models that are trained on the shapes."""

from collections.abc import Sequence

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from benchmarks.shapes._scenes import WORDS

PAD, UNKNOWN, START, END, IMAGE = "<pad>", "<unk>", "<|startoftext|>", "<|endoftext|>", "<image>"
QUESTION_WORDS = ("what", "colour", "shape", "is", "the", "where", "how", "many", "things", "?")
ANSWER_WORDS = ("one", "two", "nothing")

# The "?" ends the question, and the answer follows.
_CHAT = (
    "{% for message in messages %}"
    "{% if message['content'] is string %}{{ message['content'] + ' ' }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '" + IMAGE + " ' }}{% else %}{{ part['text'] + ' ' }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}"
)


def tokenizer() -> PreTrainedTokenizerFast:
    """For captions, as CLIP's: "<|startoftext|> a red circle <|endoftext|>"."""
    return _tokenizer(WORDS, ends=True, longest=16)


def chat_tokenizer() -> PreTrainedTokenizerFast:
    """For questions and answers: "<|startoftext|> <image> what colour is the circle ?"; the model adds the end."""
    made = _tokenizer((IMAGE, *WORDS, *QUESTION_WORDS, *ANSWER_WORDS), ends=False, longest=128)
    made.chat_template = _CHAT
    return made


def _tokenizer(words: Sequence[str], *, ends: bool, longest: int) -> PreTrainedTokenizerFast:
    # <|endoftext|> has the number 3: transformers' CLIP takes 2 for the mark of an old configuration.
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys((PAD, UNKNOWN, START, END, *words)))}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    raw.normalizer = normalizers.Lowercase()
    raw.pre_tokenizer = pre_tokenizers.Whitespace()  # also parts "circle?" into two
    raw.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}" if ends else f"{START} $A",
        special_tokens=[(token, vocabulary[token]) for token in (START, END)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token=START,
        eos_token=END,
        pad_token=PAD,
        unk_token=UNKNOWN,
        model_max_length=longest,
        extra_special_tokens={"image_token": IMAGE} if IMAGE in vocabulary else {},
    )
