"""Money as integer minor units (cents, yen), because integer sums do not depend on their order.

Parsing, formatting and conversion. The policy chooses the currency.
"""

import re
from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction

from models.errors import BadRecord, Reason

#: ISO 4217: currencies whose minor unit is not the hundredth, with their decimals.
_NO_DECIMALS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THREE_DECIMALS = "BHD IQD JOD KWD LYD OMR TND"
DECIMALS = {**dict.fromkeys(_NO_DECIMALS.split(), 0), **dict.fromkeys(_THREE_DECIMALS.split(), 3)}
#: The currencies of ISO 4217, as of 2025; XTS is for tests, XXX for none.
CURRENCIES = frozenset(
    """
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE
    CHF CHW CLF CLP CNY COP COU CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ
    GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL
    LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR
    PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY
    TTD TWD TZS UAH UGX USD USN UYI UYU UYW UZS VED VES VND VUV WST XAF XAG XAU XCD XCG XDR XOF XPD XPF XPT XSU XTS
    XUA XXX YER ZAR ZMW ZWG
    """.split()  # noqa: SIM905  # a line for each would be three screens
)
#: Larger amounts (in minor units) are refused: 10,000 of them still add up within 64 bits.
MAX_MINOR = 10**14

_DECIMAL = re.compile(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,2})?", re.ASCII)


def decimals(currency: str) -> int:
    """Return how many decimals a currency has (ISO 4217): 2 for USD, 0 for JPY, 3 for KWD."""
    return DECIMALS.get(currency, 2)


class Money:
    """The currency of a policy, and the conversion of amounts into integers of its minor unit.

    `rates` maps another currency to the policy currency's units for one unit of it.
    """

    __slots__ = ("_cents", "_decimals", "_scale", "currency", "rates")

    def __init__(self, currency: str, rates: Mapping[str, Fraction] | None = None) -> None:
        self.currency = currency
        self.rates = dict(rates or {})
        self._decimals = decimals(currency)
        self._scale: int = 10**self._decimals
        #: The text of each number of minor units below one unit.
        self._cents = tuple(f".{minor:0{self._decimals}d}" if self._decimals else "" for minor in range(self._scale))

    @property
    def scale(self) -> int:
        """Minor units in one unit: 100 for USD, 1 for JPY."""
        return self._scale

    def minor(self, amount: str | float, currency: str | None = None) -> int:
        """Return minor units of the policy currency; excess digits are rounded half to even.

        `amount` is a decimal text or a JSON number in units of `currency` (default: the policy's).
        Raises BadRecord for what is not a number, not finite or too large, and for a currency without a rate.
        """
        if type(amount) is str and (currency is None or currency == self.currency):
            whole, _, cents = amount.partition(".")
            if len(cents) == self._decimals and len(whole) < 12 and (whole + cents).isdecimal() and amount.isascii():
                return int(whole + cents)
        return self._minor_of_any(amount, currency)

    def own(self, amount: str | float, currency: str | None) -> tuple[str, int] | None:
        """Return (currency, minor units of it) of an amount in another currency than the policy's, else None.

        Digits beyond them are rounded half to even. The amount is one that `minor` accepts.
        """
        if currency is None or currency == self.currency:
            return None
        value = Fraction(Decimal(amount.strip() if isinstance(amount, str) else repr(amount)))
        return currency, round(value * 10 ** decimals(currency))

    def _minor_of_any(self, amount: str | float, currency: str | None) -> int:
        text = amount.strip() if isinstance(amount, str) else repr(amount)
        if _DECIMAL.fullmatch(text) is None:
            raise BadRecord(Reason.WRONG_TYPE, f"amount: found {text[:20]!r}, allowed is a decimal number")
        value = Decimal(text)
        rate = Fraction(1)
        if currency is not None and currency != self.currency:
            if currency not in self.rates:
                allowed = ", ".join([self.currency, *sorted(self.rates)])
                raise BadRecord(Reason.UNKNOWN_CURRENCY, f"currency: found {currency[:8]!r}, allowed: {allowed}")
            rate = self.rates[currency]
        minor: int = round(Fraction(value) * rate * self._scale)
        if abs(minor) > MAX_MINOR:
            raise BadRecord(Reason.BAD_VALUE, f"amount: allowed is up to {MAX_MINOR} minor units")
        return minor

    def text(self, minor: int) -> str:
        """Return minor units as a decimal text in whole units: 81240 -> `812.40`."""
        if minor < 0:
            return f"-{self.text(-minor)}"
        whole = minor // self._scale
        return f"{whole}{self._cents[minor - whole * self._scale]}"

    def text_of_ratio(self, numerator: int, denominator: int) -> str:
        """Return a ratio of minor units as text: exact if it is whole, else with six more decimals."""
        if numerator % denominator == 0:
            return self.text(numerator // denominator)
        with localcontext(prec=60):
            value = Decimal(numerator) / Decimal(denominator * self._scale)
            return str(value.quantize(Decimal(1).scaleb(-self._decimals - 6), ROUND_HALF_EVEN))
