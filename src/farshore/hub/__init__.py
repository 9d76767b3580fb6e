"""The hub: registry of models, fleet of devices, and what each device should run.

Rules of the room: SQL stands in ``records`` only; ``selector`` and ``deployment`` decide and touch nothing; ``registry``
and ``fleet`` open transactions; ``api`` speaks HTTP and knows no SQL; ``app`` wires them together.
"""
