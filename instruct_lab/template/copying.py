"""Prove from the code of a Jinja chat template, where possible, that it copies every message's content unchanged.

With such a template, conversations with the same order of roles are rendered only once, with placeholders instead of
contents. The text of each conversation results from replacing the placeholders by its contents.
"""

from __future__ import annotations

import functools
import re

import jinja2
from jinja2 import nodes

MESSAGES = "messages"
CONTENT = "content"
OWN_TAG = re.compile(r"\{%-?\s*generation\b")  # a tag that transformers adds to Jinja
NEIGHBOURS = ("previtem", "nextitem", "changed")  # attributes of a Jinja loop that give access to other messages


@functools.lru_cache(maxsize=64)
def copies_contents(template: str) -> bool:
    """Whether a template provably outputs the contents of messages unchanged and uses them for nothing else.

    The proof follows the variable `messages` through the template's syntax tree: loops over the list, its elements, and
    the `content` of each element. The only permitted use of a content is to output it, by itself or joined to other
    text. Any other use (a filter, a test, an assignment, a macro, a whole message as a value) makes the result `False`,
    and every conversation then has to be rendered separately.

    Args:
        template: the Jinja template.
    """
    if OWN_TAG.search(template):
        return False
    try:
        tree = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(template)
    except jinja2.TemplateSyntaxError:
        return False
    if any(
        True for _ in tree.find_all((nodes.Macro, nodes.CallBlock, nodes.FilterBlock, nodes.Include, nodes.Extends))
    ):
        return False
    return _Proof(tree).holds


class _Proof:
    def __init__(self, tree: nodes.Template) -> None:
        self._messages = {MESSAGES}  # names of variables that hold a list of messages
        self._elements: set[str] = set()  # names of variables that hold one message
        for loop in tree.find_all(nodes.For):
            if self._is_messages(loop.iter) and isinstance(loop.target, nodes.Name):
                self._elements.add(loop.target.name)
        loops = [loop for loop in tree.find_all(nodes.For) if isinstance(loop.target, nodes.Name)]
        others = {_name(loop) for loop in loops if not self._is_messages(loop.iter)}
        stored = [name.name for name in tree.find_all(nodes.Name) if name.ctx == "store"]
        looped = [_name(loop) for loop in loops]
        named_once = all(stored.count(name) == looped.count(name) for name in self._elements) and not (
            others & self._elements
        )
        uses_neighbours = any(node.attr in NEIGHBOURS for node in tree.find_all(nodes.Getattr))
        self.holds = MESSAGES not in stored and named_once and not uses_neighbours and self._is_safe(tree)

    def _is_safe(self, node: nodes.Node) -> bool:
        """Whether this node of the syntax tree uses contents only to output them, and does not use whole messages."""
        if isinstance(node, nodes.Output):
            return all(self._is_copied(part) for part in node.nodes)
        if isinstance(node, nodes.For) and self._is_messages(node.iter):
            return all(self._is_safe(child) for child in node.iter_child_nodes(exclude=("iter", "target")))
        if self._is_messages(node) or self._is_message(node) or self._is_content(node):
            return False
        key = self._key(node)
        if key is not None and key != CONTENT:  # a role, for example, does not depend on the contents
            return not hasattr(dict, key)  # a method of dict, such as `items`, would return contents too
        if isinstance(node, nodes.Filter) and node.name in ("length", "count") and self._is_messages(node.node):
            return True
        return all(self._is_safe(child) for child in node.iter_child_nodes())

    def _is_copied(self, node: nodes.Node) -> bool:
        if isinstance(node, nodes.Add):
            return self._is_copied(node.left) and self._is_copied(node.right)
        if isinstance(node, nodes.Concat):
            return all(self._is_copied(part) for part in node.nodes)
        return self._is_content(node) or self._is_safe(node)

    def _is_messages(self, node: nodes.Node | None) -> bool:
        if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
            return self._is_messages(node.node)
        return isinstance(node, nodes.Name) and node.name in self._messages

    def _is_message(self, node: nodes.Node) -> bool:
        if isinstance(node, nodes.Getitem) and not isinstance(node.arg, nodes.Slice):
            return self._is_messages(node.node)
        return isinstance(node, nodes.Name) and node.name in self._elements and node.ctx == "load"

    def _key(self, node: nodes.Node) -> str | None:
        """Return the key that a node reads from a message, such as `role` in `message.role`; `None` for other nodes."""
        if isinstance(node, nodes.Getattr) and self._is_message(node.node):
            return node.attr
        if isinstance(node, nodes.Getitem) and self._is_message(node.node) and isinstance(node.arg, nodes.Const):
            return str(node.arg.value)
        return None

    def _is_content(self, node: nodes.Node) -> bool:
        return self._key(node) == CONTENT


def _name(loop: nodes.For) -> str:
    assert isinstance(loop.target, nodes.Name)
    return loop.target.name
