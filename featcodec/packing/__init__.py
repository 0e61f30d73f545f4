"""From a tensor to the frame that a video codec takes, and back. This package does not use torch."""
