"""What can go wrong, by name; every message says what was given, what fits and what to do."""


class ApportionError(ValueError):
    """Input that cannot be explained as asked."""


class UnknownOperation(ApportionError):
    """The model uses an operation for which no rule is known, so its relevance cannot be propagated."""


class NonFiniteRelevance(ApportionError):
    """A share or a value of the model became NaN or infinite."""


class RuleNotApplied(ApportionError):
    """A rule that the composite promises was never applied to this model."""
