"""Many machines: the steps of `featcodec.pipeline` as operators of Ray Data, with the same files and outcomes.

    encode:  read + letterbox -> front-end (actors that hold the networks) -> VVC and file
    decode:  read + VVC -> back-end (actors) -> detections

Needs the extra `cluster`. One machine needs none of it.
"""
