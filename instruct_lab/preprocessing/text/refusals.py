"""Regular expressions that find refusals, and phrases in which a model speaks about itself."""

from __future__ import annotations

import re
from collections.abc import Sequence

from instruct_lab.config import LimitedExpression

MAX_CHARACTERS = 400
"""Number of characters at the start of an answer in which built-in refusal patterns are searched."""

_SORRY = r"i(?: a|['’])m (?:(?:very|really|so|truly|deeply) )?(?:sorry|afraid)|i (?:do )?apologi[sz]e|(?:my )?apologies"
_CANNOT = (
    r"(?:can(?:not|['’]?t| not)|could(?: not|n['’]?t)|wo(?:uld not|uldn['’]t|n['’]t)|will not|do(?: not|n['’]t) have "
    r"(?:the (?:ability|capability|capacity)|(?:real-time |direct |any )?access)|(?:am|was|['’]m)(?: just| currently)? "
    r"(?:unable|not (?:able|allowed|permitted|programmed|capable|designed|comfortable)|only able))"
)
_HELP = (
    r"(?:help|assist|aid)(?: you| anyone)?(?: out)?(?: with|ing|[.,!;]|$)|compl(?:y|ete|ying)|fulfil|engag|participat|"
    r"(?:answer|respond|continue|proceed|do (?:that|this|so)\b|carry out|accommodate|satisfy|grant|access|browse)|"
    r"(?:provide|providing|generat|creat|produc|writ|shar|offer|giv|discuss|support|promot|perform|process|translat|"
    r"summari[sz]|view|open|see|determin|recommend|suggest|verify|search|read)(?:e|es|ing|y)?\b"
)
_AI = r"as an? (?:responsible |ethical )?(?:large )?(?:ai|artificial intelligence|language)\b[^.\n]{0,60}?,? "
_DES = r"d[ée]sol[ée]e?"

REFUSALS: tuple[str, ...] = (
    # English
    rf"(?:(?:{_SORRY}|sorry|unfortunately|regrettably)[,.:;! ]+)(?:but |that )?(?:{_AI})?i ?{_CANNOT}"
    rf"[^.\n]{{0,30}}?\b(?:{_HELP})",
    rf"(?:{_AI})?i ?{_CANNOT}(?: to)? (?:{_HELP})[^.\n]{{0,80}}\b(?:request|question|prompt|instruction|task)s?\b",
    rf"{_AI}i ?{_CANNOT}",
    rf"i ?{_CANNOT} (?:to )?(?:help|assist)(?: you)? with (?:that|this)\b",
    rf"(?:{_SORRY}|sorry)[,.:;! ]+(?:but )?i (?:do not|don['’]t) (?:understand (?:your|the) (?:question|request|prompt)"
    r"|have (?:enough|sufficient) information)",
    # Chinese
    r"(?:我)?(?:非常|很|十分|真的)?(?:抱歉|对不起|不好意思|遗憾)[^。\n]{0,30}?(?:无法|不能|没有办法|没办法|不便|不可以|没有能力)"
    r"[^。\n]{0,20}?(?:提供|回答|满足|完成|帮助|帮|协助|处理|执行|生成|访问|创建|编写|写|参与|讨论|支持|给出|进行|理解)",
    r"(?:作为|身为)[^，,。\n]{0,12}(?:AI|人工智能|语言模型|智能助手)[^。\n]{0,20}(?:无法|不能|没有能力|不具备|不会)",
    r"(?:我)?(?:无法|不能)(?:提供|回答|满足|完成|协助|执行|生成)[^。\n]{0,20}(?:请求|要求|问题|内容|任务)",
    # French
    rf"(?:je suis (?:vraiment |sincèrement |profondément )?{_DES}|{_DES}|je m['’]excuse|je regrette|malheureusement|"
    r"toutes mes excuses)[^.\n]{0,50}?\bje (?:ne (?:peux|puis|saurais|suis)(?: pas)?|n['’]ai pas|suis (?:incapable|"
    r"dans l['’]impossibilité))[^.\n]{0,40}?\b(?:aider|répondre|fournir|accéder|satisfaire|générer|créer|écrire|donner|"
    r"traiter|effectuer|réaliser|assister|discuter|continuer|proposer|produire|partager|capacité)",
    r"en tant qu(?:e |['’])[^,.\n]{0,40}(?:\bia\b|intelligence artificielle|modèle de langage|assistant virtuel)"
    r"[^.\n]{0,20} je (?:ne (?:peux|puis|saurais|suis)|n['’]ai)",
    r"je ne (?:peux|puis) pas (?:vous |t['’])?(?:aider|assister|répondre)[^.\n]{0,20}(?:demande|question|requête|cela)",
)
"""Patterns of the beginnings of answers that decline a request (English, Chinese, French); case is ignored."""

