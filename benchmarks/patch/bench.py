"""Sizes and speeds of patches beside other tools', for every pair in a folder, as the tables of README.md.

    python -m benchmarks.patch ../shared/data/pairs --cache rivals.json

The same walk as `farshore patch bench`; every patch is applied and compared before its size is printed. "best tool" is the smallest of
the general tools at their strongest settings (`farshore.cli.rivals`). Speeds are of one core's time, in MB of the target.
"""

import argparse
from pathlib import Path

from farshore.cli import pairs


def print_pairs(found: list[pairs.Pair], levels: list[str], cache: Path | None) -> list[pairs.Measured]:
    """A row for each pair, as soon as it is measured."""
    print("| pair | b | best tool | | " + " | ".join(f"{x} | ratio | enc, dec MB/s" for x in levels) + " |")
    print("|---|---|---|---|" + "---|---|---|" * len(levels))
    rows = []
    for pair in found:
        row = pairs.measure(pair, levels, cache)
        ours = [(row.ours[level], row.ratio(level)) for level in levels]
        cells = [f"{one.size} | {ratio:.3f} | {one.made:.1f}, {one.applied:.1f}" for one, ratio in ours]
        print(f"| {row.pair} | {row.b} | {row.best[0]} | {row.best[1]} | " + " | ".join(cells) + " |", flush=True)
        rows.append(row)
    return rows


def print_means(rows: list[pairs.Measured], levels: list[str]) -> None:
    """A row for each class of change."""
    print("\n| class | pairs | " + " | ".join(levels) + " |\n|---|---|" + "---|" * len(levels))
    for kind, count, mean in pairs.means(rows, levels):
        print(f"| {kind} | {count} | " + " | ".join(f"{mean[level]:.3f}" for level in levels) + " |")
    for level in levels:
        print(
            f"\n{level}: larger than the best tool by over {pairs.SLACK} bytes: {', '.join(pairs.larger(rows, level)) or 'none'}"
        )


def main() -> None:
    """Print the tables: with what is held, then as if nothing were."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--levels", nargs="+", default=["max", "default", "fast"])
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--without-base", action="store_true", help="only the smallest form of each target itself")
    parser.add_argument("--only", nargs="*", default=[])
    options = parser.parse_args()
    rows = []
    for without_base in [True] if options.without_base else [False, True]:
        print("\nWithout any base:\n" if without_base else "")
        found = pairs.find(options.folder, options.only, without_base=without_base)
        rows += print_pairs(found, options.levels, options.cache)
    print_means(rows, options.levels)


if __name__ == "__main__":
    main()
