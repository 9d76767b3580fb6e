"""``python -m benchmarks [NAME …]``: run benchmarks one after another; each prints its table and says what it compares."""

import pathlib
import subprocess
import sys

ALL = ("sync", "serve", "patch")


def main() -> int:
    here = pathlib.Path(__file__).parent
    names = sys.argv[1:] or ALL
    unknown = [name for name in names if name not in ALL]
    if unknown:
        sys.exit(f"no benchmark {unknown[0]!r}: choose from {', '.join(ALL)}")
    return max(
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], cwd=here.parent, check=False).returncode
        for name in names
    )


if __name__ == "__main__":
    sys.exit(main())
