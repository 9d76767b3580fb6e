"""``python -m farshore.cli``: the command line, also where its script is not on the path."""

from farshore.cli import main

main()
