"""The networks around the detector, their checkpoints, and the networks that ship with the package."""
