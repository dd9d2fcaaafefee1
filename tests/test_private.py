"""Private parts of other packages are used in three files, which say why, and what they use is there."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import SingleDeviceStrategy

import fedlit

ROOT = Path(fedlit.__file__).parent
#: The files that use private parts, and the packages that these are of.
FILES = {
    "core/private_torch.py": ("torch",),
    "core/private_lightning.py": ("lightning",),
    "command/private.py": ("jsonargparse", "lightning"),
}
#: Public in spite of their names: of named tuples, of ``os``, and a family that PyTorch documents.
ALLOWED = ("_replace", "_asdict", "_fields", "_exit", "_foreach_")

MODULES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in ROOT.rglob("*.py")}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name.isidentifier() and name != "_"


def defined() -> set[str]:
    """Private names that are ours: of functions, classes, variables and attributes that are set."""
    found: set[str] = set()
    for node in (node for tree in MODULES.values() for node in ast.walk(tree)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return {name for name in found if is_private(name)}


def foreign(tree: ast.Module, ours: set[str]) -> Iterator[str]:
    """Private names of others that a module reads, imports or looks up by a text."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Attribute):
            names = [node.attr]
        elif isinstance(node, ast.ImportFrom):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [part for alias in node.names for part in alias.name.split(".") if part != "_thread"]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr", "hasattr"):
            names = [part.value for part in node.args if isinstance(part, ast.Constant) and isinstance(part.value, str)]
        yield from (name for name in names if is_private(name) and name not in ours and not name.startswith(ALLOWED))


def overrides(name: str) -> set[str]:
    """Private methods of a module's classes that a base of another package has."""
    path = f"fedlit.{name.removesuffix('.py').replace('/', '.')}".removesuffix(".__init__")
    module = pytest.importorskip(path, reason="a package that only an extra brings", exc_type=ModuleNotFoundError)
    return {
        f"{each.__name__}.{method}"
        for each in vars(module).values()
        if isinstance(each, type) and each.__module__ == module.__name__
        for method, function in vars(each).items()
        if is_private(method) and inspect.isfunction(function) and function.__code__.co_filename.startswith(str(ROOT))
        for base in each.__mro__[1:]
        if not base.__module__.startswith("fedlit") and method in vars(base)
    }


@pytest.mark.parametrize("name", sorted(MODULES.keys() - FILES.keys() - {"__main__.py", "report/__main__.py"}))
def test_a_module_uses_no_private_part_of_another_package(name: str) -> None:
    found = {*foreign(MODULES[name], defined()), *overrides(name)}
    assert not found, (
        f"{name} uses {sorted(found)}; give it a plain name in one of {', '.join(FILES)}, and say why there"
    )


def trainer() -> Any:
    return lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)


def action() -> Any:
    parser = ArgumentParser()
    parser.add_argument("--a", type=list[int])
    return parser


def module(path: str) -> Callable[[], Any]:
    return lambda: importlib.import_module(path)


#: Each private name and what has it.
RELIED_ON: dict[str, Callable[[], Any]] = {
    "_BatchNorm": module("torch.nn.modules.batchnorm"),
    "_DropoutNd": module("torch.nn.modules.dropout"),
    "_ops": lambda: torch,
    "_C": lambda: torch,
    "_functorch": lambda: torch._C,
    "_python_dispatch": module("torch.utils"),
    "_get_current_dispatch_mode": module("torch.utils._python_dispatch"),
    "_unsafe_view": lambda: torch.ops.aten,
    "_schema": lambda: torch.ops.aten.add_.Tensor,
    "_len_torch_dispatch_stack": lambda: torch._C,
    "_len_torch_function_stack": lambda: torch._C,
    "_forward_hooks": torch.nn.Identity,
    "_forward_pre_hooks": torch.nn.Identity,
    "_backward_hooks": torch.nn.Identity,
    "_backward_pre_hooks": torch.nn.Identity,
    "_post_accumulate_grad_hooks": lambda: torch.nn.Parameter(torch.zeros(1)),
    "_buffers": torch.nn.Identity,
    "_compiled_call_impl": torch.nn.Identity,
    "_global_forward_hooks": module("torch.nn.modules.module"),
    "_global_forward_pre_hooks": module("torch.nn.modules.module"),
    "_global_backward_hooks": module("torch.nn.modules.module"),
    "_global_backward_pre_hooks": module("torch.nn.modules.module"),
    "_get_file_writer": lambda: module("torch.utils.tensorboard")().SummaryWriter,
    "_FitLoop": module("lightning.pytorch.loops"),
    "_TrainingEpochLoop": module("lightning.pytorch.loops"),
    "_SubprocessScriptLauncher": module("lightning.pytorch.strategies.launchers"),
    "_PRECISION_INPUT": module("lightning.pytorch.trainer.connectors.accelerator_connector"),
    "_CheckpointConnector": module("lightning.pytorch.trainer.connectors.checkpoint_connector"),
    "_accelerator_connector": trainer,
    "_layer_sync": lambda: trainer()._accelerator_connector,
    "_val_check_time_interval": trainer,
    "_model_registry": trainer,
    "_batches_that_stepped": lambda: trainer().fit_loop.epoch_loop,
    "_compiler_ctx": lightning.LightningModule,
    "_version": lambda: CSVLogger("logs"),
    "_checkpoint_io": lambda: SingleDeviceStrategy("cpu"),
    "_actions": ArgumentParser,
    "_subcommands_action": ArgumentParser,
    "_typehint": lambda: action()._actions[-1],
    "_check_value_key": lambda: ArgumentParser,
    "_parse_common": lambda: ArgumentParser,
    "_set_seed": lambda: LightningCLI,
    "_run_subcommand": lambda: LightningCLI,
    "_parse_ckpt_path": lambda: LightningCLI,
    "_dump_config": lambda: LightningCLI,
}


@pytest.mark.parametrize("name", RELIED_ON)
def test_the_private_parts_that_are_used_exist(name: str) -> None:
    has = True
    try:
        owner = RELIED_ON[name]()
        has = hasattr(owner, name)
    except (ImportError, AttributeError) as error:
        owner, has = error, False
    files = [file for file in FILES if name in (ROOT / file).read_text()]
    here = ", ".join(sorted({f"{package} {version(package)}" for file in files for package in FILES[file]}))
    tested = " ".join(inspect.cleandoc(ast.get_docstring(MODULES[files[0]]) or "").split("\n\n")[1].split())
    assert has, f"no {name} in {owner} ({here}); fedlit/{', '.join(files)} uses it, which says: {tested}"


def test_the_table_lists_all_private_parts_that_are_used() -> None:
    found: set[str] = set()
    for name in FILES:
        found |= set(foreign(MODULES[name], set())) | {each.partition(".")[2] for each in overrides(name)}
    assert found == set(RELIED_ON)
