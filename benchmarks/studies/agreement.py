"""Which methods find a verb's subject? Subject–verb agreement, by how many attractors stand between."""

import argparse
from collections.abc import Iterator

import apportion as ap
from apportion.evaluation import Item
from apportion.evaluation.agreement import agreement_sentences, items_of
from benchmarks.studies import _models
from benchmarks.studies._study import run, table, write_block

METHODS = {
    "gradient (L1)": "gradient(norm='l1')",
    "gradient (L2)": "gradient(norm='l2')",
    "input-x-gradient": "input-x-gradient",
    "integrated-gradients": "integrated-gradients(steps=16)",
    "attnlrp": "attnlrp",
    "cp-lrp": "cp-lrp",
    "gim": "gim",
    "alti-logit": "alti-logit",
    "rollout": "rollout",
    "leave-one-out": "leave-one-out",
}
MEASURES = {"mrr": "MRR", "pg1": "PG@1", "pg2": "PG@2", "rma": "RMA", "probes": "probes needed"}

#: The tagger's edits of a wrong verb: the form that stands there, and the one that the tag asks for.
EDITS = {"is": "are", "was": "were", "has": "have", "have": "has"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=400, help="sentences for the language model")
    limit = parser.parse_args().limit
    language_model(limit)
    tagger(limit)


def language_model(limit: int) -> None:
    explainer = _models.smollm2()
    items = items_of(agreement_sentences(seed=0), explainer)
    found = run(
        "agreement-smollm2",
        explainer,
        items,
        methods=METHODS,
        measures=["ground-truth", "leave-one-out-agreement"],
        limit=limit,
    )
    right, known = found.accuracy
    write_block("agreement", "accuracy", f"SmolLM2 prefers the right form in {right} of {known} sentences.")
    write_block("agreement", "all", table(found.summary(), MEASURES))
    write_block("agreement", "correct", table(found.summary(only="correct"), MEASURES))
    counts = found.summary(by="attractors")
    counts = counts[counts.measure == "mrr"]
    headings = {str(n): f"{n} attractors" for n in sorted(counts.attractors.unique())}
    write_block("agreement", "attractors", table(counts, headings, by="attractors", order=list(headings)[-1]))


def tagger(limit: int) -> None:
    explainer = _models.tagger()
    methods = {name: method for name, method in METHODS.items() if name != "leave-one-out"}
    # The tokenizer's mask token was not seen in training as a stand-in, so tokens are deleted.
    found = run(
        "agreement-tagger",
        explainer,
        tagged(explainer),
        methods={**methods, "leave-one-out": "leave-one-out(masker='delete')"},
        measures=["ground-truth", "leave-one-out-agreement"],
        limit=limit,
        masker="delete",
    )
    right, known = found.accuracy
    accuracy = f"The tagger prefers the edit to leaving the wrong verb as it is in {right} of {known} sentences."
    write_block("agreement", "tagger accuracy", accuracy)
    write_block("agreement", "tagger", table(found.summary(), MEASURES))
    write_block("agreement", "tagger correct", table(found.summary(only="correct"), MEASURES))


def tagged(explainer: ap.Explainer) -> Iterator[Item]:
    """Sentences with a wrong verb that the tagger has an edit for: that tag is explained, against keeping the verb."""
    for sentence in agreement_sentences(seed=0):
        wrong = sentence.bad
        if EDITS.get(wrong) != sentence.good:
            continue
        text = f"{sentence.before} {wrong}{sentence.after}"
        tokens = explainer.processor(text).tokens()
        place = len(explainer.processor(sentence.before).tokens()) - 1  # the last of those is [SEP]
        assert tokens[place] == wrong, (text, tokens)
        yield Item(
            id=sentence.id,
            prompt=text,
            target=f"$REPLACE_{EDITS[wrong]}",
            contrast="$KEEP",
            position=place,
            truth=sentence.subject,
            groups={"attractors": sentence.n_attractors, "construction": sentence.construction},
        )


if __name__ == "__main__":
    main()
