"""Subject–verb agreement: the generator's sentences are what they say, readers find the subject, and items fit."""

from __future__ import annotations

import gzip
import json
import logging
import re
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

import apportion as ap
from apportion.evaluation import Case
from apportion.evaluation.agreement import (
    CONSTRUCTIONS,
    Sentence,
    agreement_sentences,
    blimp,
    items_of,
    linzen,
    lm_syneval,
)
from apportion.evaluation.agreement._linzen import other_form
from apportion.evaluation.agreement._sentence import number_of
from apportion.evaluation.agreement._vocabulary import (
    NOUNS,
    OBJECT_CLAUSE_VERBS,
    PREDICATES,
    SUBJECT_CLAUSE_VERBS,
)
from tests.checking import unchecked
from tests.tiny import tiny, tokenizer

SHARED = Path(__file__).parents[3] / "shared" / "data"
NUMBERS = {
    spelling: number
    for nouns in NOUNS.values()
    for noun in nouns
    for spelling, number in ((noun.singular, "singular"), (noun.plural, "plural"))
}
VERBS = {
    spelling: number
    for verbs in (*SUBJECT_CLAUSE_VERBS.values(), *OBJECT_CLAUSE_VERBS.values())
    for verb in verbs
    for spelling, number in ((verb.singular, "singular"), (verb.plural, "plural"))
}


@pytest.fixture(scope="module")
def sentences() -> list[Sentence]:
    return list(agreement_sentences(count=2_000))


def nouns_in(before: str) -> list[tuple[tuple[int, int], str]]:
    """Place and number of every noun, read off the text alone: each follows an article, and nothing else does."""
    return [(match.span(1), NUMBERS[match[1]]) for match in re.finditer(r"\b[Tt]he (\w+)", before)]


# The generator.


def test_no_spelling_belongs_to_two_nouns_or_to_both_numbers():
    spellings = [s for nouns in NOUNS.values() for noun in nouns for s in (noun.singular, noun.plural)]
    assert len(spellings) == len(set(spellings))


def test_regions_are_those_that_the_text_tells(sentences):
    for sentence in sentences:
        (subject, number), *others = nouns_in(sentence.before)
        assert sentence.subject == (subject,)
        assert sentence.number == number
        assert sentence.distractors == tuple(place for place, _ in others)
        assert sentence.attractors == tuple(place for place, other in others if other != number)
        assert sentence.n_distractors == len(others)
        assert sentence.n_attractors == len(sentence.attractors)


def test_regions_spell_the_nouns(sentences):
    for sentence in sentences:
        assert all(word in NUMBERS for word in sentence.words_at(sentence.subject + sentence.distractors))
        assert sentence.text[slice(*sentence.subject[0])] == sentence.words_at(sentence.subject)[0]


def test_no_noun_comes_twice(sentences):
    lemma = {s: noun for nouns in NOUNS.values() for noun in nouns for s in (noun.singular, noun.plural)}
    for sentence in sentences:
        nouns = [lemma[word] for word in sentence.words_at(sentence.subject + sentence.distractors)]
        assert len(nouns) == len(set(nouns))


def test_the_good_form_agrees_with_the_subject_and_the_bad_one_does_not(sentences):
    forms = {(p.verb.singular, p.verb.plural) for predicates in PREDICATES.values() for p in predicates}
    for sentence in sentences:
        pair = (sentence.good, sentence.bad)
        assert (pair if sentence.number == "singular" else pair[::-1]) in forms


def test_verbs_of_clauses_agree_with_their_own_subject(sentences):
    for sentence in sentences:
        words = sentence.before.split()
        clause = [k for k, word in enumerate(words) if word in ("who", "that")]
        if sentence.construction == "subject-relative":
            assert VERBS[words[clause[0] + 1]] == sentence.number
        elif sentence.construction == "subject-relative-past":
            assert words[clause[0] + 1] not in VERBS
        elif sentence.construction.startswith("object-relative"):
            assert bool(clause) == (sentence.construction == "object-relative")
            assert VERBS[words[-1]] == NUMBERS[sentence.words_at(sentence.distractors)[0]]
        else:
            assert not clause


