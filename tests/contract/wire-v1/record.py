"""Writes ``conversation.json`` anew: what a device and a hub say to each other from enrolment to an update.

``python tests/contract/wire-v1/record.py`` from the repository's root. Only before a release: once devices speak a wire, its recording stays
as it is, and a wire that cannot read it gets a folder and a version of its own.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[2]))

from tests.sim.devices import enrol_body  # noqa: E402
from tests.sim.http_face import HttpFace  # noqa: E402
from tests.sim.releases import noise, release  # noqa: E402
from tests.sim.world import DEVICE, World  # noqa: E402

from farshore.agent.http_link import HttpLink  # noqa: E402
from farshore.core.wire import EnrolRequest  # noqa: E402


def recorded(face: HttpFace) -> list[dict[str, Any]]:
    """Every exchange of JSON from now on, in a list that grows."""
    found: list[dict[str, Any]] = []
    handle = face._handle

    def listening(path: str, headers: dict[str, str], body: bytes) -> Any:
        answer = handle(path, headers, body)
        if body:
            found.append(
                {"path": path, "request": json.loads(body), "status": answer[0], "reply": json.loads(answer[2])}
            )
        return answer

    face._handle = listening
    return found


def live(root: Path) -> list[dict[str, Any]]:
    """Enrol, install, update, report."""
    import msgspec

    world = World(root)
    with HttpFace(world.hub) as face:
        found = recorded(face)
        stranger = HttpLink(face.url, None)
        stranger.enrol(msgspec.convert(enrol_body("another", "token-token-token-token"), EnrolRequest))
        stranger.close()
        world.link = HttpLink(face.url, world.link.credential)
        world.start_agent()
        for number in (1, 2):
            world.hub.desire(DEVICE, world.hub.publish(release(version=number, weights=noise(5000, str(number)))))
            world.settle()
        world.link.close()
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        said = live(Path(folder))
    (HERE / "conversation.json").write_text(json.dumps(said, indent=1, sort_keys=True) + "\n")
