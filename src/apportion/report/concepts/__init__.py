"""Views of concepts."""
