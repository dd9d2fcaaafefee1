"""jsonargparse's messages as one line. Common messages are tested in test_cli, rare ones here."""

from __future__ import annotations

from fedlit.command.explain import KeyedError, explain
from fedlit.command.parser import Parser
from fedlit.core.errors import InputError


def parser(*options: str) -> Parser:
    made = Parser()
    for option in options:
        made.add_argument(f"--{option}")
    return made


def test_an_input_error_is_kept_unchanged() -> None:
    error = TypeError("outer")
    error.__cause__ = InputError("alpha must be > 0, got 0; use 0.5")
    assert str(explain("outer", error)) == "alpha must be > 0, got 0; use 0.5"


def test_an_outer_parser_puts_its_key_in_front() -> None:
    error = TypeError("outer")
    error.__cause__ = KeyedError("alpha must be a number, got big")
    assert str(explain('Parser key "data.partition":\n  anything', error)).startswith("data.partition.alpha must be")


def test_if_no_option_is_close_a_few_options_are_all_listed() -> None:
    said = str(explain("Option 'zzz' is not accepted", None, parser("alpha", "min_samples")))
    assert said == "zzz: no such option; use one of alpha, min_samples"


def test_many_options_are_left_to_help() -> None:
    many = parser(*(f"option{letter}" for letter in "abcdefghijklmnop"))
    assert str(explain("Option 'zzz' is not accepted", None, many)) == "zzz: no such option; --help lists them"


def test_a_message_without_a_rule_is_kept_on_one_line() -> None:
    assert str(explain('Parser key "model":\n  something new\n  and more')) == "model: something new and more"
    assert str(explain("something new")) == "something new"


def of_two_types(error: str, value: str) -> str:
    """jsonargparse's message for ``float | Mu``."""
    return (
        'Parser key "model.mu":\n  Does not validate against any of the Union subtypes\n'
        "  Subtypes: [<class 'float'>, <class 'fedlit.mu.Mu'>]\n  Errors:\n    - Expected a <class 'float'>\n"
        f"    - {error}\n  Given value type: <class 'str'>\n  Given value: {value}"
    )


def test_of_errors_for_several_types_the_most_specific_is_shown() -> None:
    assert str(explain(of_two_types("a cause\n      of two lines", "x"))) == "model.mu: a cause of two lines"
    assert str(explain(of_two_types("start must be >= 0", "x"))) == "model.mu.start must be >= 0"
    said = str(explain(of_two_types("Expected a dot import path string: x", "x")))
    assert said == "model.mu must be a number or a class path, got x; write it as package.module.Class"


def test_a_class_that_lacks_methods_is_called_abstract() -> None:
    said = str(explain(of_two_types("Expected an instantiatable class, but is abstract", "my.Rule")))
    assert said == "model.mu: my.Rule is abstract; give a class that defines all abstract methods"


def test_an_argument_that_is_missing_is_named_without_its_command() -> None:
    said = str(explain("the following arguments are required: fit.model.net"))
    assert said == "model.net must be given and must not be null; --help explains it"