def test_both_forms_of_a_verb_have_the_same_endings():
    """So that nothing after the verb tells a masked model the number."""
    with unchecked():
        simple = list(agreement_sentences(constructions="simple", count=4_000))
    singular, plural = (
        {(min(s.good, s.bad), s.after) for s in simple if s.number == number} for number in ("singular", "plural")
    )
    assert singular == plural
    assert all(after.startswith(" ") and after.endswith(".") for _, after in singular)


def test_more_than_28000_sentences_differ():
    with unchecked():
        found = list(agreement_sentences(seed=3, count=28_000))
    assert len(found) == 28_000
    for of in (lambda s: s.text, lambda s: s.id, lambda s: (s.before, s.good)):
        assert len({of(sentence) for sentence in found}) == len(found)


def test_the_seed_decides():
    first, again, other = (list(agreement_sentences(seed=seed, count=100)) for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_a_part_of_the_constructions_has_the_same_sentences():
    whole = [s for s in agreement_sentences(count=2_000) if s.construction == "prepositional" and s.n_attractors == 2]
    part = agreement_sentences(constructions="prepositional", attractors=2, count=10)
    assert {s.before for s in whole} >= {s.before for s in part}


@pytest.mark.parametrize("count", [20, 100, 500, 1_234])
def test_the_first_are_balanced(sentences, count):
    first = sentences[:count]

    def spread(counts: Counter) -> int:
        return max(counts.values()) - min(counts.values())

    assert spread(Counter(s.n_attractors for s in first)) <= 1
    assert spread(Counter(s.number for s in first)) <= 2
    for n in range(5):
        of_n = Counter({c: 0 for c in CONSTRUCTIONS if c != "simple" or n == 0})
        of_n.update(s.construction for s in first if s.n_attractors == n)
        assert spread(of_n) <= 1


def test_numbers_are_crossed_for_the_subject_and_every_noun_between():
    found: dict[str, set[tuple[str, ...]]] = {name: set() for name in CONSTRUCTIONS}
    for sentence in agreement_sentences(count=4_000):
        found[sentence.construction].add(tuple(number for _, number in nouns_in(sentence.before)))
    assert len(found.pop("simple")) == 2
    assert all(len(patterns) == 2 * (2 + 4 + 8 + 16) for patterns in found.values())


def test_lengths_and_kinds_of_verb_are_balanced():
    one = list(agreement_sentences(attractors=1, count=800))
    assert max(Counter(s.n_distractors for s in one).values()) < 1.1 * 200
    families = Counter(min(s.good, s.bad) if min(s.good, s.bad) in ("are", "was", "has") else "lexical" for s in one)
    assert max(families.values()) < 1.1 * 200


def test_ends_where_no_more_sentences_differ():
    with unchecked():
        simple = list(agreement_sentences(constructions="simple", count=100_000))
    possible = sum(2 * len(nouns) * len(PREDICATES[kind]) for kind, nouns in NOUNS.items())
    assert 0.97 * possible < len(simple) <= possible


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attractors": 5}, "from 0 to 4"),
        ({"attractors": []}, "from 0 to 4"),
        ({"constructions": "passive"}, "there are simple, prepositional"),
        ({"constructions": ()}, "there are simple, prepositional"),
        ({"constructions": "simple", "attractors": 1}, "simple sentences have no attractors"),
        ({"count": 0}, "give 1 or more"),
    ],
)
def test_what_cannot_be_generated_is_refused(options, message):
    with pytest.raises(ap.ApportionError, match=message):
        agreement_sentences(**options)


# Items.

EXAMPLE = Sentence(
    id="one",
    source="test",
    construction="prepositional",
    before="The cat of the man",
    good="is",
    bad="are",
    after=" old.",
    number="singular",
    subject=((4, 7),),
    n_attractors=0,
)


def masked_tokenizer(**options) -> PreTrainedTokenizerFast:
    """Words and marks as BERT's tokenizer has them, with "sees" known and "see" not."""
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "The",
        "cat",
        "of",
        "the",
        "man",
        "is",
        "are",
        "sees",
        "old",
        ".",
    ]
    raw = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=raw, **names, **{"mask_token": "[MASK]", **options})


