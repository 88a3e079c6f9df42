"""Chat templates in bounds: the sandbox that renders somebody else's code, in time and memory.

Jinja's own sandbox keeps a template from Python's insides, but not from running for ever or from
growing without end. Three rules close that, each put into the template's syntax tree or its
environment:

- every loop and macro takes a step, and steps and processor time are counted;
- whatever gets a name, is passed, comes back or is put out is weighed: its size written out, shared
  parts as often as they appear;
- what makes much out of little (`*`, `**`, `%`, replace, join, ...) is reckoned before it is done.
"""

from __future__ import annotations

import datetime
import functools
import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

MAX_WEIGHT = 16 * 2**20
"""Of one value, in characters, and of all that is put out."""
ITEM_WEIGHT = 16
"""What a thing in a container counts for, beside its text."""
MAX_STEPS = 500_000
MAX_CPU_S = 2.0
MAX_DEPTH = 64
MAX_OPERANDS = 64
MAX_INT_BITS = 4096
MAX_COUNT = 10_000
"""For arguments that say how many: an indent, a batch, a precision."""
_WIDE = re.compile(r"%[^%a-zA-Z]*(\*|\d{4})|:[^}]*(\{|\d{4})")
"""A format that asks for a width of thousands, or for one given elsewhere."""
_NO_FILTERS = frozenset({"center", "pprint", "random", "urlize", "wordwrap", "xmlattr"})
_NO_METHODS = frozenset({"center", "expandtabs", "ljust", "rjust", "translate", "zfill"})
_COUNTED = frozenset({"batch", "indent", "round", "slice", "tojson", "truncate"})
_CONTAINERS = (list, tuple, Set)


@dataclass(slots=True)
class Budget:
    """What one rendering may still use. clock: of processor time, in seconds."""

    clock: Callable[[], float]
    ends_s: float
    steps: int
    output: int

    def step(self) -> None:
        """Raises SecurityError where steps or time are used up."""
        self.steps -= 1
        if self.steps < 0 or self.clock() > self.ends_s:
            raise SecurityError("it takes too long")


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """What chat templates are compiled for, and rendered in by `render_bounded`."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, *, clock: Callable[[], float] = time.thread_time) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,  # nothing is worked out before a budget is there
            extensions=[loopcontrols, _GenerationTag],
        )
        self._clock = clock
        self._local = threading.local()
        self.binop_table = {**self.binop_table, "+": _add, "*": _multiply, "**": _power, "%": _mod}
        del self.globals["lipsum"]
        for name in list(self.filters):
            if name in _NO_FILTERS:
                del self.filters[name]
            else:
                self.add_filter(name, self.filters[name])

    def add_filter(self, name: str, does: Callable[..., Any]) -> None:
        """Let templates use `does`, held to the bounds."""
        self.filters[name] = self._bounded(name, does)

    def render_bounded(self, template: jinja2.Template, variables: Mapping[str, Any]) -> str:
        """The text that `template` makes of `variables`.

        Raises:
            jinja2.TemplateError: the template's own refusal, or a bound that it broke.
        """
        self._local.budget = Budget(
            clock=self._clock,
            ends_s=self._clock() + MAX_CPU_S,
            steps=MAX_STEPS,
            output=MAX_WEIGHT,
        )
        try:
            return template.render(**variables)
        except (RecursionError, MemoryError) as error:
            raise SecurityError("it nests too deep or grows too large") from error
        finally:
            del self._local.budget

    # What the syntax tree calls.

    def step(self) -> None:
        """A turn of a loop, or a call of a macro."""
        budget: Budget | None = getattr(self._local, "budget", None)
        if budget is not None:
            budget.step()

    def weighed(self, value: Any) -> Any:
        """`value`, which is not too large."""
        weigh(value)
        self.step()
        return value

    def put_out(self, value: Any) -> Any:
        """`value`, on its way out."""
        budget: Budget | None = getattr(self._local, "budget", None)
        weight = weigh(value)
        if budget is not None:
            budget.step()
            budget.output -= weight
            if budget.output < 0:
                raise SecurityError("it puts out too much")
        return value

    # What Jinja calls.

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = _bound_tree(Parser(self, source, name, filename).parse())
        tree.set_environment(self)
        return tree

    def call(self, context: Context, called: Any, /, *args: Any, **kwargs: Any) -> Any:
        """A function, macro or method, held to the bounds."""
        owner, name = getattr(called, "__self__", None), getattr(called, "__name__", "")
        if owner is self:  # what `_bound_tree` put in
            return called(*args)
        self.weighed((args, kwargs))
        if isinstance(owner, str):
            if name in _NO_METHODS:
                raise SecurityError(f"str.{name} is not for templates")
            _reckon(name, owner, args)
        return self.weighed(super().call(context, called, *args, **kwargs))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """`str.format` of a format without great widths."""
        owner, name = getattr(value, "__self__", None), getattr(value, "__name__", "")
        if isinstance(owner, str) and name in ("format", "format_map"):
            check_format(owner)
        return super().wrap_str_format(value)

    def _bounded(self, name: str, does: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(does)
        def bounded(*args: Any, **kwargs: Any) -> Any:
            taken = [_gathered(each) if isinstance(each, Iterator) else each for each in args]
            self.weighed((taken, kwargs))
            if name in _COUNTED:
                _check_counts([*taken, *kwargs.values()])
            own = [each for each in taken if not isinstance(each, _PASSED)]
            if own:
                _reckon_filter(name, own, kwargs)
            return self.weighed(does(*taken, **kwargs))

        return bounded


def special_texts(**tokens: str | None) -> dict[str, str]:
    """Special tokens by what templates call them (`bos_token`, ...); one that there is not is
    undefined to them."""
    return {name: text for name, text in tokens.items() if text is not None}


def template_environment() -> ChatEnvironment:
    """What chat templates are rendered in, as Hugging Face's `apply_chat_template` has it: with
    trim_blocks and lstrip_blocks, raise_exception and strftime_now."""
    environment = ChatEnvironment()
    environment.add_filter("tojson", _to_json)
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without the HTML escapes of Jinja's own filter."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    check_format(form)
    return datetime.datetime.now().strftime(form)


class _GenerationTag(Extension):
    """`{% generation %}` marks the assistant's words for training; here it changes nothing."""

    tags = {"generation"}  # noqa: RUF012 - the base declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The tag's contents."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


