"""How words of a caption change the attributions of an image's patches."""
