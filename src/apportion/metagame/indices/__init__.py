"""Other second-order indices, for comparison."""
