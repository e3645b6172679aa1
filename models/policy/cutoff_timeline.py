"""Cut-offs in time: computed for a day's end, put into the policy, and told as events.

A `RankedTimeline` is the versions of a policy with the cut-offs that are known so far. It answers, like any timeline,
which policy holds at an instant; the cut-offs of percentile schemes are then ordinary comparisons in it, so that
evaluating, explaining and hysteresis need not know where they come from.
"""

from bisect import bisect_right, insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import msgspec

from models.codegen.unchanged import Steady
from models.identity import event_id
from models.instants import DAY_MS, MAX_INSTANT, MIN_INSTANT, format_instant, local_date, local_midnight, next_midnight
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

#: So many sets of cut-offs are kept: no two partitions are ever further apart than one.
KEPT = 4
#: How many customers stand in each tier, by scheme and tier.
Tiers = Mapping[str, Mapping[str, int]]


class RankedTimeline(Timeline):
    """The versions of a policy, with the cut-offs of their percentile schemes."""

    def __init__(self, versions: Sequence[Policy]) -> None:
        """As `Timeline`."""
        super().__init__(versions)
        self._sets: list[CutoffSet] = []
        #: From when on (ms) there have been cut-offs; None before any.
        self.begins: int | None = None
        self._policies: dict[tuple[str, bytes], Policy] = {}
        self._from, self._to, self._held = MAX_INSTANT, MIN_INSTANT, self.versions[0]
        self._latest = MIN_INSTANT  # from when on (ms) the latest cut-offs hold
        # What `steady` answers from here up to `_to`: it is asked at every event.
        self._steady: Steady | None = None
        self._steady_from = MAX_INSTANT

    @property
    def measures(self) -> tuple[Measure, ...]:
        """What any version ranks by, each once."""
        rankings = [scheme.ranking for policy in self.versions for scheme in policy.schemes]
        return tuple(dict.fromkeys(ranking.measure for ranking in rankings if ranking is not None))

    @property
    def latest_set(self) -> CutoffSet | None:
        """The cut-offs that were computed last."""
        return self._sets[-1] if self._sets else None

    def known(self, at: int) -> CutoffSet | None:
        """Return the first cut-offs known that hold from an instant (ms), or from a later one, on."""
        return next((each for each in self._sets if each.at >= at), None)

    def learn(self, cutoffs: CutoffSet) -> None:
        """Take cut-offs into account; what is known already for their instant stays as it is."""
        if any(each.at == cutoffs.at for each in self._sets):
            return
        insort(self._sets, cutoffs, key=lambda each: each.at)
        del self._sets[:-KEPT]
        self.begin(cutoffs.at)
        self._to, self._latest = MIN_INSTANT, self._sets[-1].at

    def begin(self, at: int) -> None:
        """Take into account that there have been cut-offs from an instant (ms) on, though they be forgotten."""
        self.begins = at if self.begins is None else min(at, self.begins)

    def catches_up(self, instant: int) -> int | None:
        """Return from when on (ms) the latest cut-offs hold, where that is after an instant.

        Time comes to a customer's instants before the cut-offs that follow are known. Who is decided about as of an
        earlier one, since an event came late, was not in question when those began to hold, and may be now.
        """
        return self._latest if self._latest > instant else None

    def steady(self, instant: int) -> Steady | None:
        """As `Timeline`, with the cut-offs that hold; None where it is to be decided again soon."""
        if not self._steady_from <= instant < self._to:
            self.at(instant)
            if instant < self._steady_from:
                return None
        return self._steady

    def at(self, instant: int) -> Policy:
        """Return the version that holds at an instant (ms), with the cut-offs that do.

        Where those are forgotten, with the oldest that are not: they come nearer than what held before any.
        """
        if self._from <= instant < self._to:
            return self._held
        version = super().at(instant)
        starts = [each.at for each in self._sets]
        place = bisect_right(starts, instant)
        if not place and self.begins is not None and self.begins <= instant:
            place = 1
        policy = self._with(version, self._sets[place - 1]) if place else version
        following = starts[place] if 0 < place < len(starts) else self.begins if not place else None
        ends = [end for end in (following, self.next_start(instant)) if end is not None]
        begins = [version.effective_from, *starts[place - 1 : place]] if place else [version.effective_from]
        self._held, self._from, self._to = policy, max(begins), min(ends, default=MAX_INSTANT)
        self._steady = None if self._only is None else policy.steady
        self._steady_from = max(self._from, self._latest)
        return policy

    def day_end(self, instant: int) -> int:
        """Return the first end of a business day (ms) after an instant, in the time zone of the version that holds."""
        return next_midnight(instant, super().at(instant).zone)

    def day_start(self, instant: int) -> int:
        """Return when the business day (ms) of an instant begins: the day's end before it."""
        tz = super().at(instant).zone
        return local_midnight(local_date(instant, tz), tz)

    def compute(
        self, at: int, sketches: Mapping[str, Sketch], held: Tiers | None = None
    ) -> tuple[CutoffSet, list[TierCutoffs]]:
        """Return the cut-offs that hold from an instant (ms) on, and the events that tell them.

        `sketches` are those of the whole population, by the labels of measures; `held` says how many customers stand
        in each tier, by scheme, where that is known. A scheme in which nobody is ranked keeps the cut-offs that it had,
        and tells nothing.
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
        policy = _apply(version, cutoffs)
        events = [
            _event(policy, scheme, scheme.ranking, at, cuts[scheme.name], _holders(scheme, held))
            for scheme in policy.schemes
            if scheme.ranking is not None and scheme.name in computed
        ]
        return cutoffs, events

    def _with(self, version: Policy, cutoffs: CutoffSet) -> Policy:
        """Return a version with cut-offs; compiled once for the same ones."""
        key = version.version, msgspec.msgpack.encode(cutoffs.schemes)
        policy = self._policies.get(key)
        if policy is None:
            if len(self._policies) >= 2 * KEPT:
                self._policies.clear()
            policy = self._policies[key] = _apply(version, cutoffs)
        return policy


def ranked(timeline: Timeline) -> bool:
    """Whether any scheme of any version has its cut-offs computed."""
    return any(scheme.ranking is not None for policy in timeline.versions for scheme in policy.schemes)


def edges(scheme: Scheme) -> list[Fraction | None]:
    """Return the cut-offs in force of a percentile scheme, in the metric's native unit; None where there is none."""
    rules = [tier.rule for tier in scheme.tiers[1:]]
    return [rule.edge if isinstance(rule, Comparison) else None for rule in rules]


