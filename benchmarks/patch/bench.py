"""Sizes and speeds of patches beside other tools', for every pair in a folder.

    python benchmarks/patch/bench.py ../shared/data/pairs --levels max default fast --cache rivals.json

A pair is a folder with one file in a/ (held) and one in b/ (wanted). "best tool" is the smallest of the general tools at their strongest
settings (rivals.py). Every patch is decoded and compared before its size is printed. Speeds are of one core, in MB of the target.
"""

import argparse
import math
import time
from collections import defaultdict
from pathlib import Path

import rivals

from farshore.delta import decode, encode


def one(path: Path) -> bytes:
    """The only file of a folder."""
    return next(p for p in sorted(path.iterdir()) if p.is_file()).read_bytes()


def kind(name: str) -> str:
    """Class of a pair of ../shared/data/pairs, for the means; others are all one class."""
    classes = {
        "fine-tuned fp32": ("ft_det_small_f32", "ft_det_opset", "ft_det_addcls_f32", "ft_det_unf_to_folded_small"),
        "fine-tuned fp16": ("ft_det_small_f16",), "fine-tuned int8": ("ft_det_small_i8q",),
        "cross precision, fine-tuned": ("ft_det_x_f32_i8q",),
        "cross precision, same weights": ("mlc_vww_f32_to_i8", "mp_face_landmark_16from32"),
        "head or pruned": ("ft_det_head_f32", "ft_det_head_i8q", "ft_det_prune_f32"),
        "metadata, re-export": ("coral_deeplab_dm05", "coral_mnv1_025_edgetpu", "coral_mnv2_quant_meta", "mlc_resnet_f32",
                                "mp_face_lm_onnx", "yunet_n_320to640"),
        "retrained fp32": ("fastestdet_r2", "magika_v30_v31", "mlc_toycar_f32_r1", "mlc_vww_f32_r1", "mlc_vww_f32_r2",
                           "mp_face_landmark_r1", "silero_op15_r2", "yunet_n640_r2"),
        "retrained fp16": ("mp_pose_det_r1", "mp_pose_lm_lite_r1"),
        "retrained int8": ("coral_bird_to_insect", "mlc_resnet_i8", "mlc_strmww_i8", "mlc_toycar_i8_r2", "mlc_vww_i8_r2"),
    }  # fmt: skip
    return next((label for label, names in classes.items() if name in names), "other")


def measure(a: bytes | None, b: bytes, level: str) -> tuple[int, float, float]:
    """Bytes of the patch, MB/s of making and of applying it."""
    bases = [] if a is None else [a]
    start = time.process_time()
    patch = b"".join(encode(b, bases, level=level))
    made = time.process_time()
    if b"".join(decode(patch, bases)) != b:
        raise SystemExit("a patch led to another file")
    done = time.process_time()
    return len(patch), len(b) / 1e6 / (made - start), len(b) / 1e6 / (done - made)


def main() -> None:
    """Print the table, then means by class."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--levels", nargs="+", default=["max", "default", "fast"])
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--without-base", action="store_true", help="the smallest form of b itself")
    parser.add_argument("--only", nargs="*", default=[])
    options = parser.parse_args()
    print("| pair | b | best tool | | " + " | ".join(f"{x} | ratio | enc, dec MB/s" for x in options.levels) + " |")
    print("|---|---|---|---|" + "---|---|---|" * len(options.levels))
    ratios: dict[tuple[str, str], list[float]] = defaultdict(list)
    for path in sorted(
        p for p in options.folder.iterdir() if p.is_dir() and (not options.only or p.name in options.only)
    ):
        a, b = (None if options.without_base else one(path / "a")), one(path / "b")
        others = rivals.sizes(a or b"", b, options.cache)
        tool, best = min(((k, v) for k, v in others.items() if k not in rivals.NOT_GENERAL), key=lambda kv: kv[1])
        cells = []
        for level in options.levels:
            size, making, applying = measure(a, b, level)
            ratios[kind(path.name), level].append(size / best)
            cells.append(f"{size} | {size / best:.3f} | {making:.1f}, {applying:.1f}")
        print(f"| {path.name} | {len(b)} | {best} | {tool} | " + " | ".join(cells) + " |", flush=True)
    print("\n| class | pairs | " + " | ".join(options.levels) + " |\n|---|---|" + "---|" * len(options.levels))
    for label in sorted({label for label, _ in ratios}):
        means = [math.exp(sum(map(math.log, ratios[label, x])) / len(ratios[label, x])) for x in options.levels]
        print(f"| {label} | {len(ratios[label, options.levels[0]])} | " + " | ".join(f"{m:.3f}" for m in means) + " |")


if __name__ == "__main__":
    main()
