"""Signed and fresh: who may say what, and how a device knows.

Metadata are The Update Framework's (TUF, https://theupdateframework.github.io/specification/v1.0.34/), read and written by
python-tuf's data types; a director's order for each device is added after Uptane's idea. Formats and the device's order of
checks: ``docs/formats/trust.md``. Nothing here does IO or reads a clock: bytes and times come in, bytes and verdicts go out.

* :mod:`metadata`: one document, its keys and its signatures
* :mod:`chain`: what a device believes, and how that may change
* :mod:`refresh`: the client's workflow, asking its shell for bytes
* :mod:`releases`: which versions of a model their publisher stands for
* :mod:`director`: what a hub tells one device now
* :mod:`repository`: making and signing all of it
"""
