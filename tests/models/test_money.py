from fractions import Fraction

import pytest

from models.errors import BadRecord, Reason
from models.money import MAX_MINOR, Money, decimals

USD, JPY, KWD = Money("USD"), Money("JPY"), Money("KWD")


@pytest.mark.parametrize(
    ("amount", "minor"),
    [
        ("12.34", 1234),
        ("0.00", 0),
        ("12", 1200),
        ("12.", 1200),
        (".5", 50),
        ("+3.10", 310),
        ("-3.10", -310),
        ("1e3", 100_000),
        (" 7.00 ", 700),
        (12, 1200),
        (12.34, 1234),
        (0.1 + 0.2, 30),
        (1e-7, 0),
        (-0.0, 0),
        ("0" * 30 + "1.00", 100),
        ("1000000000000.00", MAX_MINOR),
    ],
)
def test_reads_amounts_of_every_notation(amount: str | float, minor: int) -> None:
    assert USD.minor(amount) == minor


def test_a_tenth_and_two_tenths_are_exactly_three_tenths() -> None:
    assert USD.minor("0.1") + USD.minor("0.2") == USD.minor("0.3") == 30


@pytest.mark.parametrize(
    ("amount", "minor"),
    [("12.345", 1234), ("12.355", 1236), ("12.3450001", 1235), (12.345, 1234), ("-12.345", -1234), ("0.005", 0)],
)
def test_rounds_half_to_even(amount: str | float, minor: int) -> None:
    assert USD.minor(amount) == minor


@pytest.mark.parametrize(
    ("money", "amount", "minor"),
    [
        (JPY, "1200", 1200),
        (JPY, "0.5", 0),
        (JPY, "1.5", 2),
        (JPY, 980, 980),
        (KWD, "1.234", 1234),
        (KWD, "1.2", 1200),
        (KWD, "1.2345", 1234),
        (JPY, "12.", 12),
    ],
)
def test_minor_units_follow_the_currency(money: Money, amount: str | float, minor: int) -> None:
    assert money.minor(amount) == minor


def test_decimals_of_iso_4217() -> None:
    assert [decimals(code) for code in ("USD", "EUR", "JPY", "KRW", "KWD", "BHD")] == [2, 2, 0, 0, 3, 3]
    assert [Money(code).scale for code in ("USD", "JPY", "KWD")] == [100, 1, 1000]


@pytest.mark.parametrize(
    "amount",
    [
        "1_000",
        "1_0.00",
        "1,000.00",
        "12,34",
        "",
        ".",
        "-",
        "$5",
        "NaN",
        "Infinity",
        "0x10",
        "٣.٠٠",
        "1e999",
        "5 0",
        float("nan"),
        float("inf"),
    ],
)
def test_refuses_what_is_not_a_decimal_number(amount: str | float) -> None:
    with pytest.raises(BadRecord) as refused:
        USD.minor(amount)
    assert refused.value.reason is Reason.WRONG_TYPE


@pytest.mark.parametrize("amount", ["1000000000000.01", "1e13", 1e20, 10**15, "-1000000000000.01"])
def test_refuses_amounts_that_would_not_add_up_within_64_bits(amount: str | float) -> None:
    with pytest.raises(BadRecord) as refused:
        USD.minor(amount)
    assert refused.value.reason is Reason.BAD_VALUE


@pytest.mark.parametrize("currency", ["EUR", "usd", "", "USD "])
def test_refuses_currencies_without_a_rate(currency: str) -> None:
    with pytest.raises(BadRecord) as refused:
        USD.minor("1.00", currency)
    assert refused.value.reason is Reason.UNKNOWN_CURRENCY
    assert "USD" in refused.value.detail


def test_converts_by_the_exact_rate_and_rounds_once() -> None:
    money = Money("USD", {"EUR": Fraction("1.1"), "JPY": Fraction("0.0067")})
    assert money.minor("1.00", "USD") == 100
    assert money.minor("10.00", "EUR") == 1100
    assert money.minor("0.05", "EUR") == 6  # 5.5 cents, half to even
    assert money.minor("1000", "JPY") == 670


@pytest.mark.parametrize(
    ("money", "minor", "text"),
    [
        (USD, 81240, "812.40"),
        (USD, 5, "0.05"),
        (USD, -5, "-0.05"),
        (USD, 0, "0.00"),
        (USD, -81240, "-812.40"),
        (JPY, 1200, "1200"),
        (JPY, -3, "-3"),
        (KWD, 1234, "1.234"),
        (KWD, 7, "0.007"),
    ],
)
def test_shows_amounts(money: Money, minor: int, text: str) -> None:
    assert money.text(minor) == text
    assert money.minor(text) == minor


@pytest.mark.parametrize(
    ("money", "numerator", "denominator", "text"),
    [
        (USD, 1000, 2, "5.00"),
        (USD, 1000, 3, "3.33333333"),
        (USD, 2000, 3, "6.66666667"),
        (USD, 1, 2, "0.00500000"),
        (JPY, 10, 4, "2.500000"),
        (JPY, 8, 4, "2"),
        (KWD, 1, 3, "0.000333333"),
    ],
)
def test_shows_averages_exactly_or_with_six_more_decimals(
    money: Money, numerator: int, denominator: int, text: str
) -> None:
    assert money.text_of_ratio(numerator, denominator) == text
