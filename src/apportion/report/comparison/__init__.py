"""Views of a comparison."""
