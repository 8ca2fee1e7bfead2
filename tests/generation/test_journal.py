"""The answers that a journal keeps are those of an earlier process with the same fingerprint, and of no other."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from instruct_lab.generation.journal import AnswerJournal

BATCHES = st.dictionaries(
    st.tuples(st.integers(0, 50), st.integers(51, 99)),
    st.lists(st.lists(st.integers(0, 2**20), max_size=3), min_size=2, max_size=2),
    max_size=5,
)
quickly = settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])


@quickly
@given(BATCHES, st.integers(0, 400))
def test_whole_lines_survive_a_crash_at_any_byte(tmp_path_factory, batches, num_lost):
    path = tmp_path_factory.mktemp("journal") / "answers.jsonl"
    journal = AnswerJournal(path, "a")
    for indices, answers in batches.items():
        journal.write(indices, answers)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - num_lost] if num_lost else content)
    again = AnswerJournal(path, "a")
    found = {indices: again.read(indices) for indices in batches if again.read(indices) is not None}
    assert found == dict(list(batches.items())[: len(found)])
    if not num_lost:
        assert found == batches
    for indices, answers in batches.items():
        again.write(indices, answers)
    assert all(AnswerJournal(path, "a").read(indices) == answers for indices, answers in batches.items())


@quickly
@given(BATCHES)
def test_answers_of_another_fingerprint_are_removed(tmp_path_factory, batches):
    path = tmp_path_factory.mktemp("journal") / "answers.jsonl"
    journal = AnswerJournal(path, "a")
    for indices, answers in batches.items():
        journal.write(indices, answers)
    assert AnswerJournal(path, "b").num_answers == 0
    assert AnswerJournal(path, "a").num_answers == 0
