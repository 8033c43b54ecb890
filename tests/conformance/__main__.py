"""`python -m tests.conformance --url http://... --grpc host:port`: judge any server."""

import argparse
import json
from pathlib import Path

from tests.conformance.case import IDENTITY_MODELS, ModelUnderTest
from tests.conformance.suite import score
from tests.conformance.tensors import DATATYPES


def read_models(text: str) -> tuple[ModelUnderTest, ...]:
    """Parse `name:FP32,pair:FP32+BYTES`.

    Raises:
        ValueError: a model without datatypes, or a datatype that the protocol has not.
    """
    models = []
    for part in text.split(","):
        name, _, types = part.partition(":")
        datatypes = tuple(types.split("+"))
        if not name or not set(datatypes) <= set(DATATYPES):
            raise ValueError(f"{part}: expected name:datatype of {', '.join(DATATYPES)}")
        models.append(ModelUnderTest(name=name, datatypes=datatypes))
    return tuple(models)


def main(argv: list[str] | None = None) -> int:
    """Print the table; 0 when every case held, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--url", required=True, help="base of the REST routes, without /v2")
    parser.add_argument("--grpc", default="", help="host:port; left out: no gRPC")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--models",
        type=read_models,
        default=IDENTITY_MODELS,
        help="identity models, name:datatype or name:datatype+datatype, with commas between",
    )
    which.add_argument("--model", default="", help="any model, on a server without identity models")
    parser.add_argument("--schema", type=Path, help="the protocol's open_inference_rest.yaml")
    parser.add_argument("--json", type=Path, help="write every case to this file")
    args = parser.parse_args(argv)
    models = None if args.model else args.models
    result = score(args.url, args.grpc, models=models, model=args.model, schema=args.schema)
    print(result.table())
    if args.json:
        args.json.write_text(json.dumps(result.as_json(), indent=1) + "\n")
    return 0 if result.passed == result.total else 1


if __name__ == "__main__":
    raise SystemExit(main())
