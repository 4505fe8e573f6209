"""Suggestions, made in a thread of their own; where trials end fast, ahead, so that no free worker waits for one.

A suggestion takes a tenth of a second. While trials end more slowly than one in `PERIOD_S`, it is made when it is asked
for: the worker waits that long, which is little, and gets what was learned from all results. The same holds while fewer
than `FEW` trials run. Where trials end faster, waiting would add up. There the next suggestion is begun as soon as a
trial has started, and it is made anew whenever a trial that goes on has a result that the model reads: at epochs 1, 4,
16, ... and at the end of a trial. The one before it is kept until then. So a worker that becomes free gets at once what
was made while its own trial still trained. What that costs is measured in reports/benchmarks/search/search.md.

A suggestion is *stale* when more than `MISSED` such results have arrived since it was asked for (any at all, where
trials end slowly), or when a trial has failed since, so that what failed is not tried again, or has been taken up again
(`hpo.search.landing`). A stale one is never handed out. What is drawn at random whatever the results is never stale;
nor are configurations that a person enqueued, which no policy suggests.

Of two that are not stale the older one is handed out, whether or not the newer one is ready. So what is suggested
depends on the order and the recorded times of results and trials only, never on how fast the thread is: the same study
gets the same suggestions. Where results come faster than the thread makes suggestions, free workers wait for it. Ray
would end the process of a worker that gets no trial at once, and a new one costs seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from optuna.samplers import BaseSampler

from hpo.ledger.outcome import Ending
from hpo.ledger.records import TrialRecord
from hpo.ledger.transfer import Past, thinned
from hpo.search.policies.acquisition import Ends
from hpo.search.policies.seeded import SeededSampler, Suggestion

FEW = 8
PERIOD_S, ENDS = 0.2, 8
"""Trials end fast if the last `ENDS` of them ended within less than `PERIOD_S` each."""
MISSED = 1
"""The result with which a worker becomes free: there is no time to learn from it before the worker gets its trial."""


@dataclass(eq=False)
class _Request:
    """A suggestion that was asked for."""

    number: int
    results: int
    """Results that were known then."""
    upsets: int
    """Trials that had failed or had been taken up again until then."""
    spread: bool
    """Whether it is drawn at random whatever the results."""
    dropped: bool = False
    """Whether nobody waits for it any more."""
    future: Future[Suggestion | None] | None = None


class Ahead:
    """The suggestions for the next trials of one study. All methods belong to the thread that hands out trials."""

    def __init__(self, sampler: SeededSampler, past: Sequence[Past] = (), *, limit: int) -> None:
        """
        Args:
            past: trials of earlier studies.
            limit: trials of the whole study; none is suggested beyond.
        """
        self._sampler = sampler
        self._history = sampler.history()
        self._past = past
        self.limit = limit
        self._trials: dict[int, TrialRecord] = {}
        """All that have started."""
        self._news: dict[int, TrialRecord] = {}
        """Those whose change the thread has not been told."""
        self._running: set[int] = set()
        self._results = self._upsets = 0
        self._ends: deque[float] = deque(maxlen=ENDS)
        """When the last trials ended, in seconds since the epoch."""
        self._waiting: list[_Request] = []
        """For the next trial, at most two: the older first."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="suggestions")

    def notice(self, trial: TrialRecord) -> None:
        """A trial's record is new or has changed."""
        if not trial.started:
            return
        before = self._trials.get(trial.number)
        self._trials[trial.number] = self._news[trial.number] = trial
        goes_on = trial.outcome is None and trial.attempts[-1].ended is None
        (self._running.add if goes_on else self._running.discard)(trial.number)
        known, upsets = self._results, self._upsets
        self._count(trial, before)
        if before is None:
            self._begin(trial.number + 1)
        elif self._upsets > upsets or (self._results > known and goes_on and trial.pruned_at is None):
            self._begin_anew()

    def _count(self, trial: TrialRecord, before: TrialRecord | None) -> None:
        """Count what is new in a record for the model: results and upsets."""
        epoch = len(trial.epochs)
        reported = epoch > (len(before.epochs) if before else 0)
        ended = trial.ended and not (before and before.ended)
        reopened = before is not None and before.ended and not trial.ended
        regular = epoch > 0 and thinned([epoch, epoch + 1])[0] == epoch
        self._results += (reported and regular) or (ended and not regular)
        self._upsets += reopened or (ended and trial.status == Ending.FAILED.value)
        end = trial.finished if trial.finished is not None else trial.attempts[-1].ended
        if ended and end is not None:
            self._ends.append(end)

    def take(self, number: int) -> Suggestion:
        """The suggestion for trial `number`, which is the next one.

        Raises:
            Exception: any error of the sampler.
        """
        suggestion = self.peek(number)
        self._drop()
        return suggestion

    def peek(self, number: int) -> Suggestion:
        """The same, which `take` still returns as long as nothing happens."""
        usable = [request for request in self._waiting if request.number == number and not self._is_stale(request)]
        request = usable[0] if usable else self._ask(number)
        self._drop(but=request)
        self._waiting = [request]
        assert request.future is not None
        suggestion = request.future.result()
        assert suggestion is not None
        return suggestion

    def ends(self, configurations: Sequence[Mapping[str, Any]]) -> Ends | None:
        """What the model expects at the end of all trials and of other configurations; None while there are too few
        trials to learn from. See `SeededSampler.ends`.

        Raises:
            Exception: any error of the sampler.
        """
        return self._thread.submit(self._predict, configurations, self._take_news()).result()

    def _predict(self, configurations: Sequence[Mapping[str, Any]], news: Sequence[TrialRecord]) -> Ends | None:
        self._history.take_in(map(self._sampler.seen, news))
        return self._sampler.ends(self._history, configurations, self._past)

    def close(self) -> None:
        """End the thread after the suggestion that it makes. What is noticed later asks for none."""
        self._drop()
        self.limit = 0
        self._thread.shutdown(cancel_futures=True)

    def _is_stale(self, request: _Request) -> bool:
        missed = self._results - request.results
        return not request.spread and (missed > (MISSED if self._end_fast else 0) or self._upsets > request.upsets)

    @property
    def _end_fast(self) -> bool:
        """Whether trials end so fast that workers should not wait for suggestions."""
        return len(self._ends) == ENDS and max(self._ends) - min(self._ends) < ENDS * PERIOD_S

    def _begin(self, number: int) -> None:
        """Ask for the suggestion for trial `number` before a worker does."""
        wanted = self._end_fast or self._sampler.is_spread(number)
        if wanted and len(self._running) >= FEW and number < self.limit and number not in self._trials:
            self._drop()
            self._waiting = [self._ask(number)]

    def _begin_anew(self) -> None:
        """Ask for the next suggestion once more, and keep the newest of those before it unless it is stale."""
        if self._waiting and not self._waiting[-1].spread:
            newest = self._waiting[-1]
            self._drop(but=newest)
            self._waiting = [newest, self._ask(newest.number)]

    def _drop(self, but: _Request | None = None) -> None:
        """Make those that wait no more, but one."""
        for request in self._waiting:
            request.dropped = request is not but
        self._waiting = []

    def _ask(self, number: int) -> _Request:
        request = _Request(number, self._results, self._upsets, self._sampler.is_spread(number))
        request.future = self._thread.submit(self._make, request, self._take_news())
        return request

    def _take_news(self) -> list[TrialRecord]:
        news, self._news = list(self._news.values()), {}
        return news

    def _make(self, request: _Request, news: Sequence[TrialRecord]) -> Suggestion | None:
        """Learn the news and make a suggestion, in the thread; None if nobody waits for it."""
        self._history.take_in(map(self._sampler.seen, news))
        return None if request.dropped else self._sampler.suggest(self._history, request.number, self._past)


def begin_ahead(sampler: BaseSampler, past: Sequence[Past], *, limit: int) -> Ahead | None:
    """Let a sampler of this project make its suggestions ahead; None for another sampler, or if the space is not known.

    Args:
        past, limit: see `Ahead`.
    """
    if not isinstance(sampler, SeededSampler) or not sampler.knows_space:
        return None
    ahead = Ahead(sampler, past, limit=limit)
    sampler.source = ahead.take
    return ahead
