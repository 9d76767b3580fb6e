"""Farshore ships AI models to devices where bandwidth is scarce.

The house (see docs/architecture.md): ``core`` holds the shared words; ``formats`` and ``store`` know model files and disks;
``delta`` makes patches; ``hub``, ``agent`` and ``serve`` are three processes that meet only on the wire; ``client`` is the
operator's side of the hub's API; ``cli`` is the front door.
"""

__version__ = "0.1.0"
