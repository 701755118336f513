"""Probable mislabels of a data set, found by the negatives that mining chooses."""
