"""The protocol's messages for gRPC, as the KServe SDK has them compiled, and nothing else of it.

Importing the SDK itself takes 0.8 s and 190 MB, and reads the command line of the process.
"""

from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

SERVICE = "inference.GRPCInferenceService"
_FILE = "protocol/grpc/grpc_predict_v2_pb2.py"


def _load() -> ModuleType:
    package = find_spec("kserve")
    assert package is not None
    assert package.origin is not None
    spec = spec_from_file_location(f"{__name__}_pb2", Path(package.origin).parent / _FILE)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pb = _load()
