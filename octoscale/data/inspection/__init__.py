"""Looks at a data set: counts, pictures, duplicates."""
