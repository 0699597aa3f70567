"""Span to span: what spans of the context give to spans of the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.core import AnySpans, ApportionError, Feature, find_text
from apportion.results._explained import Explained
from apportion.targets import summed_unit

REST = "(the rest)"


class Spans(NamedTuple):
    """Which targets and features each span has: 1 where it has one, else 0; and what the spans are.

    Args:
        into: Of the answer's spans.
        of: Of the context's spans.
        rows: The answer's spans as targets.
        columns: The context's spans as features.
    """

    into: Float[Tensor, "target row"]
    of: Float[Tensor, "feature column"]
    rows: tuple[Explained, ...]
    columns: tuple[Feature, ...]


def between(
    features: Sequence[Feature], explained: Sequence[Explained], answer: AnySpans | None, context: AnySpans | None
) -> Spans:
    """The spans over which the shares of an answer are summed; see `Attribution.between`."""
    rows_of: dict[int, list[int]] = {}  # of a word all its tokens
    for t, target in enumerate(explained):
        if target.feature is not None:
            rows_of.setdefault(target.feature, []).append(t)
    if not rows_of:
        raise ApportionError(
            "between needs the attribution of an answer's tokens, as generate(...).attribute() gives it; "
            "for spans of a prompt use .spans(...)."
        )
    first = min(rows_of)
    said = _spans(features, answer, list(rows_of), "the explained answer") if answer else _parts(features, [*rows_of])
    columns = _columns(features, context, first)
    rows = {name: [t for i in members for t in rows_of[i]] for name, members in said.items()}
    return Spans(
        into=_membership(list(rows.values()), len(explained)),
        of=_membership(list(columns.values()), len(features)),
        rows=tuple(_row([explained[t] for t in members], name) for name, members in rows.items()),
        columns=tuple(_column(features, name, members) for name, members in columns.items()),
    )


def _columns(features: Sequence[Feature], context: AnySpans | None, first: int) -> dict[str, list[int]]:
    everything = list(range(len(features)))
    if context is None:
        return _parts(features, everything)
    columns: dict[str, list[int]] = {}
    for name, span in _named(context).items():
        before = features[:first]
        in_prompt = isinstance(span, str) and "".join(f.label for f in before).count(span) > 0
        within = everything[:first] if in_prompt else everything
        columns |= _spans(features, {name: span}, within, "the prompt" if in_prompt else "the prompt and the answer")
    taken = [i for members in columns.values() for i in members]
    if len(set(taken)) < len(taken):
        raise ApportionError("spans of the context must not overlap.")
    if rest := [i for i in everything if i not in set(taken)]:
        columns[REST] = rest
    return columns


def _named(spans: AnySpans) -> Mapping[str, str | Sequence[int]]:
    if isinstance(spans, Mapping):
        return spans
    return {text: text for text in ([spans] if isinstance(spans, str) else spans)}


def _spans(features: Sequence[Feature], spans: AnySpans, within: Sequence[int], where: str) -> dict[str, list[int]]:
    """The members of each span, all of them among the features `within`."""
    found: dict[str, list[int]] = {}
    for name, span in _named(spans).items():
        if isinstance(span, str):
            found[name] = [within[k] for k in find_text([features[i] for i in within], span, where=where)]
        else:
            found[name] = sorted({int(i) for i in span})
        outside = [i for i in found[name] if i not in within]
        if outside or not found[name]:
            given = f"names feature {outside[0]}, which is not in {where}" if outside else "is empty"
            raise ApportionError(f"span {name!r} {given}; its features are {within[0]} to {within[-1]}.")
    return found


def _parts(features: Sequence[Feature], members: Sequence[int]) -> dict[str, list[int]]:
    """The members by role, turn and part."""
    named: dict[str, list[int]] = {}
    for i in members:
        feature = features[i]
        turn = None if feature.turn is None else f"turn {feature.turn}"
        part = None if feature.part == "text" and feature.role is not None else feature.part
        named.setdefault(" · ".join(word for word in (part, feature.role, turn) if word), []).append(i)
    return named


def _membership(groups: Sequence[Sequence[int]], count: int) -> Tensor:
    membership = torch.zeros(count, len(groups))
    for column, members in enumerate(groups):
        membership[list(members), column] = 1
    return membership


def _column(features: Sequence[Feature], name: str, indices: Sequence[int]) -> Feature:
    members = [features[i] for i in indices]
    same = {(m.part, m.role, m.turn) for m in members} == {(members[0].part, members[0].role, members[0].turn)}
    place = members[0] if same else Feature(label=name)
    return Feature(
        label=name,
        kind="span",
        positions=tuple(p for m in members for p in m.positions),
        part=place.part,
        role=place.role,
        turn=place.turn,
        template=all(m.template for m in members),
    )


def _row(members: Sequence[Explained], name: str) -> Explained:
    return Explained(
        label=name, unit=summed_unit(members[0].unit, len(members)), value=sum(member.value for member in members)
    )
