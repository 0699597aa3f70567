"""Views of a similarity divided over pairs."""
