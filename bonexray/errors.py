"""The errors that a user can cause, and so must be able to read.

BonexrayError
  ├── ConfigError    params.yaml or a flag holds a value that cannot be used
  ├── DataError      an archive, an index or a step's input is missing or not what it claims
  ├── ImageError     bytes that are not an image we accept
  │     └── TooManyPixelsError   an image that would unpack to more than we hold in memory
  ├── SealError      a sealed folder whose files are not those that its manifest names
  │     ├── BundleError    a bundle that is incomplete, altered or of another format
  │     └── PackError      a release pack whose figures are not those of its predictions
  ├── LineageError   a version that does not come from what it says
  ├── SignatureError a bundle that nobody whom we trust has signed
  ├── WorkerError    a worker process was killed before its work was done
  ├── GateError      the data or the model was checked and refused; a report says why
  ├── RegistryError  the model registry does not hold what was asked for
  ├── StoreError     a place of bundles that cannot be read, or holds what no bundle is
  ├── ClusterError   a Kubernetes API that cannot be reached, or refuses
  ├── BuildError     an image that cannot be built or asked
  ├── KubeflowError  a server of pipelines that cannot be used, or a run that failed
  └── RecordsError   records of decisions or answers are torn or altered, or held by another

Every message says what, which value, what was expected, and in which file or field. Anything
that is not a BonexrayError is a defect of ours and keeps its traceback.
"""


class BonexrayError(Exception):
    """Base of every error that is the input's fault, not the program's."""


class ConfigError(BonexrayError):
    """A setting that cannot be used."""


class DataError(BonexrayError):
    """Data that is missing or not what it claims to be."""


class ImageError(BonexrayError):
    """Bytes that are not an image we accept."""


class TooManyPixelsError(ImageError):
    """An image that would unpack to more pixels than we hold in memory: a decompression bomb."""


class SealError(BonexrayError):
    """A sealed folder whose files are not those that its manifest names."""


class BundleError(SealError):
    """A bundle that is incomplete, altered or of another format."""


class PackError(SealError):
    """A release pack whose figures are not those of its predictions."""


class LineageError(BonexrayError):
    """A version that does not come from what it says, or cannot be made from it again."""


class SignatureError(BonexrayError):
    """A bundle that nobody whom we trust has signed."""


class WorkerError(BonexrayError):
    """A worker process was killed before its work was done."""


class GateError(BonexrayError):
    """Data or a model that was checked and refused, after its report was written."""


class RegistryError(BonexrayError):
    """A model registry that does not hold what was asked for."""


class StoreError(BonexrayError):
    """A place of bundles that cannot be read or written, or holds what no bundle is."""


class ClusterError(BonexrayError):
    """A Kubernetes API that cannot be reached, or that refuses."""


class BuildError(BonexrayError):
    """A container image that cannot be built, or asked what it holds."""


class KubeflowError(BonexrayError):
    """A Kubeflow Pipelines server that cannot be used, or a run of the pipeline that failed."""


class RecordsError(BonexrayError):
    """Records of decisions that are torn or altered, or held by another decision."""
