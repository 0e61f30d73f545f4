"""Images outside the networks: reading, letterbox, annotations, pictures side by side."""
