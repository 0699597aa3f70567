"""Players: the parts of a prompt that can be removed; all other parts are always present."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from apportion.core import AnyFeatures, ApportionError, Feature, FeatureKind, feature_groups, group_feature
from apportion.models.inputs import tokenizer_of
from apportion.task import AttributionTask


@dataclass(frozen=True)
class Players:
    """The players of a game as groups of the prompt's features.

    Args:
        groups: For each player, the indices of its features.
        features: The features of the result in reading order: the players, and the parts that are always present.
        columns: For each player, its index in `features`.
    """

    groups: tuple[tuple[int, ...], ...]
    features: tuple[Feature, ...]
    columns: tuple[int, ...]


def players_of(task: AttributionTask, example: int, players: AnyFeatures = "tokens") -> Players:
    """The players of one of a task's prompts.

    Template tokens, image placeholders, the answer that a `Span` explains, the mask token that the target reads and the
    first token of a decoder are always present, as is everything outside of spans in `players`.

    Raises:
        ApportionError: No player is left, or a span does not fit the prompt or has no token that can be removed.
    """
    features = task.prompts[example].features
    always = _always_present(task, example)
    kind: FeatureKind = "word" if players == "words" else "span"
    found: list[tuple[list[int], Feature, bool]] = []
    for name, indices in feature_groups(features, players):
        playing = [i for i in indices if i not in always]
        if name is not None and not playing:
            raise ApportionError(
                f"the span {name!r} holds only tokens that are always present (of the template, the explained answer "
                "or the mask that is read), so it cannot be a player."
            )
        if playing and (name is not None or isinstance(players, str)):
            # Only the removable features of a group form the player; the others stand by themselves.
            of_image = all(features[i].image is not None for i in playing)
            made: FeatureKind = "region" if of_image and name is not None else kind
            found.append((playing, group_feature(features, (name, playing), made), True))
            found += [([i], features[i], False) for i in indices if i in always]
        else:
            found.append((indices, group_feature(features, (name, indices), kind), False))
    found.sort(key=lambda one: one[0][0])
    if not any(plays for _, _, plays in found):
        raise ApportionError(
            "every token of the prompt is always present (of the template, the explained answer or the mask that is "
            "read), so none can be removed."
        )
    return Players(
        groups=tuple(tuple(indices) for indices, _, plays in found if plays),
        features=tuple(feature for _, feature, _ in found),
        columns=tuple(column for column, (_, _, plays) in enumerate(found) if plays),
    )


def to_features(players: Players, values: Float[Tensor, "players targets"]) -> Float[Tensor, "targets features"]:
    """Scores of features from values of players; features that are always present get exactly 0."""
    scores = values.new_zeros(values.shape[1], len(players.features))
    scores[:, list(players.columns)] = values.T
    return scores


def _always_present(task: AttributionTask, example: int) -> set[int]:
    prompt, head = task.prompts[example], task.head
    always = {i for i, feature in enumerate(prompt.features) if feature.template}
    names, starts = list(prompt.parts), prompt.starts
    always |= {start for name, start in starts.items() if name.startswith("decoder") and prompt.parts[name]}
    if not names:
        return always  # an image alone
    first = starts[head.kind.rows_in(tuple(names))]
    mask = getattr(tokenizer_of(head.processor), "mask_token_id", None)
    for target, rows in zip(task.targets, task.rows[example], strict=True):
        always |= {first + row for row in target.own_rows(rows)}
        if head.kind.fills_masks and mask is not None and names[0] == "input_ids":
            always |= {first + row for row in rows if prompt.ids[row] == mask}
    return always
