"""A class has its own defaults, tested with foreign classes whose defaults differ from fedlit's."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import strangers
import torch
import yaml
from jsonargparse import Namespace
from torch import nn

from fedlit.cli import main
from fedlit.command.defaults import with_defaults
from fedlit.command.fit import FedlitCLI
from fedlit.command.private import ChangesOfClass

pytestmark = pytest.mark.filterwarnings("ignore:::lightning")  # as the command has it


class Place(NamedTuple):
    """A key of the config, fedlit's class, the foreign class that shares its arguments, and a given argument."""

    key: str
    ours: str
    foreign: type
    given: dict[str, Any]
    built: Callable[[Any], Any]


def made(optimizer: Any) -> Any:
    return optimizer([nn.Parameter(torch.zeros(1))])


NET = "--model.net=strangers.Net"


def gate(config: Any) -> Any:
    return config.model.net.built["attention"](8)


PLACES = [
    Place("model.net", "fedlit.models.EmnistCNN", strangers.Net, {"hidden": 5}, lambda c: c.model.net),
    Place("model.mu", "fedlit.federated.AdaptiveMu", strangers.Rule, {"step": 0.25}, lambda c: c.model.mu),
    Place(
        "model.client_optimizer",
        "torch.optim.SGD",
        strangers.Optimizer,
        {"momentum": 0.25},
        lambda c: made(c.model.client_optimizer),
    ),
    Place(
        "model.server_optimizer",
        "fedlit.optim.FedYogi",
        strangers.Optimizer,
        {"beta1": 0.25},
        lambda c: made(c.model.server_optimizer),
    ),
    Place("model.loss", "torch.nn.CrossEntropyLoss", strangers.Lossy, {"ignore_index": -7}, lambda c: c.model.loss),
    Place("data", "fedlit.data.MNIST5k", strangers.Data, {"batch_size": 4}, lambda c: c.data),
    Place("data.partition", "fedlit.data.Dirichlet", strangers.Partition, {"alpha": 9.0}, lambda c: c.data.partitioner),
    *(
        Place(f"federation.{part}", ours, foreign, given, lambda c, part=part: getattr(c.federation, part))
        for part, ours, foreign, given in (
            ("algorithm", "fedlit.algorithms.TrimmedMean", strangers.Trimmed, {"fraction": 0.25}),
            ("engine", "fedlit.engines.WorkersEngine", strangers.Engine, {"workers": 2}),
            ("sampling", "fedlit.federated.UniformSampling", strangers.Draws, {"kind": "a"}),
            ("stragglers", "fedlit.federated.PartialWork", strangers.Slow, {"drop": False}),
            ("diagnostics", "fedlit.federated.Diagnostics", strangers.Measures, {"every": 4}),
        )
    ),
]
#: A part of a net, which may have been another's default.
GATE = Place("model.net.attention", "fedlit.attention.CBAM", strangers.Gate, {"reduction": 4}, gate)
#: Places that are tried at once, and the words that each time come first.
GROUPS = {
    "parts": (PLACES, []),
    "gate of a net without": ([GATE], [NET]),
    "gate in place of a net's own": ([GATE], ["--model.net=strangers.GatedNet"]),
}
each_group = pytest.mark.parametrize(("places", "first"), GROUPS.values(), ids=list(GROUPS))

OURS, FOREIGN, GIVEN = "ours.yaml", "foreign.yaml", "given.yaml"


def write_configs(places: list[Place]) -> None:
    """Three files: with fedlit's classes, with the foreign ones, and with the foreign ones and an argument."""
    for name in (OURS, FOREIGN, GIVEN):
        tree: dict[str, Any] = {}
        for key, ours, foreign, given, _ in places:
            spec = {"class_path": ours if name == OURS else path_of(foreign)}
            if name == GIVEN:
                spec["init_args"] = dict(given)
            put(tree, key, spec)
        Path(name).write_text(yaml.safe_dump(tree))


def put(tree: dict[str, Any], key: str, spec: dict[str, Any]) -> None:
    """Set a class at a dotted key, inside the arguments of outer classes."""
    *outer, last = key.split(".")
    for name in outer:
        tree = tree.setdefault(name, {})
        if name in ("net", "data"):
            tree = tree.setdefault("init_args", {})
    tree[last] = spec


