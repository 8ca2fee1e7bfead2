"""Compilation of Jinja templates to Python code that counts its own loop iterations and the sizes of its values.

The compiled code calls the counting functions of `jinja_limits`.
"""

from __future__ import annotations

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame, operators


class LimitedCodeGenerator(CodeGenerator):
    """Generates code that counts the iterations of loops, and the sizes of joined texts, slices and compared values."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        """Generate code that checks the size of a concatenated text before the text is built."""
        self.write("environment.limited_text((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:
        """Generate code that checks the size of a slice."""
        is_slice = isinstance(node.arg, nodes.Slice)
        self.write("environment.limited_value(" if is_slice else "")
        super().visit_Getitem(node, frame)
        self.write(")" if is_slice else "")

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:
        """Generate code that counts the items of compared values, since nested values are compared item by item."""
        self.write("(")
        self._visit_counted(node.expr, frame)
        for operand in node.ops:
            self.write(f" {operators[operand.op]} ")
            self._visit_counted(operand.expr, frame)
        self.write(")")

    def _visit_counted(self, node: nodes.Node, frame: Frame) -> None:
        self.write("environment.limited_operand(")
        self.visit(node, frame)
        self.write(")")

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:
        """Generate code that counts the items of a dictionary's keys, since a tuple as key is hashed item by item."""
        self.write("{")
        for item in node.items:
            self._visit_counted(item.key, frame)
            self.write(": ")
            self.visit(item.value, frame)
            self.write(", ")
        self.write("}")

    def visit_For(self, node: nodes.For, frame: Frame) -> None:
        """Generate code that counts the iterations of a loop."""
        text = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        function = nodes.EnvironmentAttribute("limited_iteration", lineno=node.lineno)
        arguments = [node.iter, nodes.Const(text, lineno=node.lineno)]
        node.iter = nodes.Call(function, arguments, [], None, None, lineno=node.lineno)
        super().visit_For(node, frame)
