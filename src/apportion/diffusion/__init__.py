"""Diffusion transformers: maps of concepts, and one denoising step as a prompt."""

from apportion.diffusion import _concept_views as _concept_views  # registers the views
from apportion.diffusion._concept_interactions import ConceptInteractions as ConceptInteractions
from apportion.diffusion._concepts import ConceptMaps as ConceptMaps
from apportion.diffusion._concepts import carrying_concepts as carrying_concepts
from apportion.diffusion._concepts import concept_maps as concept_maps
from apportion.diffusion._region import Region as Region
from apportion.diffusion._step import Step as Step
from apportion.relevance import modulation_held as modulation_held
