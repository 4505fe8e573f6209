"""How many threads numpy and scipy use."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager

from threadpoolctl import ThreadpoolController


def one_thread() -> AbstractContextManager[object]:
    """A block in which linear algebra uses one thread.

    The matrices of the policies are small. Of more threads each waits for the others, on two busy cores for nine tenths
    of the time.
    """
    limit: AbstractContextManager[object] = _libraries().limit(limits=1)
    return limit


@functools.cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")
