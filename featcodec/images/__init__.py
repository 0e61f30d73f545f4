"""Images before the networks: reading, letterbox, annotations, pictures beside each other."""
