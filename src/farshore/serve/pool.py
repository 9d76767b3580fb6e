"""All models of this server, and the memory that they share.

Each model decides for itself (:mod:`farshore.serve.model`); the pool says how much memory it may take, and which others sleep
until they are asked for again, those first that were asked longest ago.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic

from farshore.core.errors import NotFound, Unavailable
from farshore.serve import memory, policy
from farshore.serve.lane import Lane
from farshore.serve.model import Model
from farshore.serve.settings import Settings
from farshore.store.slots import Slots


class Pool:
    """Every model on this device.

    Args:
        settings: the server's.

    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.slots = Slots(settings.root)
        self.models: dict[str, Model] = {}
        self._short: set[Model] = set()  # those that wait until others have made room

    def begin(self) -> None:
        """Load every model's current version; needs a running event loop."""
        for name in self.slots.models():
            current, previous = self.slots.current(name), self.slots.previous(name)
            if current is not None or previous is not None:
                self.model(name).begin(current, previous)

    def model(self, name: str) -> Model:
        """A model, made if there is none."""
        if name not in self.models:
            self.models[name] = Model(name, self)
        return self.models[name]

    def choose(self, name: str | None) -> Model:
        """The model that a request means.

        Raises:
            NotFound: there is none of that name, or several and none was named.
            Unavailable: there is none at all yet.

        """
        serving = {key: model for key, model in self.models.items() if model.wanted}
        if name is not None:
            if name not in serving:
                raise NotFound(
                    f"no model {name[:80]!r} answers here; there is {', '.join(sorted(serving)) or 'none yet'}"
                )
            return serving[name]
        if not serving:
            raise Unavailable("no model is installed here yet")
        if len(serving) > 1:
            raise NotFound(f"several models answer here: say ?model= one of {', '.join(sorted(serving))}")
        return next(iter(serving.values()))

    def budget(self, model: Model) -> int:
        """Bytes that a model's workers may hold together, if all others that can make room do."""
        stay = sum(
            other.resident().held for other in self.models.values() if other is not model and other.resident().stays
        )
        own = model.resident().held
        if self.settings.memory:
            return self.settings.memory - stay
        yielding = sum(each.held for each in self._others(model) if not each.stays)
        return self._free() + yielding + own

    def make_room(self, model: Model, need: int) -> bool:
        """Whether that many bytes more may be taken now; if not, those models are sent to sleep that have to make room.

        A model that nobody asked for yet takes only what is free, and else sleeps itself.
        """
        others = self._others(model)
        short = need - self._free()
        if short <= 0 or not any(other.held for other in others):
            return True  # also where it is too much: there is nobody else to take it from
        if not model.asked:
            model.asleep = True
            return False
        self._short.add(model)
        if any(
            other.shadow.fade() for other in self.models.values() if other is not model and other.shadow is not None
        ):
            return False
        for name in policy.give_way(others, short):
            self.models[name].sleep()
        return False

    def freed(self, by: Model) -> None:
        """A worker of a model is gone: those that waited for room look again."""
        waiting, self._short = self._short - {by}, set()
        for model in waiting:
            model.advance()

    def _others(self, model: Model) -> tuple[policy.Resident, ...]:
        return tuple(other.resident() for other in self.models.values() if other is not model)

    def _free(self) -> int:
        """Bytes that nobody holds or is about to take."""
        if self.settings.memory:
            return self.settings.memory - sum(lane.need for lane in self._lanes() if lane.state != "absent")
        # What is loading now is about to be taken, though it still looks free.
        coming = sum(lane.need for lane in self._lanes() if lane.state == "loading")
        return memory.available() - memory.RESERVE - coming

    def look(self) -> None:
        """What only time tells; to be called a few times a second."""
        now = monotonic()
        for model in list(self.models.values()):
            model.look(now)

    def pardon(self, seconds: float) -> None:
        """As :meth:`farshore.serve.lane.Lane.pardon`."""
        for model in self.models.values():
            model.pardon(seconds)

    async def end(self) -> None:
        """End all workers, and wait until they are gone."""
        for lane in list(self._lanes()):
            lane.role, lane.leads = "none", False
            lane.end()
        for lane in list(self._lanes()):
            while lane.worker is not None:
                await lane.changed()

    @property
    def outstanding(self) -> int:
        """Requests that are not answered yet."""
        return sum(model.outstanding for model in self.models.values())

    def _lanes(self) -> Iterator[Lane]:
        for model in self.models.values():
            yield from model.lanes.values()
