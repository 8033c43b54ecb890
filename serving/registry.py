"""The model registry, as decisions need it. The only module of serving that knows MLflow."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bonexray.bundle import verify_bundle
from bonexray.errors import BundleError, RegistryError
from bonexray.registry import (
    BUNDLE_DIGEST_TAG,
    CHAMPION,
    FLOW_ARTIFACTS,
    PREVIOUS,
    REPORT_ARTIFACTS,
    SIGNATURE_TAG,
    in_a_line,
    tracking_uri,
)
from bonexray.store import BundleStore

# Set before MLflow is imported: it draws a bar per file, and would unpickle what it loads.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
# MLflow's own would hold up a decision for minutes when the server is gone.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

import mlflow  # noqa: E402  (after the settings above)
from mlflow import MlflowClient  # noqa: E402
from mlflow.entities import Run  # noqa: E402
from mlflow.entities.model_registry import ModelVersion  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode  # noqa: E402

_NOT_THERE = ErrorCode.Name(RESOURCE_DOES_NOT_EXIST)


class Registry:
    """One registered model of the registry that `MLFLOW_TRACKING_URI` names."""

    def __init__(self, model_name: str) -> None:
        """Connect; nothing is asked yet."""
        mlflow.set_tracking_uri(tracking_uri())
        self.model_name = model_name
        self._client = MlflowClient()

    def version(self, wanted: str) -> ModelVersion:
        """A version by its number or by an alias. Raises RegistryError."""
        with _explained(f"no version {wanted!r} of {self.model_name!r}"):
            if wanted.isdecimal():
                return self._client.get_model_version(self.model_name, wanted)
            return self._client.get_model_version_by_alias(self.model_name, wanted)

    def versions(self) -> list[ModelVersion]:
        """Every version, the newest first. Raises RegistryError."""
        with _explained(f"versions of {self.model_name!r}"):
            found = self._client.search_model_versions(f"name = '{self.model_name}'")
        return sorted(found, key=lambda version: int(version.version), reverse=True)

    def run(self, run_id: str) -> Run:
        """A run by its id. Raises RegistryError."""
        with _explained(f"no run {run_id!r}"):
            return self._client.get_run(run_id)

    def report(self, version: ModelVersion, folder: Path) -> Path:
        """Copy a version's release pack below `folder`, and return where it is.

        Raises:
            RegistryError: it cannot be had.
        """
        return self._download(version, REPORT_ARTIFACTS, folder)

    def flow(self, version: ModelVersion, folder: Path) -> Path:
        """Copy the params.yaml and dvc.lock that a version was made with. Raises RegistryError."""
        return self._download(version, FLOW_ARTIFACTS, folder)

    def _download(self, version: ModelVersion, artifacts: str, folder: Path) -> Path:
        with _explained(f"version {version.version}: its {artifacts} cannot be fetched"):
            found = self._client.download_artifacts(version.run_id or "", artifacts, str(folder))
        return Path(found)

    def bundle(self, version: ModelVersion, folder: Path) -> Path:
        """Copy a version's bundle below `folder`; trust its registered digest, not its source.

        Raises:
            RegistryError: it carries no digest, or its files cannot be had.
            BundleError: its files are not the bundle that was registered.
        """
        expected = digest_of(version)
        with _explained(f"version {version.version} cannot be fetched"):
            source = f"models:/{version.name}/{version.version}"
            bundle = Path(mlflow.artifacts.download_artifacts(source, dst_path=str(folder)))
        try:
            digest = verify_bundle(bundle)
        except BundleError as error:
            reason = str(error).replace(str(bundle), "its bundle")
            raise BundleError(f"version {version.version} in the registry: {reason}") from error
        if digest != expected:
            raise BundleError(
                f"version {version.version}: the registry's files are bundle {digest}, "
                f"registered was {expected}"
            )
        return bundle

    def fetch(self, version: ModelVersion, store: BundleStore) -> str:
        """Copy a version's bundle into the store, and return its digest. Raises as `bundle`."""
        with tempfile.TemporaryDirectory() as scratch:
            return store.add(self.bundle(version, Path(scratch)))

    def refuse_reader(self, version: ModelVersion) -> None:
        """Write what is there already: who may not, may not move aliases either.

        Raises:
            RegistryError: the registry cannot be reached, or refuses.
        """
        with _explained(f"version {version.version} is not yours to approve"):
            self._client.set_model_version_tag(
                version.name, version.version, BUNDLE_DIGEST_TAG, digest_of(version)
            )

    def point(self, champion: str, previous: str, signature: str) -> bool:
        """Let the aliases name these versions, and keep the signature beside the champion.

        Args:
            champion: version.
            previous: version, or empty.
            signature: of the champion's bundle.

        Returns:
            Whether anything was not so already.

        Raises:
            RegistryError: the registry cannot be reached, or refuses.
        """
        moved = False
        with _explained("aliases not moved"):
            tags = self._client.get_model_version(self.model_name, champion).tags
            if tags.get(SIGNATURE_TAG) != signature:
                self._client.set_model_version_tag(
                    self.model_name, champion, SIGNATURE_TAG, signature
                )
                moved = True
            aliases = self._client.get_registered_model(self.model_name).aliases
            for alias, version in ((PREVIOUS, previous), (CHAMPION, champion)):
                if version and str(aliases.get(alias, "")) != version:
                    moved = self._name(alias, version) or moved
        return moved

    def _name(self, alias: str, version: str) -> bool:
        try:
            self._client.set_registered_model_alias(self.model_name, alias, version)
        except MlflowException as error:
            # Deleted since: that the one before is gone does not hold up its successor.
            if alias != PREVIOUS or error.error_code != _NOT_THERE:
                raise
            return False
        return True


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn what MLflow or the system says into a line that begins with the registry's address."""
    try:
        yield
    except (MlflowException, OSError) as error:
        raise RegistryError(f"{tracking_uri()}: {what}: {in_a_line(error)}") from error


def digest_of(version: ModelVersion) -> str:
    """The digest of a version's bundle as it was registered. Raises RegistryError."""
    digest = version.tags.get(BUNDLE_DIGEST_TAG)
    if digest is None:
        raise RegistryError(f"version {version.version} carries no tag {BUNDLE_DIGEST_TAG}")
    return str(digest)
