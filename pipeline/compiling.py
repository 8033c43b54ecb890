"""From params.yaml to what a Kubeflow Pipelines server takes."""

import re
import tempfile
from itertools import dropwhile
from pathlib import Path
from typing import Any

import yaml
from kfp import compiler
from kfp.compiler.compiler_utils import KubernetesManifestOptions

from bonexray.artifacts import whole_file
from bonexray.config import SECTIONS, read_section
from bonexray.errors import ConfigError
from bonexray.kubeflow_config import KubeflowConfig
from pipeline.sources import Sources, find_sources
from pipeline.training import PIPELINE, build_pipeline

RELEASE = Path("release")
"""Where approved bundles lie beside params.yaml."""
_OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


def read_checked(path: Path) -> dict[str, Any]:
    """Read params.yaml, its values as the steps take them: a number that was text is a number.

    Raises:
        ConfigError: it holds a value that a step would refuse.
    """
    read = {name: read_section(str(path), section) for name, section in SECTIONS.items()}
    return {
        name: section.model_dump(mode="json", exclude_none=True) for name, section in read.items()
    }


def compile_pipeline(
    params: dict[str, Any], image: str, out: Path, sources: Sources | None = None
) -> None:
    """Compile the flow to kfp's intermediate representation, as YAML.

    Args:
        params: params.yaml as read and checked.
        image: of every step.
        out: file to write; the same bytes for the same params, archive, champion and image.
        sources: what the flow starts from; None for what a cluster fetches.

    Raises:
        ConfigError: the processes of a training do not fit its GPUs, or as `find_sources`.
    """
    _compile(params, image, out, sources)


def documents_of(package: Path) -> list[dict[str, Any]]:
    """What was compiled: the pipeline, and what it asks of Kubernetes."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where it was built
    return list(yaml.load_all(package.read_text(encoding="utf-8"), Loader=loader))


def compile_version(params: dict[str, Any], image: str, version: str, out: Path) -> None:
    """Compile the flow to the objects Pipeline and PipelineVersion, for GitOps.

    Args:
        params: params.yaml as read and checked.
        image: of every step.
        version: name of the version.
        out: file to write.

    Raises:
        ConfigError: the name is none for an object, or as `compile_pipeline`.
    """
    if not _OBJECT_NAME.fullmatch(version):
        raise ConfigError(
            f"--version {version!r}, expected small letters, digits, dots and dashes (v7)"
        )
    options = KubernetesManifestOptions(
        pipeline_name=PIPELINE,
        pipeline_version_name=version,
        pipeline_version_display_name=version,
        namespace=KubeflowConfig.model_validate(params["kubeflow"]).namespace,
        include_pipeline_manifest=True,
    )
    _compile(
        params,
        image,
        out,
        None,
        kubernetes_manifest_format=True,
        kubernetes_manifest_options=options,
    )


def _compile(
    params: dict[str, Any], image: str, out: Path, sources: Sources | None, **options: Any
) -> None:
    config = KubeflowConfig.model_validate(params["kubeflow"])
    _refuse_idle_gpus(config, params["train"]["processes"])
    store = params["release"]["cluster"]["store"]
    sources = sources or find_sources(params["data"]["archive"], RELEASE, store)
    pipeline = build_pipeline(params, config, image, sources)
    with tempfile.TemporaryDirectory() as folder, whole_file(out) as partial:
        compiled = Path(folder) / "pipeline.yaml"  # kfp chooses the format by the ending
        compiler.Compiler().compile(pipeline, str(compiled), **options)
        lines = compiled.read_text(encoding="utf-8").splitlines(keepends=True)
        # kfp's comment on top tells the inputs in another order each time.
        text = "".join(dropwhile(lambda line: line.startswith("#"), lines))
        partial.write_text(text, encoding="utf-8")


def _refuse_idle_gpus(config: KubeflowConfig, processes: int) -> None:
    wanted = config.gpus * config.nodes
    if wanted and processes != wanted:
        raise ConfigError(
            f"train.processes = {processes} on kubeflow.gpus = {config.gpus} of each of "
            f"kubeflow.nodes = {config.nodes}, expected {wanted}: one process a GPU"
        )