def _apply(policy: Policy, cutoffs: CutoffSet) -> Policy:
    """Return a policy in which the cut-offs are the rules of its schemes, where they were computed for such schemes."""
    schemes: list[Scheme] = []
    for scheme in policy.schemes:
        ranking, cuts = scheme.ranking, cutoffs.schemes.get(scheme.name)
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
    # What is shown does not depend on cut-offs, and is not compiled again.
    changed.__dict__.update(
        render_metrics=policy.render_metrics,
        render_scheme_metrics=policy.render_scheme_metrics,
        snapshot=policy.snapshot,
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
    """Return a care rule as it is with cut-offs: what is near them moves with them."""
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
    """Return how many hold each tier above the lowest, or one above it."""
    tiers, count = scheme.tiers[1:], 0
    if held is None:
        return [None] * len(tiers)
    standing = held.get(scheme.name, {})
    return [count := count + standing.get(tier.name, 0) for tier in reversed(tiers)][::-1]


def _event(
    policy: Policy, scheme: Scheme, ranking: Ranking, at: int, cuts: Cuts, holders: Sequence[int | None]
) -> TierCutoffs:
    ranked = cuts.population
    told = [
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
    return TierCutoffs(identity, scheme.name, metric, format_instant(at), ranked, told, policy.version)
