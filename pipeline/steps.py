"""The steps as Kubeflow components: each calls the step's own `main` with the flags of dvc.yaml.

The image holds kfp and the project, so nothing is installed when a task starts. Imports stand
inside the components: Kubeflow runs a component's body alone, in another process.

Kubeflow's cache looks at inputs and not at what lies behind them. So each step takes the `commit`
of its code and the hash of the `data`, whether it reads them or not.
"""

from typing import Any, List, Optional  # noqa: UP035  (kfp knows lists and options as these alone)

from kfp import dsl
from kfp.dsl import HTML, Artifact, ClassificationMetrics, Dataset, Input, Metrics, Model, Output

IMAGE = "bonexray-components"
"""Named in every component; compilation puts the image that was asked for in its place."""

step = dsl.component(base_image=IMAGE, install_kfp_package=False)


@step
def simulate(params: dict[str, Any], commit: str, out: Output[Dataset]) -> None:
    import json

    from components.simulate import main

    main(["--params", json.dumps(params), "--out", out.path])


@step
def ingest(
    params: dict[str, Any], commit: str, data: str, archive: Input[Dataset], out: Output[Dataset]
) -> None:
    import json

    from components.ingest import main

    main(["--params", json.dumps(params), "--archive", archive.path, "--out", out.path])


@step
def validate(
    params: dict[str, Any],
    commit: str,
    data: str,
    champion: dict[str, Any],
    dataset: Input[Dataset],
    out: Output[Dataset],
    report: Output[Artifact],
    page: Output[HTML],
    bundle: Optional[Input[Model]] = None,  # noqa: UP045
) -> str:
    import json

    from components.validate import main
    from pipeline.inside import refusal_of, release_folder
    from pipeline.shown import show_validation

    release = release_folder(champion, bundle and bundle.path)
    refusal = refusal_of(
        main,
        ["--params", json.dumps(params), "--dataset", dataset.path]
        + ["--splits", "data/splits.csv", "--reference", f"{release}/profile.json"]
        + ["--out", out.path, "--report", report.path],
    )
    show_validation(report.path, page)
    return refusal


@step
def augment(
    params: dict[str, Any],
    commit: str,
    data: str,
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
    commit: str,
    data: str,
    gpu_type: str,
    gpus: str,
    dataset: Input[Dataset],
    validated: Input[Dataset],
    policy: Input[Artifact],
    out: Output[Model],
) -> None:
    import json

    from components.train import main
    from pipeline.inside import on_the_volume

    with on_the_volume(arch, out.path) as place:
        main(
            ["--params", json.dumps(params), "--arch", arch, "--dataset", dataset.path]
            + ["--validated", validated.path, "--policy", policy.path, "--out", place]
        )


@step
def train_on_nodes(
    params: dict[str, Any],
    arch: str,
    commit: str,
    data: str,
    cluster: dict[str, Any],
    gpu_type: str,
    gpus: str,
    node_selector: dict[str, Any],
    tolerations: list[Any],
    dataset: Input[Dataset],
    validated: Input[Dataset],
    policy: Input[Artifact],
    out: Output[Model],
) -> None:
    from pipeline.nodes import train_on_nodes

    place = {"gpu_type": gpu_type, "gpus": gpus}
    labels = {"node_selector": node_selector, "tolerations": tolerations}
    inputs = {"dataset": dataset.path, "validated": validated.path, "policy": policy.path}
    train_on_nodes(params, arch, cluster | place | labels, inputs, out.path)


@step
def evaluate(
    params: dict[str, Any],
    archs: list[str],
    commit: str,
    data: str,
    champion: dict[str, Any],
    dataset: Input[Dataset],
    validated: Input[Dataset],
    models: Input[List[Model]],  # noqa: UP006
    out: Output[Model],
    report: Output[Artifact],
    page: Output[HTML],
    figures: Output[Metrics],
    confusion: Output[ClassificationMetrics],
    bundle: Optional[Input[Model]] = None,  # noqa: UP045
) -> str:
    import json

    from components.evaluate import main
    from pipeline.inside import refusal_of, release_folder
    from pipeline.shown import show_evaluation

    release = release_folder(champion, bundle and bundle.path)
    refusal = refusal_of(
        main,
        ["--params", json.dumps(params), "--dataset", dataset.path]
        + ["--validated", validated.path, "--models", *[model.path for model in models]]
        + ["--archs", *archs, "--crossval", "reports/crossval", "--release", release]
        + ["--commit", commit, "--out", out.path, "--report", report.path],
    )
    show_evaluation(report.path, page, figures, confusion)
    return refusal


@step
def register(
    params: dict[str, Any],
    commit: str,
    data: str,
    bundle: Input[Model],
    report: Input[Artifact],
    out: Output[Artifact],
) -> None:
    import json

    from components.register import main

    main(
        ["--params", json.dumps(params), "--bundle", bundle.path]
        + ["--report", report.path, "--out", out.path]
    )
