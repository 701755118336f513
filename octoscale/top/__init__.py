"""Follows a run from its metrics, wherever it is."""
