"""Judges, which say which of two answers to a prompt is better: a model behind an HTTP server, or a local model.

Input: questions, each with a conversation and two answers. Output: replies, from which verdicts are read. `WinRate` and
`LengthControlledWinRate` compute from the verdicts how good the answers are, and how biased the judge is.
"""

from instruct_lab.metrics.judges.base import Judge, Reply
from instruct_lab.metrics.judges.local import JudgeModel
from instruct_lab.metrics.judges.question import Question, question_text, read_verdict
from instruct_lab.metrics.judges.server import JudgeServer

__all__ = ["Judge", "JudgeModel", "JudgeServer", "Question", "Reply", "question_text", "read_verdict"]
