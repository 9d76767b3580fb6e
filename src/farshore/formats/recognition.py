"""What a model is for and how to feed and read it: decided here, once, so that a device never guesses.

A pure decision over what the file says (:mod:`farshore.formats.info`), the label files beside it, and what the operator says
in ``farshore.toml``. Every decision has a reason; what cannot be told is a question that names the option that answers it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from farshore.core.errors import Invalid
from farshore.core.manifest import Labels, PictureInput, Pipeline, Task
from farshore.formats import labels as label_files
from farshore.formats.families import BY_DECODER, first_match
from farshore.formats.family import Facts, Family, Match, Question, Reason, Source
from farshore.formats.info import ModelInfo
from farshore.formats.labels import Found, LabelList
from farshore.formats.overrides import FILE, Overrides, given
from farshore.formats.preparation import picture_of, prepare

_TASKS: dict[str, str] = {
    "detect": "detect", "detection": "detect", "object-detection": "detect", "classify": "classify",
    "classification": "classify", "segment": "segment", "segmentation": "segmentation", "pose": "pose",
    "keypoints": "pose",
}  # fmt: skip
"""How metadata names tasks (Ultralytics' ``task``; our own names), and what rows look for."""

_ALWAYS = frozenset({"threshold", "iou", "top"})
_NAMED_TASKS = frozenset({"detection", "classification", "segmentation"})


@dataclass(frozen=True, slots=True)
class Recognition:
    """What was recognised, and why.

    Attributes:
        task: the question the model answers.
        decoder: reads its outputs; docs/formats/recognition.md.
        input: how a picture is fed; None for models that take tensors, or while a question is open.
        outputs: role → output tensor's name.
        labels: class names; None if there are none.
        settings: of the decoder.
        reasons: one for each decision.
        questions: what the file does not tell.

    """

    task: Task
    decoder: str
    input: PictureInput | None
    outputs: dict[str, str]
    labels: LabelList | None
    settings: dict[str, Any]
    reasons: tuple[Reason, ...]
    questions: tuple[Question, ...]

    def pipeline(self) -> Pipeline:
        """As the manifest says it.

        Raises:
            Invalid: a question is open that must be answered; the message names the options.

        """
        open_questions = [question for question in self.questions if question.blocking]
        if open_questions:
            asked = "; ".join(f"{question.option}: {question.text}" for question in open_questions)
            raise Invalid(f"recognised as {self.decoder}, but {FILE} beside the model (or --set K=V) must say: {asked}")
        return Pipeline(
            task=self.task,
            decoder=self.decoder,
            input=self.input,
            outputs=self.outputs,
            labels=None if self.labels is None else Labels(self.labels.path, self.labels.skip),
            settings=self.settings,
        )


def recognise(
    info: ModelInfo, files: Mapping[str, bytes] | None = None, overrides: Overrides | None = None
) -> Recognition:
    """Decide what a model is for.

    Args:
        info: what its file says.
        files: text files beside it (``.txt``, ``.names``), by name: candidates for labels.
        overrides: what the operator says; wins.

    Raises:
        Invalid: ``overrides`` contradict the file, or a label file cannot be read.

    """
    said = overrides or Overrides()
    reasons: list[Reason] = []
    questions: list[Question] = []
    found, several = label_files.find(info, files or {}, said.labels.file)
    picture, why = picture_of(info, said.input)
    others = tuple(tensor for tensor in info.inputs if picture is None or tensor.name != picture.tensor.name)
    facts = Facts(info, picture, others, _count(found), _TASKS.get(info.metadata.get("task", "").strip().lower(), ""))
    family, match, source = _choose(facts, said)
    reasons.append(Reason("decoder", family.decoder, match.why, source))
    outputs = _outputs(info, family, match, said)
    questions += _open(match, said)
    prepared = None
    if picture is not None and family.task != "tensors":
        reasons.append(Reason("input.tensor", picture.tensor.name, why, "file"))
        prepared, asked = prepare(facts, match.picture or family.picture, said.input, reasons.append)
        questions += asked
    elif family.task != "tensors":
        questions.append(Question("input.tensor", f"no input takes a picture ({why}): name it"))
    labels = None
    if family.task in _NAMED_TASKS or said.labels.file is not None or match.names:
        labels = _labels(
            family, match, found,
            several=several, said=said, files=files or {}, reasons=reasons, questions=questions,
        )  # fmt: skip
    return Recognition(
        task=said.task or family.task,
        decoder=family.decoder,
        input=prepared,
        outputs=outputs,
        labels=labels,
        settings=_settings(family, match, said),
        reasons=tuple(reasons),
        questions=tuple(questions),
    )


def _count(found: Found | None) -> int | None:
    """Number of class names, without a first line for the background."""
    return None if found is None else len(found.names) - label_files.background(found.names[0])


def _choose(facts: Facts, said: Overrides) -> tuple[Family, Match, Source]:
    if said.decoder is None:
        family, match = first_match(facts, said.task)
        if said.task is not None and family.task != said.task:
            raise Invalid(
                f"{FILE}: task is {said.task}, but no decoder of that task reads such outputs; name it with decoder = "
                f"{' | '.join(sorted(row.decoder for row in BY_DECODER.values() if row.task == said.task))}"
            )
        return family, match, "family"
    if said.decoder not in BY_DECODER:
        raise Invalid(f"{FILE}: unknown decoder {said.decoder[:64]!r}; known: {', '.join(sorted(BY_DECODER))}")
    family = BY_DECODER[said.decoder]
    if said.task not in {None, family.task}:
        raise Invalid(f"{FILE}: decoder {family.decoder} answers {family.task}, not {said.task}: leave task out")
    return family, family.match(facts) or Match({}, f"{FILE} says so"), "override"


def _outputs(info: ModelInfo, family: Family, match: Match, said: Overrides) -> dict[str, str]:
    names = [tensor.name for tensor in info.outputs]
    found = {**match.outputs, **said.outputs}
    if not found and len(family.roles) == len(names) == 1 and not family.roles[0].endswith("*"):
        found = {family.roles[0]: names[0]}
    for role, name in found.items():
        if name not in names:
            raise Invalid(
                f"{FILE}: outputs.{role} is {name!r}, which is not an output of the model: {', '.join(names)}"
            )
        if not any(role == known or (known.endswith("*") and role.startswith(known[:-1])) for known in family.roles):
            if family.task == "tensors":
                continue
            raise Invalid(
                f"{FILE}: decoder {family.decoder} reads no output {role!r}; it reads {', '.join(family.roles)}"
            )
    missing = [
        role for role in family.roles if not any(name == role or name.startswith(role.rstrip("*")) for name in found)
    ]
    if missing:
        raise Invalid(
            f"{FILE}: decoder {family.decoder} needs outputs that the model's do not tell: give [outputs] "
            + ", ".join(f"{role} = …" for role in missing)
        )
    return found


def _open(match: Match, said: Overrides) -> list[Question]:
    """The decoder's questions that the operator has not answered."""
    answered = {f"decode.{name}" for name in given(said.decode)}
    return [question for question in match.questions if question.option not in answered]


def _settings(family: Family, match: Match, said: Overrides) -> dict[str, Any]:
    options = given(said.decode)
    asked = {question.option.removeprefix("decode.") for question in match.questions}
    known = _ALWAYS | set(family.defaults) | set(family.options) | set(match.settings) | asked
    for name in options:
        if name not in known and match.outputs:
            raise Invalid(
                f"{FILE}: decoder {family.decoder} has no setting decode.{name}; it has {', '.join(sorted(known))}"
            )
    return {**family.defaults, **match.settings, **options}


def _labels(
    family: Family,
    match: Match,
    found: Found | None,
    *,
    several: list[str],
    said: Overrides,
    files: Mapping[str, bytes],
    reasons: list[Reason],
    questions: list[Question],
) -> LabelList | None:
    if several:
        questions.append(
            Question("labels.file", f"several files may hold the class names: {', '.join(several)}; name one")
        )
        return None
    if found is None and match.names:
        found = Found(match.names, "", "known of the model family", plain=False)
    if found is None:
        text = "no class names came with the model: it will answer class numbers; put labels.txt beside it"
        questions.append(Question("labels.file", text, blocking=False))
        return None
    names, skip, plain = found.names, said.labels.skip, found.plain
    if skip is not None:
        reasons.append(Reason("labels.skip", str(skip), f"{FILE} says so", "override"))
    else:
        aligned = _align(family, match, names)
        if isinstance(aligned, Question):
            questions.append(aligned)
            return None
        names, skip, why, source = aligned
        plain = plain and names is found.names
        reasons.append(Reason("labels.skip", str(skip), why, source))
    reasons.append(Reason("labels.file", found.path or "labels.txt", f"{len(names)} names {found.origin}", "file"))
    if plain:
        return LabelList(found.path, names, skip)
    path = next(name for name in ("labels.txt", *(f"labels-{n}.txt" for n in range(1, 1000))) if name not in files)
    return LabelList(path, names, skip, label_files.as_file(names))


_WITH_BACKGROUND = frozenset({"classification", "deeplab", "scores-boxes", "tf-detection"})
"""Decoders whose models may count the background as class 0."""


def _align(family: Family, match: Match, names: tuple[str, ...]) -> tuple[tuple[str, ...], int, str, Source] | Question:
    """Which line is class 0: names, skip, why, and how sure that is; or what to ask."""
    classes, count, first = match.classes, len(names), names[0]
    silent = label_files.background(first)
    if family.decoder == "tf-detection":
        if silent:
            return names, 0, f"classes count from 1, and the first line ({first}) stands for 0", "family"
        return (label_files.GAP, *names), 0, "classes count from 1: a line for 0 was put first", "family"
    if classes is None:
        if silent and family.decoder == "tflite-ssd":
            return names, 1, f"the first line ({first}) is the background, which this decoder does not count", "family"
        return (
            names,
            0,
            "the file does not tell how many classes there are: the first line is taken as class 0",
            "assumed",
        )
    if count == classes:
        return names, 0, f"{count} lines for {classes} classes", "file"
    if count == classes + 1 and silent:
        return names, 1, f"{count} lines for {classes} classes, and the first ({first}) is the background", "file"
    if count == classes - 1 and not silent and family.decoder in _WITH_BACKGROUND:
        why = f"{count} lines for {classes} classes: the background was put first"
        return ("background", *names), 0, why, "family" if match.background else "assumed"
    return Question(
        "labels.skip",
        f"{count} names for {classes} classes: give a list with a line for every class number (??? for gaps in the "
        "numbering), or labels.skip = how many lines come before class 0",
    )
