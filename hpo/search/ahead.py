"""Suggestions made ahead, in a thread of their own, so that neither a free worker nor a report waits for them.

A suggestion is asked for with all results known at that moment, and the thread makes one after the other. So what is
suggested depends on the order of results and trials only, never on how fast the thread is: the same study gets the same
suggestions. Until its trial begins, a suggestion counts as a running trial for those after it.

While fewer than `FEW` trials run, nothing is made ahead: each suggestion is asked for when it is needed. With more of
them one suggestion is ready for every `SLOTS_PER_AHEAD` running trials, at most `MOST_AHEAD`.

A suggestion is *stale* when a trial has failed since it was asked for, so that what failed is not tried again, or when
more results than one for every `SLOTS_PER_RESULT` running trials, or for every `RESULTS_PER_RESULT` that were known,
have arrived: results that the model reads, at epochs 1, 4, 16, ... and at the end of a trial. So the first results of a
study, each of which teaches much, are never missed. A stale one is thrown away with all others that wait, and they are
asked for anew. What is drawn at random whatever the results is never stale; nor are configurations that a person
enqueued, which no policy suggests.

A free worker waits at most for the suggestion in the making: Ray would end a worker's process that gets no trial at
once, and a new one costs seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from hpo.ledger.outcome import Ending
from hpo.ledger.records import TrialRecord
from hpo.ledger.transfer import Past, thinned
from hpo.search.policies.seeded import SeededSampler, Suggestion
from hpo.search.policies.seen import Seen
from hpo.search.unit_cube import in_force

FEW, SLOTS_PER_AHEAD, MOST_AHEAD = 8, 16, 16
SLOTS_PER_RESULT, RESULTS_PER_RESULT = 8, 16


@dataclass(eq=False)
class _Request:
    """A suggestion that was asked for."""

    number: int
    results: int
    """Results that were known then."""
    failures: int
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
        self._limit = limit
        self._trials: dict[int, TrialRecord] = {}
        """All that have started."""
        self._news: dict[int, TrialRecord] = {}
        """Those whose change the thread has not been told."""
        self._running: set[int] = set()
        self._results = self._failures = 0
        self._requests: dict[int, _Request] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="suggestions")

    def notice(self, trial: TrialRecord) -> None:
        """A trial's record is new or has changed."""
        if not trial.started:
            return
        before = self._trials.get(trial.number)
        self._trials[trial.number] = self._news[trial.number] = trial
        if trial.outcome is None and trial.attempts[-1].ended is None:
            self._running.add(trial.number)
        else:
            self._running.discard(trial.number)
        self._count(trial, before)
        if any(map(self._is_stale, self._requests.values())):
            self._ask_anew()

    def _count(self, trial: TrialRecord, before: TrialRecord | None) -> None:
        """Count what is new in a record for the model: results and failures."""
        epoch = len(trial.epochs)
        reported = epoch > (len(before.epochs) if before else 0)
        ended = _is_final(trial) and not (before and _is_final(before))
        regular = epoch > 0 and thinned([epoch, epoch + 1])[0] == epoch
        self._results += (reported and regular) or (ended and not regular)
        self._failures += ended and trial.status == Ending.FAILED.value

    def take(self, number: int) -> Suggestion:
        """The suggestion for trial `number`, which is the next one.

        Raises:
            Exception: any error of the sampler.
        """
        if number not in self._requests:
            self._requests[number] = self._ask(number)
        elif self._is_stale(self._requests[number]):
            self._ask_anew()
        request = self._requests.pop(number)
        for later in range(number + 1, min(number + 1 + self._wanted, self._limit)):
            if later not in self._requests:
                self._requests[later] = self._ask(later)
        assert request.future is not None
        suggestion = request.future.result()
        assert suggestion is not None
        return suggestion

    def close(self) -> None:
        """End the thread after the suggestion that it makes. What is noticed later asks for none."""
        self._requests.clear()
        self._thread.shutdown(cancel_futures=True)

    @property
    def _wanted(self) -> int:
        """How many suggestions are to wait."""
        running = len(self._running)
        return 0 if running < FEW else min(max(1, running // SLOTS_PER_AHEAD), MOST_AHEAD)

    def _is_stale(self, request: _Request) -> bool:
        if request.spread:
            return False
        may_miss = min(len(self._running) // SLOTS_PER_RESULT, request.results // RESULTS_PER_RESULT)
        return self._results - request.results > may_miss or self._failures > request.failures

    def _ask_anew(self) -> None:
        """Throw away all that wait, because they were made one after the other, and ask for them again."""
        thrown = sorted(self._requests)
        for request in self._requests.values():
            request.dropped = True
        self._requests = {number: self._ask(number, thrown) for number in thrown}

    def _ask(self, number: int, thrown: Sequence[int] = ()) -> _Request:
        request = _Request(number, self._results, self._failures, self._sampler.is_spread(number))
        news, self._news = list(self._news.values()), {}
        request.future = self._thread.submit(self._make, request, news, thrown)
        return request

    # What follows runs in the thread.

    def _make(self, request: _Request, news: Sequence[TrialRecord], thrown: Sequence[int]) -> Suggestion | None:
        """Learn the news and make a suggestion; None if nobody waits for it."""
        history, space = self._history, self._history.space
        for number in (request.number, *(number for number in thrown if number > request.number)):
            history.forget(number)
        history.take_in(map(self._sampler.seen, news))
        if request.dropped:
            return None
        suggestion = self._sampler.suggest(history, request.number, self._past)
        if space.active is not None:
            suggestion = replace(suggestion, values=dict(in_force(suggestion.values, space.active)))
        history.take_in([Seen(request.number, suggestion.values, TrialState.RUNNING)])
        return suggestion


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


def _is_final(trial: TrialRecord) -> bool:
    return trial.outcome is not None and trial.outcome.final
