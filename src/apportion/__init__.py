"""Divide a transformer's prediction among what caused it, and show that the books balance."""

import lazy_loader

# The names stand in `__init__.pyi`, for this and for type checkers; each is imported when it is
# first used, so that the command line can answer without torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
