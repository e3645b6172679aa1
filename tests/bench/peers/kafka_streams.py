"""The Java peer. Maven builds it once for each content of its sources; later runs use the cache."""

import fcntl
import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.bench.peers.program import Missing
from tests.kafka.artefacts import artefact_directory, java_executable

SOURCES = Path(__file__).parents[1] / "kafka_streams"
_BUILD_TIMEOUT_S = 600.0


def java_command() -> list[str]:
    """Return the command of the Kafka Streams peer, built if necessary. Raises Missing."""
    java = java_executable()
    if java is None:
        raise Missing("there is no java in JAVA_HOME or on the PATH")
    target = _built()
    options = ["-Xmx1g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
    return [java, *options, "-cp", f"{target / 'classes'}:{target / 'jars'}/*", "bench.RfmApp"]


def _built() -> Path:
    """Return the directory with classes and jars. One process builds it elsewhere and renames it when complete."""
    files = sorted(path for path in SOURCES.rglob("*") if path.suffix in (".xml", ".java"))
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:8]
    directory = artefact_directory().with_name(f"kafka-streams-peer-{digest}")
    directory.parent.mkdir(parents=True, exist_ok=True)
    with directory.with_name(directory.name + ".lock").open("a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.is_dir():
            with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}-") as work:
                project = Path(shutil.copytree(SOURCES, Path(work, "project")))
                _run_maven(project)
                (project / "target").rename(directory)
    return directory


def _run_maven(project: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise Missing("the Kafka Streams peer is not built yet, and no mvn is on the PATH")
    goals = ["compile", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=target/jars"]
    try:
        built = subprocess.run(
            [maven, "-B", "-q", *goals],
            cwd=project,
            capture_output=True,
            text=True,
            timeout=_BUILD_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Missing(f"Maven did not build the Kafka Streams peer in {_BUILD_TIMEOUT_S:.0f} s") from None
    if built.returncode:
        first = next((line for line in built.stdout.splitlines() if "ERROR" in line), "it gave no reason")
        raise Missing(f"Maven could not build the Kafka Streams peer: {first.strip()}")
