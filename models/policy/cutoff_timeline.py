"""Cut-offs over time: computed at a day's end, compiled into the policy, and reported as events.

A `RankedTimeline` holds the versions of a policy and the cut-offs known so far. Like any timeline, it returns the
policy that holds at an instant. In that policy the cut-offs of percentile schemes are ordinary comparisons, so
evaluation, explanation and hysteresis need not know where they come from.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

import msgspec

from models.identity import event_id
from models.instants import DAY_MS, format_instant, local_date, local_midnight, next_midnight
from models.money import Money
from models.outputs import Cutoff, TierCutoffs
from models.policy.care_rules import CareRule, ConditionRule, NearUpgradeRule
from models.policy.compiled import Policy
from models.policy.timeline import Timeline
from models.rules.comparisons import Comparison, easier
from models.rules.explain import threshold
from models.rules.metrics import Edges, Unit
from models.rules.ranking import CutoffSet, Cuts, Measure, Ranking
from models.rules.scheme import Scheme
from models.rules.sketch import Sketch

#: The number of sets of cut-offs that are kept. Partitions are never more than one set apart.
KEPT = 4
#: The number of customers in each tier, by scheme and tier.
Tiers = Mapping[str, Mapping[str, int]]


class _Known(NamedTuple):
    """The cut-offs known at one moment and the policies that follow from them; replaced as a whole, never changed.

    `policies[n]` holds from `starts[n - 1]` (ms) up to `starts[n]`; the first has no start and the last no end.
    `compiled` keeps each policy by its version and cut-offs, so that it is compiled only once.
    """

    sets: tuple[CutoffSet, ...]
    begins: int | None
    starts: tuple[int, ...]
    policies: tuple[Policy, ...]
    compiled: Mapping[tuple[str, bytes], Policy]


class RankedTimeline(Timeline):
    """The versions of a policy with the cut-offs of their percentile schemes.

    Any thread may look up. Only one thread at a time may call `learn` or `begin`.
    """

    def __init__(self, versions: Sequence[Policy]) -> None:
        """Take the versions without any cut-offs. Raises PolicyError as `Timeline` does."""
        super().__init__(versions)
        self._known = self._after((), None, {})

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The measures by which any version ranks, each once."""
        rankings = [scheme.ranking for policy in self.versions for scheme in policy.schemes]
        return tuple(dict.fromkeys(ranking.measure for ranking in rankings if ranking is not None))

    @property
    def begins(self) -> int | None:
        """The instant (ms) from which there have been cut-offs, forgotten ones included; None if there are none."""
        return self._known.begins

    @property
    def latest_set(self) -> CutoffSet | None:
        """The latest cut-offs; None if there are none."""
        sets = self._known.sets
        return sets[-1] if sets else None

    def known(self, at: int) -> CutoffSet | None:
        """Return the first known cut-offs that hold from an instant (ms) on, or from a later one; None if none do."""
        return next((each for each in self._known.sets if each.at >= at), None)

    def learn(self, cutoffs: CutoffSet) -> None:
        """Add cut-offs. If some are known for their instant already, those stay."""
        known = self._known
        if all(each.at != cutoffs.at for each in known.sets):
            sets = sorted((*known.sets, cutoffs), key=lambda each: each.at)[-KEPT:]
            self._known = self._after(sets, _earlier(known.begins, cutoffs.at), known.compiled)

    def begin(self, at: int) -> None:
        """Note that there have been cut-offs from an instant (ms) on, even if they are forgotten."""
        known = self._known
        if known.begins is None or at < known.begins:
            self._known = self._after(known.sets, at, known.compiled)

    def changes_after(self, instant: int, *, late: bool) -> int | None:
        """Return when (ms) after `instant` a customer is due whatever happens to them; None if never.

        A late event makes a customer be decided as of their cursor. The ranking of a day that ended after the cursor
        did not consider this customer, so they are evaluated again at the latest cut-offs.
        """
        starts, sets = self.next_start(instant), self._known.sets
        if late and sets and sets[-1].at > instant:
            return sets[-1].at if starts is None else min(starts, sets[-1].at)
        return starts

    def at(self, instant: int) -> Policy:
        """Return the version that holds at an instant (ms), with the cut-offs that hold then.

        If those are forgotten, the oldest known ones apply: they are closer than what held before any cut-offs.
        """
        known = self._known  # read once: another thread may replace it
        return known.policies[bisect_right(known.starts, instant)]

    def day_end(self, instant: int) -> int:
        """Return the end of the business day that holds an instant (both ms), in the time zone of the version.

        If a version with another zone begins in that day, the day ends at the first midnight of its zone.
        """
        tz = super().at(instant).zone
        end, start = next_midnight(instant, tz), self.next_start(instant)
        if start is None or start >= end or (new := super().at(start).zone) == tz:
            return end
        return next_midnight(start - 1, new)

    def day_start(self, instant: int) -> int:
        """Return the start of the business day that holds an instant (both ms)."""
        tz = super().at(instant).zone
        return local_midnight(local_date(instant, tz), tz)

    def compute(
        self, at: int, sketches: Mapping[str, Sketch], held: Tiers | None = None
    ) -> tuple[CutoffSet, list[TierCutoffs]]:
        """Return the cut-offs that hold from an instant (ms) on, and the events that report them.

        `sketches` cover the whole population, by the labels of measures. `held` is the number of customers in each
        tier, if known. A scheme in which nobody is ranked keeps its cut-offs and has no event.
        """
        version = super().at(at)
        cuts = {} if self.latest_set is None else dict(self.latest_set.schemes)
        computed = []
        for scheme in version.schemes:
            if scheme.ranking is not None:
                population = sketches.get(scheme.ranking.measure.label, Sketch())
                found = scheme.ranking.cut(population)
                if found is not None:
                    cuts[scheme.name] = found
                    computed.append(scheme.name)
        cutoffs = CutoffSet(at, cuts)
        policy = _apply(version, cuts)
        events = [
            _event(policy, scheme, scheme.ranking, at, cuts[scheme.name], _holders(scheme, held))
            for scheme in policy.schemes
            if scheme.ranking is not None and scheme.name in computed
        ]
        return cutoffs, events

    def _after(
        self, sets: Sequence[CutoffSet], begins: int | None, compiled: Mapping[tuple[str, bytes], Policy]
    ) -> _Known:
        """Return what follows from some cut-offs, lowest instant first. `compiled` are the policies made so far."""
        starts = sorted({*self._starts[1:], *(each.at for each in sets), *(() if begins is None else (begins,))})
        kept: dict[tuple[str, bytes], Policy] = {}
        policies = [self.versions[0]]
        for start in starts:
            version, place = super().at(start), bisect_right(sets, start, key=lambda each: each.at)
            if not place and sets and begins is not None and begins <= start:
                place = 1
            if not place:
                policies.append(version)
                continue
            schemes = sets[place - 1].schemes
            key = version.version, msgspec.msgpack.encode(schemes)
            if key not in kept:
                kept[key] = compiled.get(key) or _apply(version, schemes)
            policies.append(kept[key])
        return _Known(tuple(sets), begins, tuple(starts), tuple(policies), kept)


