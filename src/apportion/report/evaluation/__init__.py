"""Views of an evaluation and a recommendation."""
