"""``python -m benchmarks serve [--rivals | --switching] [OPTION …]``: beside the same pipeline without HTTP, beside other servers, or
while versions change."""

import sys

if "--rivals" in sys.argv[1:]:
    from benchmarks.serve.rivals import main
elif "--switching" in sys.argv[1:]:
    from benchmarks.serve.switches import main
else:
    from benchmarks.serve.limit import main

if __name__ == "__main__":
    main([each for each in sys.argv[1:] if each != "--rivals"])
