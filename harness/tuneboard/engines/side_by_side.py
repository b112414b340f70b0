"""Many waits at once: a function asked for every item by a few threads, each result passed on as it comes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(ask: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """Yield the result of every item, in the order in which they are ready.

    Threads take the items in their order, and no more of them once the caller stops reading. They do not keep the
    process alive: what is still waited for when it ends is dropped.

    Args:
        ask: Called in a thread for each item; what it raises ends the iteration and is raised here.
        items: What to ask for.
        threads: At most so many at a time.
    """
    waiting = deque(items)
    total = len(waiting)
    done: SimpleQueue[tuple[Result | None, BaseException | None]] = SimpleQueue()
    stopped = threading.Event()

    def take() -> None:
        while not stopped.is_set():
            try:
                item = waiting.popleft()
            except IndexError:
                return
            try:
                done.put((ask(item), None))
            except BaseException as error:  # raised again where it is seen
                done.put((None, error))

    for number in range(min(threads, total)):
        threading.Thread(target=take, name=f"asks-{number}", daemon=True).start()
    try:
        for _ in range(total):
            result, error = done.get()
            if error is not None:
                raise error
            yield result  # type: ignore[misc]
    finally:
        stopped.set()
