"""Reactions with one atom masked, for the masked language model of chemistry."""

import itertools
import random
from collections.abc import Iterator

from apportion.evaluation import Item

# Reactants and product, written in SMILES with a space between tokens; A and B are carbon groups.
REACTIONS = {
    "esterification": "A C ( = O ) O . O B >> A C ( = O ) O B",
    "amide": "A C ( = O ) Cl . N B >> A C ( = O ) N B",
    "ether": "A Br . O B >> A O B",
    "sulfonamide": "A S ( = O ) ( = O ) Cl . N B >> A S ( = O ) ( = O ) N B",
    "thioether": "A Br . S B >> A S B",
    "urea": "A N = C = O . N B >> A N C ( = O ) N B",
}
GROUPS = ("C", "C C", "C C C", "C C ( C ) C", "C C C C C")
MASKED = ("O", "N", "S")


def reactions() -> Iterator[Item]:
    """Every reaction of every pair of groups, in random order, with each hetero atom of the product masked in turn."""
    kinds = list(itertools.product(itertools.permutations(GROUPS, 2), REACTIONS.items()))
    random.Random(0).shuffle(kinds)
    for (a, b), (name, reaction) in kinds:
        written = [group for token in reaction.split() for group in {"A": a, "B": b}.get(token, token).split()]
        product = written.index(">>")
        for place in range(product, len(written)):
            if written[place] not in MASKED:
                continue
            tokens = [*written[:place], "[MASK]", *written[place + 1 :]]
            yield Item(
                id=f"{name}, {a.replace(' ', '')}, {b.replace(' ', '')}, {place}",
                prompt=" ".join(tokens),
                target=written[place],
                groups={"reaction": name},
            )
