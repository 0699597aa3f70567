"""The errors; every message says what was given, what fits and what to do."""


class ApportionError(ValueError):
    """The input does not fit, or cannot be explained in this way."""


class UnknownOperation(ApportionError):
    """The model uses an operation without a known rule, so relevance cannot be propagated."""


class NonFiniteRelevance(ApportionError):
    """A share or a value of the model became NaN or infinite."""


class RuleNotApplied(ApportionError):
    """A rule that the composite promises was not applied to this model."""
