"""From a feature tensor to the frame that a video codec takes, and back. Knows nothing of torch."""
