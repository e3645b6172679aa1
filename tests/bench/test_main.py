"""The command that runs benchmarks: its arguments and its output. No figure is asserted."""

import importlib
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from tests.bench.__main__ import BENCHES, main
from tests.bench.population import BATCH, batches, partition, rows
from tests.bench.report import Scale
from tests.bench.workload import orders

SMALL = ["--orders", "200", "--customers", "20", "--runs", "2"]


def test_an_unknown_benchmark_is_refused_with_the_known_ones() -> None:
    done = CliRunner().invoke(main, ["tick", "throughput"])
    assert done.exit_code == 2
    assert f"found throughput; allowed are {', '.join(BENCHES)}" in done.output.replace("\n", " ")


def test_an_unknown_broker_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMARK_BENCH_BROKER", "pulsar")
    done = CliRunner().invoke(main, ["latency", *SMALL])
    assert done.exit_code == 2
    assert "found 'pulsar', allowed are embedded, kafka" in done.output


def test_help_names_every_benchmark_and_shows_examples() -> None:
    shown = CliRunner().invoke(main, ["--help"]).output
    assert [name for name in BENCHES if f"  {name} " not in shown] == []
    assert "python -m tests.bench latency" in shown


@pytest.mark.parametrize(
    "name", ["profile", "growth", "tick", "cutoffs", "memory", "recovery", "latency", "replay", "burst"]
)
def test_a_benchmark_is_a_module_that_runs_at_a_scale(name: str) -> None:
    module = importlib.import_module(f"tests.bench.{BENCHES[name][0]}")
    assert list(module.run.__annotations__) == ["scale", "return"]


def test_every_figure_is_written_with_the_machine(tmp_path: Path) -> None:
    target = tmp_path / "figures.json"
    done = CliRunner().invoke(main, ["tick", "growth", "profile", *SMALL, "--json", str(target)])
    assert done.exit_code == 0, done.output
    written = orjson.loads(target.read_bytes())
    assert written["scale"] == Scale(200, 20, 2)._asdict()
    assert written["python"]
    assert written["machine"]["cpus"] > 0
    assert list(written["benches"]) == ["tick", "growth", "profile"]
    [tick], [growth], [profile, *shares] = written["benches"].values()
    assert set(tick["figures"]["due_s"]) == {"10", "100", "1000"}
    found = growth["figures"]["events_per_s"]
    assert {size: len(rates) for size, rates in found.items()} == {"2": 2, "20": 2, "200": 2}
    assert [len(each["events_per_s"]) for each in profile["figures"]["rates"]] == [2] * 4
    for each in shares:
        assert sum(each["figures"]["shares"].values()) == pytest.approx(1, abs=0.05)


def test_the_population_has_distinct_rows_with_orders() -> None:
    held = partition(1_500)
    assert held.customers == 1_500
    assert {len(row) for row in held.rows.values()} <= set(range(200, 320))
    assert len({id(row) for _, row in list(rows(1_500))}) == 1_500
    assert len(held.timers) == 1_500


def test_batches_hold_all_orders_at_consecutive_offsets() -> None:
    found = batches(orders(2 * BATCH + 1_000, 3), first=5)
    assert [len(batch) for batch in found] == [BATCH, BATCH, 1_000]
    assert [record.offset for batch in found for record in batch] == list(range(5, 2 * BATCH + 1_005))