def changed(**fields) -> Sentence:
    return Sentence(**{**{name: getattr(EXAMPLE, name) for name in EXAMPLE.__dataclass_fields__}, **fields})


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_causal_model_reads_up_to_the_verb(name):
    (item,) = items_of([EXAMPLE], explainer := ap.Explainer(tiny(name), tokenizer("causal")))
    assert (item.prompt, item.target, item.contrast, item.unit) == ("The cat of the man", " is", " are", "logit")
    assert item.truth == ((4, 7),)
    assert item.groups == {"attractors": 0, "construction": "prepositional", "number": "singular", "source": "test"}
    case = Case(explainer, item)
    features = case.task.prompts[0].features
    playing = [features[i].label.strip() for (i,) in case.players.groups]
    assert [label for label, true in zip(playing, case.truth.tolist(), strict=True) if true] == ["cat"]
    ids = tokenizer("causal")("The cat of the man is")["input_ids"][-1], tokenizer("causal")("The are")["input_ids"][-1]
    value = tiny(name)(**tokenizer("causal")("The cat of the man", return_tensors="pt")).logits[0, -1]
    assert case.correct == bool(value[ids[0]] > value[ids[1]])


def test_a_masked_model_reads_the_sentence_without_its_verb():
    (item,) = items_of([EXAMPLE], explainer := ap.Explainer(tiny("bert"), masked_tokenizer()))
    assert item.prompt == "The cat of the man [MASK] old."
    assert (item.target, item.contrast, item.truth) == (" is", " are", ((4, 7),))
    assert Case(explainer, item).truth.sum() == 1


def test_the_token_is_named_by_its_id_where_its_text_names_another(monkeypatch):
    explainer = ap.Explainer(tiny("llama"), tokenizer("causal"))
    monkeypatch.setattr("apportion.evaluation.agreement._items.Head.index", lambda *_: 0)
    (item,) = items_of([EXAMPLE], explainer)
    is_, are = (tokenizer("causal")(f"The {form}")["input_ids"][-1] for form in ("is", "are"))
    assert (item.target, item.contrast) == (is_, are)


def test_what_does_not_fit_is_left_out_and_counted(caplog):
    explainer = ap.Explainer(tiny("llama"), tokenizer("causal"))
    odd = [EXAMPLE, changed(bad="owns"), changed(good="ϟ", bad="is"), changed(bad="is")]
    items = items_of(odd, explainer)
    with caplog.at_level(logging.INFO, "apportion"):
        assert len(list(items)) == 1
        assert not list(items)
    assert items.kept == 1
    assert items.left_out.total() == 3
    assert items.left_out["a form is not one token"] >= 1
    (record,) = caplog.records
    assert "1 of 4 sentences fit" in record.getMessage()


@pytest.mark.parametrize(
    ("sentence", "reason"),
    [
        (changed(bad="is not"), "a form is not one token"),
        (changed(good="sees", bad="see"), "a form is not in the vocabulary"),
        (changed(after=" [MASK]."), "the sentence holds a mask token of its own"),
    ],
)
def test_a_masked_model_leaves_out_with_a_reason(sentence, reason):
    items = items_of([sentence], ap.Explainer(tiny("bert"), masked_tokenizer()))
    assert not list(items)
    assert items.left_out == {reason: 1}


def test_a_tokenizer_that_joins_the_verb_to_what_stands_before_leaves_it_out():
    raw = Tokenizer(models.WordLevel({"a": 0, "a is": 1, "a are": 2, "?": 3}, unk_token="?"))
    joining = PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="?", eos_token="?")
    items = items_of([changed(before="a")], ap.Explainer(tiny("llama"), joining))
    assert not list(items)
    assert items.left_out == {"the verb changes the tokens before it": 1}


def test_sentences_are_taken_as_items_are_asked_for():
    taken = []

    def stream():
        for k in range(5):
            taken.append(k)
            yield changed(id=str(k))

    assert len(list(islice(items_of(stream(), ap.Explainer(tiny("llama"), tokenizer())), 2))) == 2
    assert taken == [0, 1]


@pytest.mark.parametrize("name", ["bert_classifier", "bert_token_classifier", "t5"])
def test_a_model_that_predicts_no_verb_is_refused(name):
    with pytest.raises(ap.ApportionError, match="causal or masked language model"):
        items_of([EXAMPLE], ap.Explainer(tiny(name), masked_tokenizer()))


