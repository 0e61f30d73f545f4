"""Drawn street scenes: images with COCO annotations, and a separate record of the private details on them."""
