"""Tells before a run what would stop it: devices, packages, storage, network, limits."""