def _earlier(begins: int | None, at: int) -> int:
    return at if begins is None else min(at, begins)


def ranked(timeline: Timeline) -> bool:
    """Whether any scheme of any version has its cut-offs computed."""
    return any(scheme.ranking is not None for policy in timeline.versions for scheme in policy.schemes)


def edges(scheme: Scheme) -> list[Fraction | None]:
    """Return the cut-offs of a percentile scheme in the metric's native unit, lowest first; None for an unknown one."""
    rules = [tier.rule for tier in scheme.tiers[1:]]
    return [rule.edge if isinstance(rule, Comparison) else None for rule in rules]


def _apply(policy: Policy, cutoffs: Mapping[str, Cuts]) -> Policy:
    """Return the policy with the cut-offs as rules of the schemes for whose ranking they were computed."""
    schemes: list[Scheme] = []
    for scheme in policy.schemes:
        ranking, cuts = scheme.ranking, cutoffs.get(scheme.name)
        if ranking is not None and cuts is not None and cuts.label == ranking.label:
            schemes.append(_cut(policy, scheme, ranking, cuts))
        else:
            schemes.append(scheme)
    if tuple(schemes) == policy.schemes:
        return policy
    compared: list[set[tuple[str, Fraction]]] = [set() for _ in policy.gauges]
    care = tuple(_near(rule, schemes) for rule in policy.care)
    for leaf in _leaves(schemes, care):
        compared[leaf.gauge].add((leaf.op, leaf.edge))
    gauges = tuple(replace(gauge, edges=Edges.of(pairs)) for gauge, pairs in zip(policy.gauges, compared, strict=True))
    changed = replace(policy, schemes=tuple(schemes), care=care, gauges=gauges)
    # What is shown does not depend on cut-offs, so it is not compiled again.
    changed.__dict__.update(
        render_metrics=policy.render_metrics,
        render_scheme_metrics=policy.render_scheme_metrics,
    )
    return changed


