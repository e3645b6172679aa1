"""What a broker needs: Java, and the jars of `pom.xml`, which Maven copies into a cache once.

Environment: `TIDEMARK_KAFKA_CACHE` is the directory of the cache (default `$XDG_CACHE_HOME/tidemark`, or
`~/.cache/tidemark`); `JAVA_HOME` selects the Java that runs the brokers.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from tests.kafka.processes import KafkaError, spawn

POM = Path(__file__).with_name("pom.xml")
OLDEST_JAVA = 17
RESOLVE_TIMEOUT = 600.0


def kafka_version() -> str:
    """Return the Kafka version that `pom.xml` pins. Raises KafkaError if it has none."""
    match = re.search(r"<kafka\.version>([^<]+)</kafka\.version>", POM.read_text(encoding="utf-8"))
    if match is None:
        raise KafkaError(f"{POM.name} has no <kafka.version>")
    return match.group(1)


def artefact_directory() -> Path:
    """Return the cache directory of the jars, which may not exist yet: one for each content of `pom.xml`."""
    override = os.environ.get("TIDEMARK_KAFKA_CACHE")
    shared = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidemark"
    root = Path(override) if override else shared
    digest = hashlib.sha256(POM.read_bytes()).hexdigest()[:8]
    return root.absolute() / f"kafka-{kafka_version()}-{digest}"


def resolve_artefacts() -> Path:
    """Return the directory with the broker's jars. Maven fills it on the first call only. Raises KafkaError.

    Several processes may call this. One resolves under a lock, into a directory that is renamed when it is complete.
    """
    directory = artefact_directory()
    if directory.is_dir():
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    with directory.with_name(directory.name + ".lock").open("a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if directory.is_dir():
            return directory
        maven = shutil.which("mvn")
        if maven is None:
            raise KafkaError(f"{directory} does not hold the Kafka artefacts and no mvn is on the PATH")
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}-") as work:
            partial = Path(work, "jars")
            _run_maven(maven, partial)
            if not any(partial.glob("kafka_2.13-*.jar")):
                raise KafkaError("Maven reported success but copied no Kafka broker")
            partial.rename(directory)
    return directory


def _run_maven(maven: str, output: Path) -> None:
    goal = "dependency:copy-dependencies"
    command = [
        maven,
        "-B",
        "-q",
        "-f",
        str(POM),
        goal,
        "-DincludeScope=runtime",
        f"-DoutputDirectory={output}",
    ]
    with tempfile.TemporaryFile() as log:
        process = spawn(command, log)
        try:
            code = process.wait(RESOLVE_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise KafkaError(f"Maven resolved no Kafka artefacts in {RESOLVE_TIMEOUT:.0f} s") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if code != 0:
            log.seek(0)
            lines = log.read().decode(errors="replace").splitlines()
            first = next((line.strip() for line in lines if "ERROR" in line), "it gave no reason")
            raise KafkaError(f"Maven could not resolve the Kafka artefacts: {first}")


def java_executable() -> str | None:
    """Return the Java of `JAVA_HOME` if that is set, else the first on the PATH, None if there is none."""
    home = os.environ.get("JAVA_HOME")
    return shutil.which("java", path=str(Path(home, "bin"))) if home else shutil.which("java")


def unavailable_reason() -> str | None:
    """Return why real Kafka cannot run here, as a sentence, None if it can. Resolves the artefacts if necessary.

    The answer is cached per process and environment.
    """
    names = ("JAVA_HOME", "PATH", "TIDEMARK_KAFKA_CACHE", "XDG_CACHE_HOME")
    return _unavailable_reason(tuple(os.environ.get(name) for name in names))


@functools.cache
def _unavailable_reason(_environment: tuple[str | None, ...]) -> str | None:
    java = java_executable()
    if java is None:
        return "There is no java in JAVA_HOME or on the PATH."
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return f"The java found does not run: {error}."
    match = re.search(r'version "(?:1\.)?(\d+)', answer.stderr + answer.stdout)
    if match is None or int(match.group(1)) < OLDEST_JAVA:
        found = "of an unknown version" if match is None else f"version {match.group(1)}"
        return f"Kafka {kafka_version()} needs Java {OLDEST_JAVA} or newer and the java found is {found}."
    try:
        resolve_artefacts()
    except (KafkaError, OSError) as error:
        return f"{error}."
    return None
