"""The flow as a Kubeflow pipeline, to be read aloud.

1. Simulate an archive.        5. Train each network, side by side.
2. Ingest it.                  6. Evaluate them, write the chosen one's bundle.
3. Validate it.                7. Register the bundle as the candidate.
4. Resolve the augmentation.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from kfp import dsl
from kfp.dsl import PipelineTask

from pipeline import steps


class Prepared(NamedTuple):
    """The outputs that training starts from."""

    dataset: Any
    validated: Any
    policy: Any


def build_pipeline(params: dict[str, Any], image: str) -> Callable[..., Any]:
    """The pipeline whose inputs default to the sections of params.yaml.

    Args:
        params: params.yaml as read.
        image: the image that every step runs in, best by digest.

    Returns:
        What kfp compiles or runs. Its input `commit` has no default: whoever submits a run says
        which code the image holds.
    """

    @dsl.pipeline(name="bonexray", description="Archive to registered candidate")
    def bonexray(
        commit: str,
        simulate: dict[str, Any] = params["simulate"],
        ingest: dict[str, Any] = params["ingest"],
        validate: dict[str, Any] = params["validate"],
        augment: dict[str, Any] = params["augment"],
        archs: list[str] = params["networks"]["archs"],
        train: dict[str, Any] = params["train"],
        evaluate: dict[str, Any] = params["evaluate"],
        register: dict[str, Any] = params["register"],
    ) -> None:
        prepared = prepare(image, simulate, ingest, validate, augment)
        learn(image, prepared, commit, archs, train, evaluate, register)

    return bonexray  # type: ignore[no-any-return]  # kfp's decorator


def prepare(image: str, simulate: Any, ingest: Any, validate: Any, augment: Any) -> Prepared:
    """Steps 1 to 4. Settings are pipeline inputs."""
    simulated = steps.simulate(params=simulate)
    ingested = steps.ingest(params=ingest, archive=simulated.outputs["out"])
    dataset = ingested.outputs["out"]
    checked = steps.validate(params=validate, dataset=dataset)
    validated = checked.outputs["out"]
    resolved = steps.augment(params=augment, dataset=dataset, validated=validated)
    show(simulated, "Simulate an archive", image)
    show(ingested, "Ingest it", image)
    show(checked, "Validate it", image)
    show(resolved, "Resolve the augmentation", image)
    return Prepared(dataset, validated, resolved.outputs["out"])


def learn(
    image: str,
    prepared: Prepared,
    commit: Any,
    archs: Any,
    train: Any,
    evaluate: Any,
    register: Any,
) -> None:
    """Steps 5 to 7. Settings are pipeline inputs."""
    with dsl.ParallelFor(archs, name="each-network") as arch:
        trained = steps.train(params=train, arch=arch, **prepared._asdict())
    evaluated = steps.evaluate(
        params=evaluate,
        archs=archs,
        commit=commit,
        dataset=prepared.dataset,
        validated=prepared.validated,
        models=dsl.Collected(trained.outputs["out"]),
    )
    registered = steps.register(
        params=register, bundle=evaluated.outputs["out"], report=evaluated.outputs["report"]
    )
    show(trained, "Train a network", image)
    show(evaluated, "Evaluate", image)
    show(registered, "Register the candidate", image)


def show(task: PipelineTask, name: str, image: str) -> None:
    """Give a task the name that the Kubeflow UI shows, and its image."""
    task.set_display_name(name).set_container_image(image)
