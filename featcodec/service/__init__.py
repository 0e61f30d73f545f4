"""The cloud as a program: a server that finishes the detection of bitstreams (`featcodec serve`).

    from featcodec.service.application import create_application

Its protocol is in `featcodec.edge.messages`; `featcodec.service.application` lists the addresses.
"""
