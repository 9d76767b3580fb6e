"""For all tests: Ctrl-C works here and in every process that a test starts.

A shell that runs the suite in the background lets it, and all it starts, ignore the interrupt signal.
"""

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
