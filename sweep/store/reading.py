"""Reading many things in order while the next ones are on their way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

One = TypeVar("One")
Read = TypeVar("Read")


def ahead(read: Callable[[One], Read], items: Iterable[One], count: int = 16) -> Iterator[Read]:
    """What `read` says of each item, in their order, `count` of them being read at once at most."""
    under_way: deque[Future[Read]] = deque()
    with ThreadPoolExecutor(count) as threads:
        try:
            for item in items:
                under_way.append(threads.submit(read, item))
                if len(under_way) == count:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for one in under_way:
                one.cancel()
