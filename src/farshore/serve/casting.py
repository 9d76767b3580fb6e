"""Who runs as shadow: the agent's order, carried out beside what answers and never in its place."""

from __future__ import annotations

from farshore.core.digest import Digest
from farshore.core.errors import Conflict, Unavailable
from farshore.serve.lane import Lane
from farshore.serve.model import Model
from farshore.serve.pool import Pool
from farshore.serve.shadow import Shadow


async def cast(pool: Pool, model: Model, digest: Digest, share: float) -> None:
    """Let a candidate answer a share of the requests unseen, from now on.

    Args:
        pool: that the model lives in.
        model: whose candidate.
        digest: of the candidate's manifest.
        share: 0 to 1; with 0 it answers none any more, and stays warm.

    Raises:
        NotFound: it is not installed.
        Conflict: nothing answers that it could be compared with, or memory is too small for both.
        FarshoreError: it cannot live.

    """
    async with model.orders:
        lane, leader, shadow = model.lane(digest), model.leader, model.shadow
        if not share:
            model.shadow = None if shadow is None or shadow.lane is lane else shadow
            return
        if leader is None or leader is lane:
            raise Conflict(f"{model.name}: no other version answers that it could be compared with")
        for other in model.lanes.values():
            if other.role == "candidate" and other is not lane:
                other.role = "none"
        lane.role = "candidate"
        if lane.state != "ready":
            await _bring_beside(pool, model, lane, leader)
        if shadow is None or shadow.lane is not lane:
            shadow = model.shadow = Shadow(lane, pool.settings.hang_seconds)
        shadow.share = share


async def _bring_beside(pool: Pool, model: Model, lane: Lane, leader: Lane) -> None:
    """Load a candidate that does not stand warm any more."""
    if lane.need + leader.need > pool.budget(model):
        lane.probed = True
        raise Conflict(f"{model.name}: not enough memory for two versions at once")
    lane.forgive()
    lane.probed = False
    try:
        model.advance()
        await lane.settled()
    finally:
        lane.probed = True
        model.advance()
    if lane.state != "ready":
        raise lane.fault or Unavailable("the worker was ended")
