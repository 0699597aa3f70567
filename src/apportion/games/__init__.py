"""Games over coalitions of features: maskers, payoffs and estimators."""