def path_of(foreign: type) -> str:
    return f"strangers.{foreign.__name__}"


#: How the foreign classes are named, and whether one argument of each is given: from words by key to a command line.
WAYS: dict[str, tuple[Callable[[list[str], list[str]], list[str]], bool]] = {
    "by words": (lambda named, given: named, False),
    "by a config": (lambda named, given: [f"--config={FOREIGN}"], False),
    "by words after a config of ours": (lambda named, given: [f"--config={OURS}", *named], False),
    "by a config after one of ours": (lambda named, given: [f"--config={OURS}", f"--config={FOREIGN}"], False),
    "by words, with an argument": (lambda named, given: [*named, *given], True),
    "by a config, an argument by words": (lambda named, given: [f"--config={FOREIGN}", *given], True),
    "by configs, the last with an argument": (lambda named, given: [f"--config={OURS}", f"--config={GIVEN}"], True),
}


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fedlit"])


class Parsed(FedlitCLI):
    """``fedlit fit`` up to the config, or up to the classes."""

    make = False

    def before_instantiate_classes(self) -> None:
        """Do nothing: there is no folder."""

    def instantiate_classes(self) -> None:
        if self.make:
            super().instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        return None

    def run(self, command: str) -> None:
        """Do nothing."""


class Built(Parsed):
    make = True


def own_defaults(made_by: Callable[..., Any]) -> dict[str, Any]:
    """The arguments with defaults in the signature; tuples become lists, as in YAML."""
    parameters = inspect.signature(made_by).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not each.empty}


def arguments(cli: FedlitCLI, key: str) -> dict[str, Any]:
    """The path and arguments of the class at a key of a config."""
    section = cli.config["fit"]
    *outer, last = key.split(".")
    for name in outer:
        section = section[name]
        section = section["init_args"] if "class_path" in section else section
    found = section[last].as_dict()
    return {"class_path": found["class_path"], **found.get("init_args", {})}


def expected(place: Place, cli: FedlitCLI) -> dict[str, Any]:
    """The foreign class with its own defaults; inner classes are checked at their own keys."""
    inner = {other.key.rpartition(".")[2] for other in PLACES if other.key.startswith(f"{place.key}.")}
    found = {name: value for name, value in arguments(cli, place.key).items() if name in inner}
    return {"class_path": path_of(place.foreign), **own_defaults(place.foreign), **found}


@each_group
@pytest.mark.parametrize(("way", "is_given"), WAYS.values(), ids=list(WAYS))
def test_a_class_has_its_own_defaults_however_it_is_given(
    places: list[Place], first: list[str], way: Callable[..., list[str]], is_given: bool
) -> None:
    write_configs(places)
    named = [f"--{place.key}={path_of(place.foreign)}" for place in places]
    given = [f"--{place.key}.{name}={value}" for place in places for name, value in place.given.items()]
    cli = Parsed(["fit", *first, *way(named, given)])
    for place in places:
        assert arguments(cli, place.key) == expected(place, cli) | (place.given if is_given else {}), place.key


@each_group
def test_a_class_is_built_with_its_own_defaults_and_its_config_builds_it_again(
    places: list[Place], first: list[str]
) -> None:
    cli = Built(["fit", *first, *(f"--{place.key}={path_of(place.foreign)}" for place in places)])
    written = cli.command_parser.dump(cli.config["fit"], skip_none=False)
    Path("config.yaml").write_text(written)
    again = Built(["fit", "--config=config.yaml"])
    for place in places:
        built = place.built(cli.config_init["fit"]).built
        usual = own_defaults(place.foreign) | ({"num_classes": 10} if place.foreign is strangers.Net else {})
        assert built == {name: value for name, value in usual.items() if name in built}
        assert place.built(again.config_init["fit"]).built == built
    again.config["fit"].pop("config")
    assert again.command_parser.dump(again.config["fit"], skip_none=False) == written


def test_the_default_classes_keep_the_defaults_that_fedlit_gives_them() -> None:
    for words in ([], ["--model.client_optimizer=torch.optim.SGD"], ["--model.client_optimizer.momentum=0.9"]):
        found = arguments(Parsed(["fit", *words]), "model.client_optimizer")
        assert (found["class_path"], found["lr"]) == ("torch.optim.SGD", 0.1)
    cli = Parsed(["fit", "--model.client_optimizer=torch.optim.Adam"])
    assert arguments(cli, "model.client_optimizer")["lr"] == 0.001
    assert arguments(cli, "model.server_optimizer")["lr"] == 1.0


