"""``python -m benchmarks.patch``: patches beside other tools over the shared version pairs; takes some minutes."""

import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
PAIRS = HERE.parents[2] / "shared" / "data" / "pairs"


def main() -> int:
    if not PAIRS.is_dir():
        print(
            "benchmarks/patch: ../shared/data/pairs is not here; the last figures stand in benchmarks/patch/README.md"
        )
        return 0
    given = [sys.executable, str(HERE / "bench.py"), str(PAIRS), "--levels", "max", "default", "fast", *sys.argv[1:]]
    return subprocess.run(given, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
