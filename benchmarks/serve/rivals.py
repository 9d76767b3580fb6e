"""Farshore's ``/score`` beside other servers on this machine, in one run: what users feel.

    python -m benchmarks serve --rivals [--only farshore,litserve] [--models tiny,ssd,yolox,face] [--seconds 3] [--rounds 2]

Every server gets an environment of its own, made from the package registry into a cache folder, with the same runtime, and as many
workers of one thread as there are cores. All run at the same time; their windows alternate (A, B, C, A, B, C …), so that a noisy
machine disturbs all alike; CPU per request is steadier than requests per second. Before it is measured, each must find the same
thing in the picture. See README.md.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.serve.limit import SHARED, install, read
from benchmarks.serve.load import Post, Window, cpu, free_port, held, run, tree
from benchmarks.serve.tiny import tiny
from farshore.store.slots import Slots

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
SCRIPTS = HERE / "rival"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "farshore-bench"
WORKERS = len(os.sched_getaffinity(0))
CLIENTS = (1, 4, 16)

MODELS = {
    "tiny": ("tiny_yolov3_shape.onnx", "cat_720p.jpg"),  # made here
    "ssd": ("ssd_mobilenet_v1_coco.zip", "cat_720p.jpg"),
    "yolox": ("yolox_nano.onnx", "cat_720p.jpg"),
    "face": ("version-RFB-320.onnx", "face.jpg"),
}
RUNTIMES = {"onnx": "onnxruntime", "litert": "ai-edge-litert"}
SHARED_PINS = ("numpy", "onnxruntime", "ai-edge-litert", "pillow", "simplejpeg", "flatbuffers", "protobuf")


@dataclass(frozen=True)
class Task:
    """What all are asked."""

    name: str
    model: Path  # the bare file
    package: Path  # as it is handed over
    picture: bytes
    runtime: str


@dataclass(frozen=True)
class Rival:
    """How a server is installed, started and asked.

    ``needs`` are its packages, beside a runtime; ``command`` gives its arguments and what its environment has more.
    """

    needs: tuple[str, ...]
    command: Callable[[Path, Task, int, Path], tuple[list[str], dict[str, str]]]
    path: str = "/score"
    kind: str = "image/jpeg"
    body: Callable[[bytes], bytes] = bytes
    found: Callable[[bytes], list[dict]] = lambda data: json.loads(data)["detections"]


def _farshore(python: Path, task: Task, port: int, folder: Path):
    files = read(task.package)
    Slots(folder).activate("model", install(folder, 1, *files))
    return [str(python), "-m", "farshore.cli", "serve", "--root", str(folder), "--port", str(port)], {}


def _naive(python: Path, task: Task, port: int, _: Path):
    return [str(python), str(SCRIPTS / "naive.py"), str(task.model), str(port)], {}


def _lit(python: Path, task: Task, port: int, _: Path):
    return [str(python), str(SCRIPTS / "lit.py"), str(task.model), str(port), str(WORKERS)], {}


def _bento(python: Path, task: Task, port: int, folder: Path):
    command = [str(python), "-m", "bentoml", "serve", "bento:Score", "--host", "127.0.0.1", "--port", str(port)]
    return command, {
        "MODEL": str(task.model),
        "WORKERS": str(WORKERS),
        "BENTOML_HOME": str(folder),
        "BENTOML_DO_NOT_TRACK": "1",
    }


def _ml(python: Path, task: Task, port: int, folder: Path):
    ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    settings = {"host": "127.0.0.1", "parallel_workers": WORKERS, "debug": False, **ports}
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps({"name": "model", "implementation": "ml.Score"}))
    return [str(python.parent / "mlserver"), "start", str(folder)], {"MODEL": str(task.model)}


def _words(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


_FAST = ("numpy", "pillow", "simplejpeg")
RIVALS = {
    "farshore": Rival((), _farshore),
    "naive": Rival(("flask", "numpy", "pillow"), _naive),
    "litserve": Rival(("litserve", *_FAST), _lit, kind="application/json", body=lambda p: json.dumps({"picture": _words(p)}).encode()),
    "bentoml": Rival(
        ("bentoml", *_FAST), _bento, kind="multipart/form-data; boundary=xx",
        body=lambda p: b'--xx\r\nContent-Disposition: form-data; name="picture"; filename="p.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
        + p + b"\r\n--xx--\r\n",
    ),
    "mlserver": Rival(
        ("mlserver", "uvloop<0.22", *_FAST), _ml, path="/v2/models/model/infer", kind="application/json",
        body=lambda p: json.dumps({"inputs": [{"name": "p", "shape": [1], "datatype": "BYTES", "data": [_words(p)]}]}).encode(),
        found=lambda data: json.loads(json.loads(data)["outputs"][0]["data"][0])["detections"],
    ),
}  # fmt: skip


class Environment:
    """Packages of their own in the cache folder.

    Attributes:
        python: its interpreter.
        sizes: megabytes installed with one runtime, by runtime.

    """

    def __init__(self, name: str) -> None:
        self._folder = CACHE / name
        self.python = self._folder / "bin" / "python"
        needs = RIVALS[name].needs
        told = self._folder / "sizes.json"
        if name == "farshore" or not told.exists() or json.loads(told.read_text())["needs"] != list(needs):
            shutil.rmtree(self._folder, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(self._folder)], check=True)
            sizes = self._ours() if name == "farshore" else self._theirs(needs)
            told.write_text(json.dumps({"needs": list(needs), "sizes": sizes}))
        self.sizes = json.loads(told.read_text())["sizes"]

    def _theirs(self, needs: tuple[str, ...]) -> dict[str, float]:
        self._install(*needs)
        return self._with_each(lambda extra: RUNTIMES[extra])

    def _ours(self) -> dict[str, float]:
        """Farshore as it is in this checkout, built from a copy: a build writes beside the sources."""
        with tempfile.TemporaryDirectory(prefix="farshore-bench-") as folder:
            copy = Path(folder) / "farshore"
            copy.mkdir()
            for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
                shutil.copy(CHECKOUT / name, copy)
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.so")
            shutil.copytree(CHECKOUT / "src", copy / "src", ignore=ignored)
            return self._with_each(lambda extra: f"{copy}[{extra}]")

    def _with_each(self, wanted: Callable[[str], str]) -> dict[str, float]:
        """Install a runtime, measure, take it away, install the next; in the end all are there."""
        sizes = {}
        for extra, package in RUNTIMES.items():
            self._install(wanted(extra))
            sizes[extra] = self._size()
            self._pip("uninstall", "--yes", package)
        self._install(*RUNTIMES.values())
        return sizes

    def _size(self) -> float:
        place = next(self._folder.glob("lib/python*/site-packages"))
        return sum(file.stat().st_size for file in place.rglob("*") if file.is_file()) / 1e6

    def _install(self, *packages: str) -> None:
        pins = self._folder / "pins.txt"
        lines = (CHECKOUT / "constraints.txt").read_text().splitlines()
        pins.write_text("\n".join(line for line in lines if line.partition("==")[0].lower() in SHARED_PINS))
        with contextlib.suppress(subprocess.CalledProcessError):
            self._pip("install", "--constraint", str(pins), *packages)
            return
        self._pip("install", *packages)  # a rival that wants another version of what is shared gets it

    def _pip(self, *words: str) -> None:
        command = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(self.python),
            "--quiet",
            "--disable-pip-version-check",
            *words,
        ]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


@dataclass
class Contender:
    """A server that runs, and what was measured of it."""

    name: str
    size: float
    start: float = 0.0
    calm: float = 0.0  # megabytes after the first answers
    peak: float = 0.0  # at the most clients
    windows: dict[int, Window] = field(default_factory=lambda: {count: Window() for count in CLIENTS})


class Running:
    """A rival's processes."""

    def __init__(self, name: str, environment: Environment, task: Task, folder: Path) -> None:
        self.rival, self.port, self.task = RIVALS[name], free_port(), task
        command, more = self.rival.command(environment.python, task, self.port, folder)
        known = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        set_up = {
            **known,
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(SCRIPTS) if name != "farshore" else "",
            **more,
        }
        self._log = (folder / "log").open("wb")
        begun = time.perf_counter()
        self._process = subprocess.Popen(
            command, cwd=folder, env=set_up, stdout=self._log, stderr=self._log, start_new_session=True
        )  # fmt: skip
        post = self.post()
        while not post():
            if self._process.poll() is not None or time.perf_counter() - begun > 120:
                self.stop()
                raise RuntimeError(f"{name} does not start: {(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.01)
        self.start = time.perf_counter() - begun
        self.first = self.rival.found(post.answer)
        post.close()

    def post(self) -> Post:
        return Post(self.port, self.rival.body(self.task.picture), self.rival.path, self.rival.kind)

    def cpu(self) -> float:
        return cpu(tree(self._process.pid))

    def held(self) -> float:
        return held(tree(self._process.pid))

    def stop(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
        self._log.close()


@contextlib.contextmanager
def sampled(held_now: Callable[[], float]) -> Iterator[list[float]]:
    """Memory, looked at every half second."""
    seen, stop = [held_now()], threading.Event()

    def look() -> None:
        while not stop.wait(0.5):
            seen.append(held_now())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def compare(asked, task: Task, environments: dict[str, Environment]) -> tuple[list[Contender], float]:
    """All servers on one model, and the megabytes that the bare runtime holds."""
    with contextlib.ExitStack() as undo:
        servers, contenders = {}, {}
        for name, environment in environments.items():
            folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="farshore-bench-")))
            server = servers[name] = Running(name, environment, task, folder)
            undo.callback(server.stop)
            contenders[name] = Contender(name, environment.sizes[task.runtime], server.start)
        truth = next(iter(servers.values())).first
        for name, server in servers.items():
            if not agree(truth, server.first):
                raise RuntimeError(f"{name} finds {server.first}, others {truth}")
            run([server.post() for _ in range(WORKERS)], 0.5, server.cpu)
            contenders[name].calm = server.held()
        for count in CLIENTS:
            for _ in range(asked.rounds):
                for name, server in servers.items():
                    posts = [server.post() for _ in range(count)]
                    with sampled(server.held) as seen:
                        contenders[name].windows[count].add(run(posts, asked.seconds, server.cpu))
                    contenders[name].peak = max(contenders[name].peak, *seen)
                    for post in posts:
                        post.close()
        return list(contenders.values()), bare(environments, task)


