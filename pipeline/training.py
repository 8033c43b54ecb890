"""The flow as a Kubeflow pipeline, to be read aloud.

1. Simulate an archive.        5. Train each network, side by side.
2. Ingest it.                  6. Evaluate them, write the chosen one's bundle.
3. Validate it.                7. Register the bundle as the candidate.
4. Resolve the augmentation.
"""

from collections.abc import Callable
from typing import Any

from kfp import dsl

from pipeline import steps


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
        def shown(task: dsl.PipelineTask, name: str) -> dsl.PipelineTask:
            return task.set_display_name(name).set_container_image(image)

        simulated = shown(steps.simulate(params=simulate), "Simulate an archive")
        ingested = shown(steps.ingest(params=ingest, archive=simulated.outputs["out"]), "Ingest it")
        dataset = ingested.outputs["out"]
        checked = shown(steps.validate(params=validate, dataset=dataset), "Validate it")
        validated = checked.outputs["out"]
        policy = shown(
            steps.augment(params=augment, dataset=dataset, validated=validated),
            "Resolve the augmentation",
        )
        with dsl.ParallelFor(archs, name="each-network") as arch:
            trained = shown(
                steps.train(
                    params=train,
                    arch=arch,
                    dataset=dataset,
                    validated=validated,
                    policy=policy.outputs["out"],
                ),
                "Train a network",
            )
        evaluated = shown(
            steps.evaluate(
                params=evaluate,
                archs=archs,
                commit=commit,
                dataset=dataset,
                validated=validated,
                models=dsl.Collected(trained.outputs["out"]),
            ),
            "Evaluate",
        )
        shown(
            steps.register(
                params=register,
                bundle=evaluated.outputs["out"],
                report=evaluated.outputs["report"],
            ),
            "Register the candidate",
        )

    return bonexray  # type: ignore[no-any-return]  # kfp's decorator