def _cut(policy: Policy, scheme: Scheme, ranking: Ranking, cuts: Cuts) -> Scheme:
    measure = ranking.measure
    gauge = next(
        index
        for index, each in enumerate(policy.gauges)
        if (each.metric.name, each.window) == (measure.metric.name, measure.window)
    )
    tiers = [scheme.tiers[0]]
    for tier, number in zip(scheme.tiers[1:], cuts.numbers, strict=True):
        edge = ranking.edge(number)
        threshold = _displayed(edge, measure.metric.unit, policy.money)
        tiers.append(replace(tier, rule=Comparison(gauge, measure.metric, ">=", threshold, edge)))
    return replace(scheme, tiers=tuple(tiers))


def _near(rule: CareRule, schemes: Sequence[Scheme]) -> CareRule:
    """Return a care rule for the new cut-offs: `near_upgrade` eases the new rules."""
    if not isinstance(rule, NearUpgradeRule):
        return rule
    tiers = next(scheme.tiers for scheme in schemes if scheme.name == rule.action.scheme)
    return replace(rule, near=tuple(easier(tier.rule, rule.share) for tier in tiers if tier.rule is not None))


def _leaves(schemes: Sequence[Scheme], care: Sequence[CareRule]) -> Iterator[Comparison]:
    for scheme in schemes:
        for tier in scheme.tiers:
            if tier.rule is not None:
                yield from tier.rule.leaves()
    for each in care:
        if isinstance(each, ConditionRule):
            yield from each.rule.leaves()
        elif isinstance(each, NearUpgradeRule):
            for rule in each.near:
                yield from rule.leaves()


def _displayed(edge: Fraction, unit: Unit, money: Money) -> Fraction:
    return edge / {Unit.DAYS: DAY_MS, Unit.MONEY: money.scale}.get(unit, 1)


def _holders(scheme: Scheme, held: Tiers | None) -> Sequence[int | None]:
    """Return how many customers hold each tier above the lowest, or a higher one."""
    tiers, count = scheme.tiers[1:], 0
    if held is None:
        return [None] * len(tiers)
    standing = held.get(scheme.name, {})
    return [count := count + standing.get(tier.name, 0) for tier in reversed(tiers)][::-1]


def _event(
    policy: Policy, scheme: Scheme, ranking: Ranking, at: int, cuts: Cuts, holders: Sequence[int | None]
) -> TierCutoffs:
    ranked = cuts.population
    listed = [
        Cutoff(
            tier.name,
            threshold(tier.rule, policy.money),
            float(share),
            admitted / ranked,
            admitted,
            None if holding is None else holding / ranked,
            holding,
        )
        for tier, share, admitted, holding in zip(scheme.tiers[1:], ranking.shares, cuts.admitted, holders, strict=True)
        if isinstance(tier.rule, Comparison)
    ]
    identity = event_id("tier-cutoffs", scheme.name, at, policy.version)
    metric = ranking.measure.metric.name
    return TierCutoffs(identity, scheme.name, metric, format_instant(at), ranked, listed, policy.version)