_PASSED = (Context, nodes.EvalContext, jinja2.Environment)
"""What Jinja puts before a filter's own arguments."""


def weigh(value: Any, most: int | None = None) -> int:
    """How many characters `value` comes to, written out.

    Raises:
        SecurityError: more than `most`, by default MAX_WEIGHT, or nested without measure.
    """
    most = MAX_WEIGHT if most is None else most
    if isinstance(value, str):
        return _hold(len(value), most)
    total, open_ones = 0, [(value, 0)]
    while open_ones:
        one, depth = open_ones.pop()
        inside: Iterable[Any] = ()
        if isinstance(one, str | bytes):
            total += len(one)
        elif isinstance(one, int):
            total += 1 + one.bit_length() // 8
        elif isinstance(one, Namespace):
            inside = (one._Namespace__attrs,)
        elif isinstance(one, Mapping):
            inside = itertools.chain(one.keys(), one.values())
        elif isinstance(one, _CONTAINERS):
            inside = one
        total += ITEM_WEIGHT
        _hold(total, most)
        if depth > MAX_DEPTH:
            raise SecurityError("a value nests too deep")
        open_ones.extend((each, depth + 1) for each in inside)
    return total


def _hold(weight: int, most: int) -> int:
    if weight > most:
        raise SecurityError(f"a value grows beyond {most} characters")
    return weight


def _gathered(items: Iterator[Any]) -> list[Any]:
    """All of a lazy filter's items, weighed as they come."""
    gathered, left = [], MAX_WEIGHT
    for item in items:
        left -= weigh(item, left) + 1
        gathered.append(item)
    return gathered


