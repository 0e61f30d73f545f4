"""The edge as a program. Nothing in this room knows torch."""
