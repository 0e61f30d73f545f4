"""The losses of the training stages."""
