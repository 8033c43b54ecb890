"""How a step is called: `--params`, flags for places, one clear line when the input is at fault."""

import argparse
import sys
from collections.abc import Callable

from bonexray.errors import BonexrayError


def step_parser(name: str, summary: str) -> argparse.ArgumentParser:
    """A parser for one step, holding the flag that every step takes."""
    parser = argparse.ArgumentParser(prog=f"python -m components.{name}", description=summary)
    parser.add_argument(
        "--params",
        required=True,
        help=f"path of params.yaml, or its section `{name}` as JSON",
    )
    return parser


def run_or_exit(name: str, run: Callable[[], None]) -> None:
    """Call `run`; print a BonexrayError, or the system's refusal, as one line on stderr.

    Raises:
        SystemExit: with status 130 when interrupted, 1 when the input was at fault. An exception
            and not a return value, so that a Kubeflow task that calls a `main` fails with it.
    """
    try:
        run()
    except (BonexrayError, OSError) as error:  # OSError: disk full, no permission, no such place
        print(f"{name}: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    except KeyboardInterrupt as error:
        print(f"{name}: interrupted", file=sys.stderr)
        raise SystemExit(130) from error