def test_no_tokenizer_and_no_mask_are_refused():
    with pytest.raises(ap.ApportionError, match="need a tokenizer"):
        items_of([EXAMPLE], ap.Explainer(tiny("llama")))
    with pytest.raises(ap.ApportionError, match="no mask token"):
        items_of([EXAMPLE], ap.Explainer(tiny("bert"), masked_tokenizer(mask_token=None)))


# BLiMP.


def blimp_line(uid: str, prefix: str, good: str, bad: str, rest: str = " Ann.", **more) -> str:
    record = {
        "sentence_good": f"{prefix} {good}{rest}",
        "one_prefix_prefix": prefix,
        "one_prefix_word_good": good,
        "one_prefix_word_bad": bad,
        "UID": uid,
        "pairID": "7",
    }
    return json.dumps({k: v for k, v in {**record, **more}.items() if v is not None})


def written(folder: Path, text: str, name: str = "file.jsonl") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


REGULAR, IRREGULAR = "regular_plural_subject_verb_agreement_1", "irregular_plural_subject_verb_agreement_1"
NOUN, CLAUSE = "distractor_agreement_relational_noun", "distractor_agreement_relative_clause"


@pytest.mark.parametrize(
    ("uid", "prefix", "forms", "subject", "others", "number"),
    [
        (IRREGULAR, "Those radii", ("have", "has"), "radii", [], "plural"),
        (REGULAR, "Paula", ("references", "reference"), "Paula", [], "singular"),
        (REGULAR, "Winston Churchill", ("wasn't", "weren't"), "Winston Churchill", [], "singular"),
        (REGULAR, "The Borgias", ("see", "sees"), "Borgias", [], "plural"),
        (REGULAR, "A lot of public parks", ("pass", "passes"), "parks", [], "plural"),
        (REGULAR, "Schools", ("don't", "doesn't"), "Schools", [], "plural"),
        (REGULAR, "This goose", ("isn't", "weren't"), "goose", [], "singular"),
        (NOUN, "A niece of most senators", ("hasn't", "haven't"), "niece", ["senators"], "singular"),
        (NOUN, "A newspaper article about the Borgias", ("has", "have"), "article", ["Borgias"], "singular"),
        (NOUN, "The sketches of Harvard University", ("are", "is"), "sketches", ["Harvard University"], "plural"),
        (NOUN, "A lot of sketches of a lot of lights", ("appear", "appears"), "sketches", ["lights"], "plural"),
        (CLAUSE, "That boy that didn't task all guests", ("has", "have"), "boy", ["guests"], "singular"),
        (CLAUSE, "Boys who annoy that person", ("suffer", "suffers"), "Boys", ["person"], "plural"),
        (CLAUSE, "A lot of patients who love Ann", ("work with", "works with"), "patients", ["Ann"], "plural"),
    ],
)
def test_blimps_subject_is_found(tmp_path, uid, prefix, forms, subject, others, number):
    (sentence,) = blimp(written(tmp_path, blimp_line(uid, prefix, *forms) + "\n\n"))
    assert sentence.words_at(sentence.subject) == [subject]
    assert sentence.words_at(sentence.distractors) == sentence.words_at(sentence.attractors) == others
    assert (sentence.number, sentence.construction, sentence.id) == (number, uid, f"blimp-{uid}-7")
    assert sentence.text == f"{prefix} {forms[0]} Ann."


def test_blimps_pairs_that_do_not_differ_in_number_are_passed_over(tmp_path, caplog):
    lines = [
        blimp_line(CLAUSE, "All patients that hurt Steven", "sing", "singing"),
        blimp_line(CLAUSE, "All patients", "sing", "sings"),
        blimp_line(REGULAR, "The dogs", "sing", "sings"),
    ]
    with caplog.at_level(logging.INFO, "apportion"):
        (sentence,) = blimp(written(tmp_path, "\n".join(lines)))
    assert sentence.before == "The dogs"
    assert "2 pairs" in caplog.text


