"""The inference server: a light front process that speaks HTTP, and a worker process for each loaded version.

The front (``front``, ``http``, ``pool``, ``policy``) never loads a runtime; a worker (``worker``, ``engine``, ``tasks``) never
opens a network connection. Between them go length-prefixed frames (``frames``). ``docs/serving.md`` tells how it is used.
"""
