"""Words of a caption that move the relevance of patches."""
