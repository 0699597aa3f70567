"""Perturbation methods: what the model does when features are absent."""