BOILERPLATE: tuple[str, ...] = (
    r"\bas an? (?:responsible |ethical )?(?:ai|artificial intelligence|(?:large )?language)"
    r"(?: (?:language )?(?:model|assistant|chat ?bot|system|program|developed|created|trained|designed)\b|,)",
    r"\bi(?: a|['’])m (?:just |only |merely )?(?:an? )?(?:ai\b|artificial intelligence|large language|language model|"
    r"(?:computer|ai) program)(?! (?:engineer|research|enthusias|scientist|specialist|expert|student|consult))",
    r"\b(?:as of )?my (?:last |latest )?(?:knowledge|training)(?: data)? ?(?:cut-?off|update)\b",
    r"\bi was (?:trained|created|developed|made) by (?:openai|anthropic|google|meta|mistral|alibaba|deepseek)\b",
    r"(?:作为|身为)(?:一个|一名|一款|一种)?(?:大型|大)?(?:AI|人工智能|语言模型)(?:语言)?(?:模型|助手|程序|系统|，|,)",
    r"我(?:只)?是(?:一个|一名|一款|由)?[^，。\n]{0,8}(?:AI|人工智能|语言模型|大模型|智能助手)(?:语言)?(?:模型|助手|程序|系统|，|,|。)",
    r"截至我?(?:的)?(?:最后|最近|知识|训练)[^。\n]{0,8}(?:更新|截止|数据)",
    r"\ben tant qu(?:e |['’])(?:simple |une? |grand )?(?:ia\b|intelligence artificielle|modèle de langage|assistant "
    r"virtuel)(?! générale)",
    r"\bje (?:ne )?suis (?:qu['’])?(?:une? )?(?:simple )?(?:ia\b|intelligence artificielle|modèle de langage)",
)
"""Patterns of phrases in which a model speaks about itself, anywhere in an answer; case is ignored."""

HINTS = (
    *(" ai", "artificial", "language model", "large language", "computer program", "my knowledge", "my training"),
    *("my last", "my latest", "i was ", "人工智能", "模型", "智能助手", "作为ai", "一个ai", "是ai", "身为ai", "截至"),
    *(" ia", "'ia", "’ia", "e ia", "intelligence artificielle", "modèle de langage", "assistant virtuel"),
)
OPENING = re.compile(
    r"[\s\"'“「*_]*(?:i\b|as\b|(?:my )?apolog|sorry|unfortunately|regrettably|je\b|en tant|d[ée]sol|malheur|toutes mes"
    r"|我|很|非常|十分|真的|抱歉|对不起|不好意思|遗憾|作为|身为|无法|不能)",
    re.IGNORECASE,
)
"""Matches the first words of every built-in refusal pattern; a fast check that skips other answers."""


class AnswerPatterns:
    """Finds refusals, and phrases in which the model speaks about itself (boilerplate), in answers.

    The built-in patterns of refusals match only at the start of an answer. All other patterns match anywhere in it.

    Args:
        own_refusals: regular expressions for refusals, in addition to the built-in ones.
        own_boilerplate: regular expressions for boilerplate, in addition to the built-in ones.
    """

    def __init__(self, own_refusals: Sequence[str] = (), own_boilerplate: Sequence[str] = ()) -> None:
        opening = "|".join(REFUSALS)
        self.refusals = re.compile(rf"[\s\"'“「*_]*(?:{opening})", re.IGNORECASE)
        self.boilerplate = re.compile("|".join(BOILERPLATE), re.IGNORECASE)
        self.own_refusals = _compile(own_refusals, "refusal_patterns")
        self.own_boilerplate = _compile(own_boilerplate, "boilerplate_patterns")

    def is_refusal(self, text: str) -> bool:
        """Whether an answer declines the request: one of the patterns of refusals matches it."""
        if OPENING.match(text) and self.refusals.match(text[:MAX_CHARACTERS]):
            return True
        return any(pattern.search(text) for pattern in self.own_refusals)

    def is_boilerplate(self, text: str) -> bool:
        """Whether the model speaks about itself in an answer."""
        lower = text.lower()
        if any(hint in lower for hint in HINTS) and self.boilerplate.search(text):
            return True
        return any(pattern.search(text) for pattern in self.own_boilerplate)


def _compile(patterns: Sequence[str], field: str) -> list[LimitedExpression]:
    return [LimitedExpression(pattern, where=field, ignore_case=True) for pattern in patterns]