def test_of_a_folder_only_the_paradigms_about_agreement_are_read(tmp_path):
    written(tmp_path, "no JSON", "anaphor_gender_agreement.jsonl")
    with pytest.raises(ap.ApportionError, match="holds none of BLiMP's"):
        blimp(tmp_path)
    written(tmp_path, blimp_line(REGULAR, "The dogs", "sing", "sings"), f"{REGULAR}.jsonl")
    assert len(list(blimp(tmp_path))) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"file.jsonl:2 is not JSON"),
        ("[1]", r"file.jsonl:2 holds a list"),
        ('{"UID": 3}', r"file.jsonl:2: the field 'UID' is 3; it must be of type str"),
        (blimp_line("anaphor_gender_agreement", "A", "is", "are"), "file.jsonl:2: 'anaphor_gender_agreement' is not"),
        (blimp_line(REGULAR[:-1] + "2", "A", "is", "are"), "file.jsonl:2.* two subjects beside one verb"),
        (blimp_line(REGULAR, "A", "is", "are", one_prefix_prefix=None), "file.jsonl:2: the field 'one_prefix_prefix'"),
        (blimp_line(REGULAR, "A", "is", "are", sentence_good="B is"), "file.jsonl:2: 'sentence_good' does not begin"),
    ],
)
def test_a_bad_line_of_blimp_is_named(tmp_path, line, message):
    path = written(tmp_path, blimp_line(REGULAR, "The dogs", "sing", "sings") + "\n" + line)
    found = blimp(path)
    assert next(found).before == "The dogs"
    with pytest.raises(ap.ApportionError, match=message):
        next(found)


@pytest.mark.parametrize(
    ("good", "bad", "number"),
    [
        ("is", "are", "singular"),
        ("isn't", "weren't", "singular"),
        ("were", "is", "plural"),
        ("do", "does", "plural"),
        ("passes", "pass", "singular"),
        ("work with", "works with", "plural"),
        ("sing", "singing", None),
        ("walked", "walk", None),
        ("", "is", "plural"),
        ("", "sing", None),
    ],
)
def test_a_verbs_forms_tell_the_number(good, bad, number):
    assert number_of(good, bad) == number


# LM_syneval.

SYNEVAL = {
    "template": "prep_anim",
    "words": ["the", "taxi", "drivers", "next", "to", "the", "chef", "like", "music"],
    "verb_index": 7,
    "good": "like",
    "bad": "likes",
    "subject_head": 2,
    "subject_number": "plur",
    "distractors": [6],
    "n_attractors": 1,
}


def test_lm_syneval_is_read(tmp_path):
    lines = [SYNEVAL, {**SYNEVAL, "n_attractors": 0, "template": "other"}]
    first, second = lm_syneval(written(tmp_path, "\n".join(map(json.dumps, lines))))
    assert (first.text, first.before) == (
        "the taxi drivers next to the chef like music",
        "the taxi drivers next to the chef",
    )
    assert (first.good, first.bad, first.after, first.number) == ("like", "likes", " music", "plural")
    assert (first.words_at(first.subject), first.words_at(first.attractors)) == (["drivers"], ["chef"])
    assert (second.words_at(second.distractors), second.attractors) == (["chef"], ())
    assert first.id != second.id
    assert list(lm_syneval(tmp_path)) == [first, second]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"good": "loves"}, "the word at verb_index=7 is not the good form 'loves'"),
        ({"verb_index": 99}, "verb_index=99"),
        ({"words": [1]}, "verb_index=7"),
        ({"subject_head": 8}, "they must stand before 7"),
        ({"distractors": ["chef"]}, "they must stand before 7"),
        ({"subject_number": "dual"}, "must be 'sing' or 'plur'"),
        ({"n_attractors": 3}, "n_attractors=3 of 1"),
        ({"template": None}, "the field 'template' is None; it must be of type str"),
    ],
)
def test_a_bad_line_of_lm_syneval_is_named(tmp_path, fields, message):
    path = written(tmp_path, json.dumps({**SYNEVAL, **fields}))
    with pytest.raises(ap.ApportionError, match=r"file.jsonl:1.*" + message):
        list(lm_syneval(path))


# Linzen et al. and Goldberg.

