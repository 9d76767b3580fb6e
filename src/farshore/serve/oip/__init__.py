"""The Open Inference Protocol, version 2: one set of use cases (``models``) behind two doors (``rest``, ``grpc``).

Both doors hand a worker the same thing: REST's own form, JSON with binary tensors behind it (``words``). Only the worker
(``tensors``) makes arrays of it. Protocol: https://github.com/kserve/open-inference-protocol; the binary tensor data, statistics
and model repository extensions: https://github.com/triton-inference-server/server/tree/main/docs/protocol.
"""
