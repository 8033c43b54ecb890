"""The steps as Kubeflow components: each calls the step's own `main` with the flags of dvc.yaml.

The image holds kfp and the project, so nothing is installed when a task starts. Imports stand
inside the components: Kubeflow runs a component's body alone, in another process.
"""

from typing import Any, List  # noqa: UP035  (kfp knows a list of artifacts as List alone)

from kfp import dsl
from kfp.dsl import HTML, Artifact, ClassificationMetrics, Dataset, Input, Metrics, Model, Output

IMAGE = "bonexray-components"
"""Named in every component; compilation puts the image that was asked for in its place."""

step = dsl.component(base_image=IMAGE, install_kfp_package=False)


@step
def simulate(params: dict[str, Any], out: Output[Dataset]) -> None:
    import json

    from components.simulate import main

    main(["--params", json.dumps(params), "--out", out.path])


@step
def ingest(params: dict[str, Any], archive: Input[Dataset], out: Output[Dataset]) -> None:
    import json

    from components.ingest import main

    main(["--params", json.dumps(params), "--archive", archive.path, "--out", out.path])


@step
def validate(
    params: dict[str, Any], dataset: Input[Dataset], out: Output[Dataset], report: Output[Artifact]
) -> None:
    import json

    from components.validate import main

    main(
        ["--params", json.dumps(params), "--dataset", dataset.path]
        + ["--splits", "data/splits.csv", "--reference", "release/profile.json"]
        + ["--out", out.path, "--report", report.path]
    )


@step
def augment(
    params: dict[str, Any],
    dataset: Input[Dataset],
    validated: Input[Dataset],
    out: Output[Artifact],
) -> None:
    import json

    from components.augment import main

    main(
        ["--params", json.dumps(params), "--dataset", dataset.path]
        + ["--validated", validated.path, "--out", out.path]
    )


@step
def train(
    params: dict[str, Any],
    arch: str,
    dataset: Input[Dataset],
    validated: Input[Dataset],
    policy: Input[Artifact],
    out: Output[Model],
) -> None:
    import json

    from components.train import main

    main(
        ["--params", json.dumps(params), "--arch", arch, "--dataset", dataset.path]
        + ["--validated", validated.path, "--policy", policy.path, "--out", out.path]
    )


@step
def evaluate(
    params: dict[str, Any],
    archs: list[str],
    commit: str,
    dataset: Input[Dataset],
    validated: Input[Dataset],
    models: Input[List[Model]],  # noqa: UP006
    out: Output[Model],
    report: Output[Artifact],
    page: Output[HTML],
    figures: Output[Metrics],
    confusion: Output[ClassificationMetrics],
) -> None:
    import json

    from components.evaluate import main
    from pipeline.shown import show_evaluation

    try:
        main(
            ["--params", json.dumps(params), "--dataset", dataset.path]
            + ["--validated", validated.path, "--models", *[model.path for model in models]]
            + ["--archs", *archs, "--crossval", "reports/crossval", "--release", "release"]
            + ["--commit", commit, "--out", out.path, "--report", report.path]
        )
    finally:  # a model that the gate refuses has a report too
        show_evaluation(report.path, page, figures, confusion)


@step
def register(
    params: dict[str, Any], bundle: Input[Model], report: Input[Artifact], out: Output[Artifact]
) -> None:
    import json

    from components.register import main

    main(
        ["--params", json.dumps(params), "--bundle", bundle.path]
        + ["--report", report.path, "--out", out.path]
    )
