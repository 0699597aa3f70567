"""Other second-order indices, to compare with."""
