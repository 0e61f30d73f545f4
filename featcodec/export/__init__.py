"""Exports a codec's networks as two ONNX files, which need neither PyTorch nor featcodec's checkpoints.

`halves` are the networks as modules, `graphs` makes ONNX of them, `verification` compares both, `int8` quantizes the
edge, and `folder` writes what passed.
"""
