"""Measurements: accuracy and rate of a set, sweeps over our methods and the anchors, Bjontegaard deltas."""
