"""Readers of the formats that face data sets come in, for packing."""
