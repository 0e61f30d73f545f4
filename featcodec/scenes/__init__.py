"""Street scenes that are drawn: COCO images and annotations, and what is private on them, recorded apart."""
