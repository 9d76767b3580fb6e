"""The only SQL: one module a subject, each a handful of functions over an open transaction.

Rows come back as frozen values. Nothing here decides; what is written has been checked by ``registry`` and ``fleet``.
"""
