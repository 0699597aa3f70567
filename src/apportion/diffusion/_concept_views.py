"""Views of concept maps and their interactions: own figures, and the pages of attributions and interactions."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from apportion.core import View, register_view
from apportion.diffusion._concept_figure import interactions_figure, maps_figure
from apportion.diffusion._concept_interactions import ConceptInteractions
from apportion.diffusion._concepts import ConceptMaps


def interactions_lines(found: ConceptInteractions) -> RenderableType:
    """The strongest effects in words."""
    rows, columns = found.maps.shape[1:]
    beside = f" beside {', '.join(found.padding)}" if found.padding else ""
    lines = [f"ConceptInteractions of {len(found.concepts)} concepts{beside} on {rows} × {columns} patches"]
    lines += [f"  {j!r} takes {-value:.2f} patches from {i!r}" for j, i, value in found.top()]
    return Text("\n".join(lines))


register_view(
    ConceptMaps,
    View(
        terminal=lambda found: found.attribution().__rich__(),
        fragment=lambda found: found.attribution()._repr_html_(),
        page=lambda found: found.attribution().to_html(),
        figure=maps_figure,
    ),
)
register_view(
    ConceptInteractions,
    View(
        terminal=interactions_lines,
        fragment=lambda found: found.summed()._repr_html_(),
        page=lambda found: found.summed().to_html(),
        figure=interactions_figure,
    ),
)
