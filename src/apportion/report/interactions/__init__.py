"""Views of interactions."""