def _bound_tree(tree: nodes.Template) -> nodes.Template:
    """Have loops and macros step, and names and output be weighed."""
    for output in tree.find_all(nodes.Output):
        output.nodes = [_called("put_out", _as_value(each)) for each in output.nodes]
    for assign in tree.find_all(nodes.Assign):
        assign.node = _called("weighed", _as_value(assign.node))
    for concat in tree.find_all(nodes.Concat):
        if len(concat.nodes) > MAX_OPERANDS:
            raise SecurityError(f"more than {MAX_OPERANDS} texts are put together at once")
        concat.nodes = [_called("weighed", each) for each in concat.nodes]
    for scope in tree.find_all(nodes.With):
        scope.values = [_called("weighed", each) for each in scope.values]
    for loop in tree.find_all(nodes.For):
        loop.body.insert(0, _stepping(loop))
    for macro in tree.find_all(nodes.Macro):
        macro.body.insert(0, _stepping(macro))
    return tree


def _as_value(node: nodes.Node) -> nodes.Expr:
    if isinstance(node, nodes.TemplateData):
        value = nodes.Const(node.data)
        value.set_lineno(node.lineno)
        return value
    if not isinstance(node, nodes.Expr):
        raise SecurityError(f"{type(node).__name__} is not for templates")
    return node


def _stepping(node: nodes.Stmt) -> nodes.ExprStmt:
    step = nodes.ExprStmt(nodes.Call(nodes.EnvironmentAttribute("step"), [], [], None, None))
    step.set_lineno(node.lineno)
    return step


def _called(method: str, argument: nodes.Expr) -> nodes.Call:
    call = nodes.Call(nodes.EnvironmentAttribute(method), [argument], [], None, None)
    call.set_lineno(argument.lineno or 1)
    return call


def _add(left: Any, right: Any) -> Any:
    if not isinstance(left, int | float):
        _hold(weigh(left) + weigh(right), MAX_WEIGHT)
    return left + right


def _multiply(left: Any, right: Any) -> Any:
    for one, other in ((left, right), (right, left)):
        if isinstance(one, str | list | tuple) and isinstance(other, int):
            _hold((weigh(one) + 1) * max(other, 0), MAX_WEIGHT)
    if isinstance(left, int) and isinstance(right, int):
        _hold_int(left.bit_length() + right.bit_length())
    return left * right


def _power(base: Any, exponent: Any) -> Any:
    if isinstance(base, int) and isinstance(exponent, int):
        _hold_int(base.bit_length() * abs(exponent))
    return base**exponent


def _mod(left: Any, right: Any) -> Any:
    if isinstance(left, str):
        check_format(left)
        weigh((left, right))
    return left % right


def _hold_int(bits: int) -> None:
    if bits > MAX_INT_BITS:
        raise SecurityError(f"a number grows beyond {MAX_INT_BITS} bits")


def check_format(text: str) -> None:
    """Raises SecurityError where a format asks for a great width."""
    if _WIDE.search(text):
        raise SecurityError("a format asks for too much width")


def _check_counts(arguments: Iterable[Any]) -> None:
    if any(isinstance(each, int) and abs(each) > MAX_COUNT for each in arguments):
        raise SecurityError(f"a count is beyond {MAX_COUNT}")


def _reckon(method: str, text: str, arguments: tuple[Any, ...]) -> None:
    """The length of what a method of `text` is about to make."""
    if method == "replace" and len(arguments) >= 2:
        _reckon_replace(text, *arguments[:2])
    elif method == "join" and arguments:
        _reckon_join(arguments[0], text)


def _reckon_filter(name: str, arguments: list[Any], named: Mapping[str, Any]) -> None:
    value, *rest = arguments
    if name == "replace" and len(rest) >= 2:
        _reckon_replace(str(value), *rest[:2])
    elif name == "join":
        _reckon_join(value, rest[0] if rest else named.get("d", ""))
    elif name == "format":
        check_format(str(value))
    elif name == "indent":
        width = rest[0] if rest else named.get("width", 4)
        by = width if isinstance(width, int) else weigh(width)
        _hold(weigh(value) + str(value).count("\n") * by, MAX_WEIGHT)
    elif name == "sum" and not isinstance([*rest[1:], named.get("start", 0)][0], int | float):
        raise SecurityError("sum adds numbers")


def _reckon_replace(text: str, old: Any, new: Any) -> None:
    found = text.count(str(old))
    _hold(len(text) + found * len(str(new)), MAX_WEIGHT)


def _reckon_join(items: Any, between: Any) -> None:
    count = len(items) if isinstance(items, (*_CONTAINERS, str, Mapping)) else 0
    _hold(weigh(items) + count * weigh(between), MAX_WEIGHT)
