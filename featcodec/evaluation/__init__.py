"""Measuring: accuracy and rate of a set, sweeps over ours and over anchors, Bjontegaard deltas."""
