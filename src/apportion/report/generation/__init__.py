"""Views of a generation."""
