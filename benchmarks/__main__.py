"""``python -m benchmarks [NAME …] [OPTION …]``: run benchmarks one after another; each prints its tables and says what it compares.

Options, from the first word that begins with a dash, are the benchmark's.
"""

import pathlib
import subprocess
import sys

ALL = ("sync", "trust", "fleet", "serve", "iothub", "patch", "studio")


def main() -> int:
    here = pathlib.Path(__file__).parent
    words = sys.argv[1:]
    first = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
    names, options = words[:first] or ALL, words[first:]
    if options and len(names) > 1:
        sys.exit("options go to one benchmark: name it")
    unknown = [name for name in names if name not in ALL]
    if unknown:
        sys.exit(f"no benchmark {unknown[0]!r}: choose from {', '.join(ALL)}")
    return max(
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], cwd=here.parent, check=False).returncode
        for name in names
    )


if __name__ == "__main__":
    sys.exit(main())