def agree(one: list[dict], other: list[dict]) -> bool:
    """Whether the best findings lie at the same place: pipelines differ in the last pixels, class names in their words."""
    a, b = one[0]["box"], other[0]["box"]
    high, wide = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0, high) * max(0, wide)
    return both > 0.8 * ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def bare(environments: dict[str, Environment], task: Task) -> float:
    """The runtime with the rivals' pipeline and no server at all."""
    python = next(iter(environments.values())).python
    with tempfile.NamedTemporaryFile(suffix=".jpg") as picture:
        picture.write(task.picture)
        picture.flush()
        process = subprocess.Popen(
            [str(python), str(SCRIPTS / "pipeline.py"), str(task.model), picture.name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        found = held([process.pid])
        process.communicate()
    return found


def shown(task: Task, contenders: list[Contender], bare_held: float, asked) -> Table:
    table = Table(
        title=f"{task.package.name}: {WORKERS} cores, {asked.rounds} × {asked.seconds:g} s a window, {CLIENTS} clients"
    )
    table.add_column("")
    for name in ("answers/s", "p50 ms", "p99 ms", "CPU ms", "not 200", "MB", "MB at most", "start s", "installed MB"):
        table.add_column(name, justify="right")
    for one in contenders:
        windows = one.windows.values()

        def each(value: Callable[[Window], float], digits: int, windows=windows) -> str:
            return " / ".join(f"{value(window):.{digits}f}" for window in windows)

        table.add_row(
            one.name, each(lambda w: w.rate, 1), each(lambda w: w.p(0.5), 0), each(lambda w: w.p(0.99), 0),
            each(lambda w: w.cpu_ms, 1), str(sum(window.failed for window in windows)),
            f"{one.calm:.0f}", f"{one.peak:.0f}", f"{one.start:.2f}", f"{one.size:.0f}",
        )  # fmt: skip
    table.caption = f"The bare runtime with its pipeline, in one process and one thread, holds {bare_held:.0f} MB."
    return table


def front_alone(python: Path) -> str:
    """How long the front takes to import, and to answer that it lives, without a model; the best of five, and its CPU."""
    imports, lives = [], []
    for _ in range(5):
        before, begun = os.times(), time.perf_counter()
        subprocess.run([str(python), "-c", "import farshore.serve.app"], check=True)
        after = os.times()
        spent = after.children_user + after.children_system - before.children_user - before.children_system
        imports.append((time.perf_counter() - begun, spent))
        with tempfile.TemporaryDirectory() as folder:
            port = free_port()
            begun = time.perf_counter()
            command = [str(python), "-m", "farshore.cli", "serve", "--root", folder, "--port", str(port)]
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            while not _lives(port):
                time.sleep(0.002)
            lives.append((time.perf_counter() - begun, cpu([process.pid])))
            process.terminate()
            process.wait()
    return (
        f"Farshore's front: a Python that imports it ends after {min(imports)[0]:.2f} s ({min(imports)[1]:.2f} of CPU); "
        f"it answers /healthz {min(lives)[0]:.2f} s after its start ({min(lives)[1]:.2f} of CPU)."
    )


def _lives(port: int) -> bool:
    import urllib.request

    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz") as answer:
            return answer.status == 200
    except OSError:
        return False


def tasks(names: list[str], folder: Path) -> list[Task]:
    found = []
    for name in names:
        file, picture = MODELS[name]
        package = (folder if name == "tiny" else SHARED / "models") / file
        if name == "tiny":
            package.write_bytes(tiny())
        if not package.exists():
            sys.exit(f"{package} is not there: the comparison needs the models of ../shared/data")
        data, _ = read(package)
        runtime = "litert" if file.endswith(".zip") else "onnx"
        model = folder / (name + (".tflite" if runtime == "litert" else ".onnx"))
        model.write_bytes(data)
        found.append(Task(name, model, package, (SHARED / "pictures" / picture).read_bytes(), runtime))
    return found


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(RIVALS), help="servers, with commas")
    parser.add_argument("--models", default=",".join(MODELS), help=f"of {', '.join(MODELS)}")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=2)
    asked = parser.parse_args(arguments)
    console = Console(width=150)
    names = asked.only.split(",")
    environments = {}
    for name in names:
        console.print(f"[dim]installing {name} …")
        environments[name] = Environment(name)
    if "farshore" in environments:
        console.print(front_alone(environments["farshore"].python))
    with tempfile.TemporaryDirectory(prefix="farshore-bench-") as folder:
        for task in tasks(asked.models.split(","), Path(folder)):
            contenders, bare_held = compare(asked, task, environments)
            console.print(shown(task, contenders, bare_held, asked))