KEYS = {
    "sentence": "the keys to the NN on the desk are lost .",
    "orig_sentence": "the keys to the cabinet on the desk are lost .",
    "pos_sentence": "DT NNS TO DT NN IN DT NN VBP VBN .",
    "subj": "keys",
    "verb": "are",
    "subj_pos": "NNS",
    "has_rel": "False",
    "has_nsubj": "False",
    "verb_pos": "VBP",
    "subj_index": "2",
    "verb_index": "9",
    "n_intervening": "2",
    "last_intervening": "NN",
    "n_diff_intervening": "2",
    "distance": "7",
    "max_depth": "1",
    "all_nouns": "keys NN desk",
    "nouns_up_to_verb": "keys NN desk",
}
COLUMNS = list(KEYS)


def tabbed(*rows: dict[str, str]) -> str:
    return "\n".join(["\t".join(COLUMNS), *("\t".join(row[name] for name in COLUMNS) for row in rows)]) + "\n"


def test_linzens_file_is_read(tmp_path):
    relative = {**KEYS, "has_rel": "True"}
    first, second = linzen(written(tmp_path, tabbed(KEYS, relative), "agr.tsv"))
    assert first.text == KEYS["orig_sentence"]
    assert (first.good, first.bad, first.number, first.before) == (
        "are",
        "is",
        "plural",
        "the keys to the cabinet on the desk",
    )
    assert first.words_at(first.subject) == ["keys"]
    assert first.words_at(first.attractors) == first.words_at(first.distractors) == ["cabinet", "desk"]
    assert (first.n_attractors, first.n_distractors, first.construction) == (2, 2, "natural")
    assert (second.construction, second.id) == ("relative", "linzen-3")


def test_of_linzens_nouns_between_only_those_of_the_other_number_are_attractors(tmp_path):
    tags = KEYS["pos_sentence"].replace("IN DT NN", "IN DT NNS")
    mixed = {**KEYS, "pos_sentence": tags, "n_diff_intervening": "1"}
    (sentence,) = linzen(written(tmp_path, tabbed(mixed), "agr.tsv"))
    assert sentence.words_at(sentence.distractors) == ["cabinet", "desk"]
    assert sentence.words_at(sentence.attractors) == ["cabinet"]
    assert (sentence.n_attractors, sentence.n_distractors) == (1, 2)


def test_linzens_file_may_be_compressed_and_quoted(tmp_path):
    quoted = {**KEYS, "orig_sentence": '"the keys to the ""cabinet"" on the desk are lost ."'}
    (tmp_path / "agr.tsv.gz").write_bytes(gzip.compress(tabbed(quoted).encode()))
    (sentence,) = linzen(tmp_path / "agr.tsv.gz")
    assert sentence.words_at(sentence.attractors) == ['"cabinet"', "desk"]


def test_verbs_without_a_sure_other_form_are_passed_over(tmp_path, caplog):
    odd = {**KEYS, "verb": "'re", "orig_sentence": KEYS["orig_sentence"].replace("are", "'re")}
    with caplog.at_level(logging.INFO, "apportion"):
        assert len(list(linzen(written(tmp_path, tabbed(odd, KEYS), "agr.tsv")))) == 1
    assert "1 sentences were passed over" in caplog.text


@pytest.mark.parametrize(
    ("singular", "plural"),
    [
        ("is", "are"),
        ("has", "have"),
        ("does", "do"),
        ("goes", "go"),
        ("says", "say"),
        ("tries", "try"),
        ("lies", "lie"),
        ("passes", "pass"),
        ("teaches", "teach"),
        ("uses", "use"),
        ("changes", "change"),
        ("causes", "cause"),
        ("plays", "play"),
        ("mixes", "mix"),
    ],
)
def test_the_other_form_of_a_verb_is_found(singular, plural):
    assert other_form(singular, "singular") == plural
    if singular != "lies":
        assert other_form(plural, "plural") == singular


