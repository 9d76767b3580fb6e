"""A module as in Microsoft's guide to modules that load models: Azure's SDK, the standard library, and nothing of Farshore's.

Run with a connection string in ``EdgeHubConnectionString`` and a PEM file in ``EdgeModuleCACertificateFile``, as IoT Edge would; the argument is a
folder. https://learn.microsoft.com/azure/architecture/guide/iot/machine-learning-inference-iot-edge
"""

import base64
import hashlib
import io
import os
import pathlib
import queue
import sys
import urllib.request
import zipfile

from azure.iot.device import IoTHubModuleClient

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
changes = queue.Queue()


def load(name):
    """What inference needs: the model's bytes and its labels."""
    with zipfile.ZipFile(folder / name) as archive:
        names = archive.namelist()
        model = next(entry for entry in names if entry.endswith((".onnx", ".tflite")))
        labels = next(entry for entry in names if entry.endswith(".txt"))
        return archive.read(model), archive.read(labels).decode().split()


def take(client, desired):
    name, address, wanted = (desired.get(key) for key in ("FileName", "DownloadUrl", "ContentMD5"))
    if not (name and address and wanted) or "/" in name:
        return
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:
            data = answer.read()
        if base64.b64encode(hashlib.md5(data).digest()).decode() != wanted:
            raise ValueError("MD5 differs")
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if archive.testzip() is not None:
                raise ValueError("damaged")
        (folder / name).write_bytes(data)
        model, labels = load(name)
    except (OSError, ValueError, StopIteration, zipfile.BadZipFile) as error:
        client.patch_twin_reported_properties({"LastError": f"{name}: {error}"})
        return
    client.patch_twin_reported_properties(
        {"LatestAIModelFileName": name, "Bytes": len(model), "Labels": len(labels), "LastError": None}
    )


def main():
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    client = IoTHubModuleClient.create_from_edge_environment()
    client.on_twin_desired_properties_patch_received = changes.put
    client.connect()
    desired = client.get_twin()["desired"]
    while True:
        take(client, desired)
        change = changes.get()
        for key, value in change.items():
            if value is None:
                desired.pop(key, None)
            else:
                desired[key] = value


if __name__ == "__main__":
    main()
