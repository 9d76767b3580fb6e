"""What every decoder works with: the manifest's words about the model, and one request's wishes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from farshore.core.errors import Invalid
from farshore.core.manifest import Pipeline, Tensor
from farshore.serve.prepare import Placement

Outputs = Mapping[str, NDArray[Any]]
"""Output arrays by role, dequantised where the manifest gives a scale."""


@dataclass(frozen=True, slots=True)
class Want:
    """What one request asks for; None takes the model's own settings."""

    threshold: float | None = None
    top: int | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """What is known of the model.

    Attributes:
        pipeline: from the manifest.
        inputs: its inputs; ``outputs`` likewise.
        labels: names by class; empty if it has none.

    """

    pipeline: Pipeline
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    labels: tuple[str, ...] = ()

    def label(self, index: int) -> str:
        """The name of a class; its number where the list ends."""
        return self.labels[index] if 0 <= index < len(self.labels) else str(index)

    def number(self, name: str, default: float) -> float:
        """A number among the decoder's settings.

        Raises:
            Invalid: it is there but no number.

        """
        value = self.pipeline.settings.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Invalid(f"the manifest's setting {name} is {value!r}; a number is needed")
        return float(value)

    def roles(self, *names: str) -> None:
        """Check that the manifest names an output for each role.

        Raises:
            Invalid: one is missing.

        """
        missing = [name for name in names if name not in self.pipeline.outputs]
        if missing:
            raise Invalid(
                f"decoder {self.pipeline.decoder!r} needs outputs {', '.join(names)}; missing: {', '.join(missing)}"
            )


class Decoder(Protocol):
    """Reads one picture's outputs."""

    def __call__(self, outputs: Outputs, place: Placement, want: Want) -> dict[str, Any]:
        """The answer's members for this task.

        Args:
            outputs: by role.
            place: where the picture lay in the input.
            want: what the request asked for.

        Raises:
            Unavailable: the outputs are not what the manifest says.

        """
        ...
