"""What every other part uses: features, ledgers, files, errors."""

import lazy_loader

# The names stand in `__init__.pyi`, for this and for type checkers; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
