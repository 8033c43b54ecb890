"""Put the champion on a KServe cluster, in steps that a person takes.

python -m serving.rollout render --out DIR       files, for a cluster that follows a repository
python -m serving.rollout start [--percent N]    as the stable version, or beside it as a canary
python -m serving.rollout promote                the champion is the stable version, alone
python -m serving.rollout abort                  the stable version stays, alone
python -m serving.rollout status

Each may be repeated, and finishes what a killed one left.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from bonexray.command import run_or_exit
from bonexray.config import read_section
from bonexray.errors import ClusterError, ConfigError, RegistryError
from bonexray.release_config import ReleaseConfig
from bonexray.serve_config import ServeConfig
from bonexray.store import BundleStore, Champion
from serving.cluster import Cluster, Document
from serving.fetch import publish
from serving.manifests import Canary, champion_of, render, service, write
from serving.signature import open_signed


class Rollout:
    """The versions of one release folder, on one cluster."""

    def __init__(
        self, config: ReleaseConfig, serve: ServeConfig, store: BundleStore, cluster: Cluster
    ) -> None:
        """Nothing is asked yet."""
        self.config, self.serve, self.store, self.cluster = config, serve, store, cluster
        self.name = f"{config.cluster.name} in {config.cluster.namespace}"

    def start(self, percent: int) -> str:
        """Serve the champion: alone where nothing is served, else beside what is.

        Args:
            percent: of the requests, when it is a canary.

        Raises:
            ConfigError: it is the stable version already, or the service is none of ours.
            BonexrayError: as `approved`, `publish` and `Cluster.apply`.
        """
        champion = approved(self.config, self.store)
        live = self._live()
        if live is None:
            self._publish(champion)
            self._apply(champion, None, None)
            return f"{self.name}: {told(champion)} is the stable version"
        stable = _stable(live)
        if stable == champion:
            raise ConfigError(
                f"{self.name}: {told(champion)} is the stable version already; approve another "
                "first, or `promote` to end a canary or to apply a change of params.yaml"
            )
        self._publish(champion)
        standing = live["spec"]["predictor"]
        self._apply(stable, Canary(champion=champion, percent=percent), standing)
        return f"{self.name}: {told(champion)} gets {percent} % beside {told(stable)}"

    def promote(self) -> str:
        """Make the champion the stable version, and end the canary.

        Raises:
            ConfigError: nothing is served, or the canary is another version than the champion.
            BonexrayError: as `approved`, `publish` and `Cluster.apply`.
        """
        champion = approved(self.config, self.store)
        live = self._needed()
        canary = _canary(live)
        if canary and canary.champion != champion and _stable(live) != champion:
            raise ConfigError(
                f"{self.name}: the canary is {told(canary.champion)}, the champion "
                f"{told(champion)}: `start` puts it in its place, `abort` ends it"
            )
        self._publish(champion)
        self._apply(champion, None, None)
        return f"{self.name}: {told(champion)} is the stable version"

    def abort(self) -> str:
        """End the canary; the stable version stays as it is. Raises as `Cluster.apply`."""
        live = self._needed()
        stable, canary = _stable(live), _canary(live)
        if canary is None:
            return f"{self.name}: no canary to end; {told(stable)} is the stable version"
        self._apply(stable, None, live["spec"]["predictor"])
        return f"{self.name}: the canary {told(canary.champion)} is ended; {told(stable)} stays"

    def status(self) -> list[str]:
        """What is served and how it fares, one line each. Raises as `Cluster.read`."""
        live = self._live()
        if live is None:
            return [f"{self.name}: nothing is served yet"]
        stable, canary = _stable(live), _canary(live)
        lines = [f"{self.name}: {told(stable)} is the stable version"]
        if canary is not None:
            lines.append(f"{self.name}: {told(canary.champion)} gets {canary.percent} %")
        conditions = (live.get("status") or {}).get("conditions") or []
        lines += [_condition(condition) for condition in conditions]
        if not conditions:
            lines.append("KServe has not said yet how it fares")
        champion = self.store.champion()
        if champion is not None and champion not in (stable, canary and canary.champion):
            lines.append(f"the champion is {told(champion)}, which is not served: `start`")
        return lines

    def _apply(self, stable: Champion, canary: Canary | None, standing: Document | None) -> None:
        """Apply every object, the service last: what a killed run did before it changes nothing."""
        *others, last = render(stable, self.config.cluster, self.serve, canary, standing)
        for document in others:
            self.cluster.apply(document)
        live = self.cluster.apply(last)
        if (_stable(live), _canary(live)) != (stable, canary):
            raise ClusterError(
                f"{self.name}: was applied, but another field manager holds on to its canary; "
                "`kubectl get inferenceservice --show-managed-fields -o yaml` says which"
            )

    def _publish(self, champion: Champion) -> None:
        if self.config.cluster.store.startswith("s3://"):
            publish(self.store, champion.digest, self.config.cluster.store)

    def _live(self) -> Document | None:
        return self.cluster.read(service(self.config.cluster))

    def _needed(self) -> Document:
        live = self._live()
        if live is None:
            raise ConfigError(
                f"{self.name}: nothing is served yet; `start` puts the champion there"
            )
        return live


def approved(config: ReleaseConfig, store: BundleStore) -> Champion:
    """The champion, its signature and digests verified as a pod will verify them.

    Raises:
        RegistryError: nothing was approved yet.
        SignatureError: its bundle is not signed by whom we trust.
        BundleError: the store does not hold its bundle, or it was altered.
    """
    champion = store.champion()
    if champion is None:
        raise RegistryError(
            f"no champion in {store.root}/: approve a candidate first: "
            "python -m serving.release approve candidate --by NAME --reason TEXT"
        )
    open_signed(store, champion.digest, Path(config.trust))
    return champion


def told(champion: Champion) -> str:
    """A version in a few words."""
    return f"version {champion.version} ({champion.digest[:12]})"


def _stable(live: Document) -> Champion:
    return champion_of(live["spec"]["predictor"])


def _canary(live: Document) -> Canary | None:
    canaries = live["spec"].get("canary") or []
    if not canaries:
        return None
    champion = champion_of(canaries[0]["predictor"])
    return Canary(champion=champion, percent=canaries[0]["trafficPercent"])


def _condition(condition: dict[str, str]) -> str:
    line = f"{condition['type']} is {condition['status']}"
    why = [condition[key] for key in ("reason", "message") if condition.get(key)]
    return ": ".join([line, *(" ".join(words.split()) for words in why)])


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    args = _parser().parse_args(argv)

    def run() -> None:
        config = read_section(str(args.params), ReleaseConfig)
        serve = read_section(str(args.params), ServeConfig)
        store = BundleStore(args.store)
        if args.command == "render":
            champion = approved(config, store)
            write(args.out, render(champion, config.cluster, serve))
            print(f"rollout: {told(champion)} -> {args.out}/")
            return
        rollout = Rollout(config, serve, store, Cluster(args.context, args.timeout))
        if args.command == "start":
            percent = config.cluster.canary_percent if args.percent is None else args.percent
            lines = [rollout.start(percent)]
        elif args.command == "status":
            lines = rollout.status()
        else:
            lines = [rollout.promote() if args.command == "promote" else rollout.abort()]
        if args.command in ("start", "promote") and config.cluster.store.startswith("pvc://"):
            lines.append(f"{config.cluster.store} is filled by hand: pods wait for {store.root}/")
        for line in lines:
            print(f"rollout: {line}")

    run_or_exit("rollout", run)


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"{text}, expected more than 0 and at most 3600")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving.rollout",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, dest="command")
    for name, help_text in (
        ("render", "write the champion's objects as files"),
        ("start", "serve the champion, as a canary where another is served"),
        ("promote", "make the champion the stable version and end the canary"),
        ("abort", "end the canary"),
        ("status", "what is served, and how it fares"),
    ):
        command = commands.add_parser(name, help=help_text, allow_abbrev=False)
        command.add_argument("--params", type=Path, default=Path("params.yaml"))
        command.add_argument(
            "--store", type=Path, default=Path("release"), help="folder of approved bundles"
        )
        if name == "render":
            command.add_argument("--out", type=Path, required=True, help="folder to replace")
            continue
        command.add_argument("--context", help="of the kubeconfig, by default its current one")
        command.add_argument(
            "--timeout", type=_seconds, default=30.0, help="seconds to wait for each answer"
        )
        if name == "start":
            command.add_argument("--percent", type=int, help="of the requests, to a canary")
    return parser


if __name__ == "__main__":
    main()
