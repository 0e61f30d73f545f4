"""The audit of privacy: who attacks, what an attack yields, and how it is measured."""
