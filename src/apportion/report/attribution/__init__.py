"""Views of an attribution."""
