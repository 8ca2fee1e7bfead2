"""Worker processes that take part from the first part on, so that tests do not depend on timing."""

from instruct_lab.cache import parallel


def start_workers_at_once(monkeypatch) -> list[int]:
    """Start one worker with the first part and wait for it; returns a list that collects the parts that it did."""
    numbers, begin, handle = [], parallel.Workers._begin, parallel._Worker.handle
    monkeypatch.setattr(parallel, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(parallel, "num_processes", lambda: 2)

    def begin_and_wait(self, *arguments):
        begin(self, *arguments)
        while any(not worker._is_ready and worker._process.poll() is None for worker in self._workers):
            self._receive(wait=True)

    def handle_and_count(self, number, has_failed, result):
        if number >= 0 and not has_failed:
            numbers.append(number)
        handle(self, number, has_failed, result)

    monkeypatch.setattr(parallel.Workers, "_begin", begin_and_wait)
    monkeypatch.setattr(parallel._Worker, "handle", handle_and_count)
    return numbers
