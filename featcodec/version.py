"""The version of featcodec; it has a module of its own so that reading it imports nothing."""

__version__ = "0.2.0"
