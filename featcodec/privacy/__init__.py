"""The privacy audit: the attacks, their reconstructions, and how the reconstructions are measured."""