# --- a class in place of another -------------------------------------------------------------------------------------


def test_arguments_for_a_replaced_class_are_kept_if_the_new_one_takes_them_and_else_warned_about(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("net.yaml").write_text(
        "model: {net: {class_path: fedlit.models.EmnistCNN, init_args: {hidden: 5, attention: null, in_channels: 1}}}"
    )
    words = ["fit", "--config=net.yaml", NET]
    assert arguments(Parsed(words), "model.net") == {
        "class_path": "strangers.Net",
        **own_defaults(strangers.Net),
        "hidden": 5,
    }
    assert main([*words, "--data.num_clients=9999"]) == 2  # nothing runs
    warning, error = capsys.readouterr().err.splitlines()[-2:]
    assert warning == (
        "fedlit: warning: 'in_channels': 1 was given for fedlit.models.EmnistCNN and is ignored for "
        "strangers.Net, which "
        "has no such argument or does not take this value"
    )
    assert "9999" in error


def test_options_may_come_in_any_order() -> None:
    found = arguments(Parsed(["fit", "--model.net.hidden=5", NET]), "model.net")
    assert found == {"class_path": "strangers.Net", **own_defaults(strangers.Net), "hidden": 5}


# --- classes and channels are the data's -----------------------------------------------------------------------------


@pytest.mark.parametrize("foreign", ["Net", "Needy", "Incurious", "net"])
def test_a_net_gets_the_datas_number_of_classes_if_it_takes_it(foreign: str) -> None:
    cli = Built(["fit", f"--model.net=strangers.{foreign}"])
    built = cli.model.net.built
    assert built.get("num_classes", 10) == 10
    assert built["hidden"] == 300
    assert "num_classes" not in yaml.safe_load(cli.command_parser.dump(cli.config["fit"]))["model"]["net"]["init_args"]


@pytest.mark.parametrize(
    ("net", "default"), [("fedlit.models.EmnistCNN", 47), ("strangers.Net", 3), ("strangers.net", 3)]
)
def test_a_given_number_of_classes_is_checked_even_if_it_is_the_nets_default(
    net: str, default: int, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("given.yaml").write_text(f"model: {{net: {{class_path: {net}, init_args: {{num_classes: {default}}}}}}}")
    for words in (
        [f"--model.net={net}", f"--model.net.num_classes={default}"],
        ["--config=given.yaml"],
    ):
        assert main(["fit", "--trainer.logger=false", *words]) == 2
        said = f"model.net.num_classes is {default} but the data has 10; leave it out, fedlit takes it from the data"
        assert said in capsys.readouterr().err
    assert Built(["fit", f"--model.net={net}", "--model.net.num_classes=10"]).model.net is not None


# --- laying with_defaults, by itself
# ---------------------------------------------------------------------------------------


def spec(path: str, **given: Any) -> Namespace:
    return Namespace(class_path=path, init_args=Namespace(**given))


def test_defaults_complete_a_given_class_at_every_depth() -> None:
    default = spec("a.A", x=1, part=spec("b.B", y=2, z=3))
    assert with_defaults(None, default) is None
    assert with_defaults(spec("c.C", x=5), default) == spec("c.C", x=5)
    assert with_defaults(spec("a.A", x=5), default) == spec("a.A", x=5, part=spec("b.B", y=2, z=3))
    assert with_defaults(spec("a.A", part=spec("b.B", y=7)), default) == spec("a.A", part=spec("b.B", y=7, z=3), x=1)
    assert with_defaults(spec("a.A", part=None), default) == spec("a.A", part=None, x=1)
    assert with_defaults(Namespace(class_path="a.A"), default) == default


def test_a_class_among_ignored_arguments_is_named_by_its_path() -> None:
    log = ChangesOfClass()
    log.debug(
        "Due to class_path change from 'a.A' to 'b.B', discarding init_args: "
        "{'gate': Namespace(class_path='c.C'), 'width': 1}"
    )
    (line,) = log.left_out
    assert line.startswith("'gate': c.C, 'width': 1 was given for a.A and is ignored for b.B, ")
