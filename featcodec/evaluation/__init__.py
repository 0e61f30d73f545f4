"""Measuring accuracy (and, in later issues, sweeps, BD metrics, privacy and reports)."""
