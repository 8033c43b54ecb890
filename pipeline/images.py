"""`python -m pipeline.images`, or `make images`: build both images and list what they hold.

Each is tagged with the commit of its code; the commit and the digest of its lock file are labels.
What a network needs to reach a base image and packages is named here and stays out of the images.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.utils import canonicalize_name

from bonexray.artifacts import whole_file
from bonexray.command import run_or_exit
from bonexray.errors import BuildError
from pipeline.versions import code_commit, is_changed

IMAGES = {"bonexray-components": "components", "bonexray-serving": "serving"}
"""Name -> the folder of its Dockerfile and its lock file."""
BASE = "python:3.11-slim-bookworm"
BILLS = Path("images")
_CONTEXT_CA = Path(".build/ca.crt")
_LIST = r"""
import json, subprocess
from importlib.metadata import distributions
query = ["dpkg-query", "--show", "--showformat=${Package} ${Version}\n"]
told = subprocess.run(query, capture_output=True, text=True, check=True).stdout
found = {("deb", *line.split()) for line in told.splitlines()}
print(json.dumps(sorted(found | {("pypi", d.name, d.version) for d in distributions()})))
"""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where a build takes things from."""

    base: str
    index_url: str
    """Empty for pip's own."""
    ca_bundle: Path | None
    """Certificates that the index is trusted under; None for those of the base image."""


def build(name: str, sources: Sources) -> str:
    """Build one image of the working directory.

    Args:
        name: of the image.
        sources: base image, index and certificates.

    Returns:
        The image by name and tag.

    Raises:
        BuildError: there is no Docker, it is not running or the build fails.
        ConfigError: this is no git checkout, whose commit the image could say.
    """
    _CONTEXT_CA.parent.mkdir(exist_ok=True)
    if sources.ca_bundle:
        shutil.copyfile(sources.ca_bundle, _CONTEXT_CA)
    else:
        _CONTEXT_CA.write_bytes(b"")
    commit = code_commit() + ("-dirty" if is_changed() else "")
    lock = Path(IMAGES[name]) / "requirements.lock"
    tagged = f"{name}:{commit[:12]}{'-dirty' if commit.endswith('-dirty') else ''}"
    arguments = {
        "BASE": sources.base,
        "INDEX_URL": sources.index_url,
        "VERSION": _version(),
        "COMMIT": commit,
        "LOCK_SHA256": hashlib.sha256(lock.read_bytes()).hexdigest(),
    }
    given = [f"--build-arg={key}={value}" for key, value in arguments.items()]
    # The host's network: an index on loopback or behind the host's own resolver is reached too.
    _docker("build", "--network=host", f"--file={IMAGES[name]}/Dockerfile", *given,
            f"--tag={tagged}", ".")  # fmt: skip
    return tagged


def bill_of(image: str) -> str:
    """What an image holds, Python's packages and Debian's: CycloneDX 1.6, without time or machine.

    Raises:
        BuildError: the image cannot be run.
    """
    told = _docker("run", "--rm", "--network=none", image, "python", "-c", _LIST, quiet=True)
    components = [
        Component(
            name=name,
            version=version,
            type=ComponentType.LIBRARY,
            bom_ref=f"{kind}:{name}=={version}",
            purl=PackageURL("pypi", None, canonicalize_name(name), version)
            if kind == "pypi"
            else PackageURL(kind, "debian", name, version),
        )
        for kind, name, version in json.loads(told)
    ]
    listed = json.loads(JsonV1Dot6(Bom(components=components)).output_as_string())
    del listed["serialNumber"], listed["metadata"]["timestamp"]
    return json.dumps(listed, indent=1) + "\n"


def size_mb(image: str) -> float:
    """Of all its layers, unpacked. Raises BuildError."""
    told = _docker("image", "inspect", "--format={{.Size}}", image, quiet=True)
    return int(told) / 1e6


def _version() -> str:
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])


def _docker(*words: str, quiet: bool = False) -> str:
    pipe = subprocess.PIPE if quiet else None
    try:
        done = subprocess.run(["docker", *words], text=True, stdout=pipe, stderr=pipe)
    except FileNotFoundError as error:
        raise BuildError("no docker on the PATH, expected the client of an engine") from error
    if done.returncode:
        said = " ".join((done.stderr or "see above").split())[-400:]
        raise BuildError(f"docker {words[0]} failed with {done.returncode}: {said}")
    return done.stdout or ""


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.images", description=__doc__)
    parser.add_argument("--base", default=BASE, help="image of Python 3.11 on Debian")
    parser.add_argument("--index-url", default="", help="of the packages, by default pip's own")
    parser.add_argument("--ca-bundle", type=Path, help="certificates to trust the index under")
    parser.add_argument("--only", choices=sorted(IMAGES), help="one of the two")
    args = parser.parse_args(argv)

    def run() -> None:
        sources = Sources(base=args.base, index_url=args.index_url, ca_bundle=args.ca_bundle)
        for name in [args.only] if args.only else IMAGES:
            image = build(name, sources)
            bill = BILLS / f"{name}.cdx.json"
            with whole_file(bill) as partial:
                partial.write_text(bill_of(image), encoding="utf-8")
            print(f"images: {image}, {size_mb(image):.0f} MB, its bill of materials {bill}")
        print("images: push them, and put what the push says (sha256:...) into params.yaml: "
              "kubeflow.image and release.cluster.image", file=sys.stderr)  # fmt: skip

    run_or_exit("images", run)


if __name__ == "__main__":
    main()
