"""Networks around the detector, their checkpoints, and what comes with the package."""