@pytest.mark.parametrize("verb", ["'s", "s", "walk", "is-not", "Is"])
def test_no_other_form_is_made_up(verb):
    assert other_form(verb, "singular") is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"verb_index": "8"}, "are not 'keys' and 'are'"),
        ({"subj_index": "11"}, "are not 'keys' and 'are'"),
        ({"n_intervening": "two"}, "n_intervening is 'two'; it must be a number"),
        ({"pos_sentence": "DT NNS"}, "11 words and pos_sentence 2 tags"),
        ({"subj_pos": "NN"}, "a subject NN and a verb VBP do not agree"),
        ({"subj": "keys\tmore"}, "has 19 columns; the header has 18"),
    ],
)
def test_a_bad_line_of_linzens_file_is_named(tmp_path, fields, message):
    path = written(tmp_path, tabbed(KEYS, {**KEYS, **fields}), "agr.tsv")
    with pytest.raises(ap.ApportionError, match=r"agr.tsv:3.*" + message):
        list(linzen(path))


def test_goldbergs_file_is_read_without_a_subject(tmp_path):
    whole, masked = "the keys to the desk are here .", "the keys to the desk ***mask*** here ."
    path = written(tmp_path, f"1\t{whole}\t{masked}\tare\tis\n2\t{whole}\t{masked}\tsing\tsang\n", "lgd_dataset.tsv")
    (sentence,) = linzen(path)
    assert sentence.text == whole
    assert (sentence.before, sentence.bad, sentence.after) == ("the keys to the desk", "is", " here .")
    assert (sentence.number, sentence.n_attractors, sentence.subject, sentence.n_distractors) == ("plural", 1, (), None)


def test_a_bad_line_of_goldbergs_file_is_named(tmp_path):
    path = written(tmp_path, "1\tx\tthe keys ***mask*** here\tare\tis\n1\tx\tthe keys here\tare\tis\n", "lgd.tsv")
    with pytest.raises(ap.ApportionError, match=r"lgd.tsv:2 is not: attractors"):
        list(linzen(path))


def test_another_format_is_refused(tmp_path):
    with pytest.raises(ap.ApportionError, match=r"file.tsv:1 is neither .* \(it lacks orig_sentence"):
        linzen(written(tmp_path, "sentence\tlabel\nhello\t1\n", "file.tsv"))
    with pytest.raises(ap.ApportionError, match="neither"):
        linzen(written(tmp_path, "", "empty.tsv"))


@pytest.mark.parametrize("reader", [blimp, lm_syneval, linzen])
def test_files_that_cannot_be_read_are_refused(tmp_path, reader):
    with pytest.raises(ap.ApportionError, match=r"nothing does not exist; give the benchmark's file"):
        reader(tmp_path / "nothing")
    with pytest.raises(ap.ApportionError, match="holds no"):
        reader(tmp_path)
    (tmp_path / "latin.jsonl").write_bytes(b"\xff\n")
    with pytest.raises(ap.ApportionError, match=r"latin.jsonl:1 cannot be read"):
        list(reader(tmp_path / "latin.jsonl"))


# The published files and a real model, where they are at hand.


@pytest.mark.skipif(not (SHARED / "blimp_sva").is_dir(), reason="BLiMP's files are not here")
def test_nearly_all_of_blimp_is_read():
    with unchecked():
        found = list(blimp(SHARED / "blimp_sva"))
    assert len(found) >= 3_990
    assert len({s.id for s in found}) == len(found)
    for sentence in found:
        assert sentence.before.endswith(sentence.words_at(sentence.distractors or sentence.subject)[-1])
        (subject,) = sentence.words_at(sentence.subject)
        assert subject.split()[0].lower() not in ("a", "the", "lot", "of", "some", "who", "that", "about", "every")


@pytest.mark.skipif(not (SHARED / "lm_syneval_sva").is_dir(), reason="LM_syneval's file is not here")
def test_all_of_lm_syneval_is_read():
    with unchecked():
        found = list(lm_syneval(SHARED / "lm_syneval_sva"))
    assert len({s.id for s in found}) == len(found) == 7_940
    for sentence in found:
        assert number_of(sentence.good, sentence.bad) == sentence.number
        (subject,) = sentence.words_at(sentence.subject)
        assert subject.endswith("s") == (sentence.number == "plural")


@pytest.mark.real
def test_every_generated_sentence_fits_the_demo_model():
    with unchecked():
        items = items_of(agreement_sentences(count=500), ap.load("demo"))
        assert len(list(items)) == 500
