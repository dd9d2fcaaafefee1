"""Every argument of Lightning's Trainer and of ours, in one table: it takes effect, or is refused with the remedy."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from federations import Watch, data, fit, net
from lightning import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelSummary
from lightning.pytorch.plugins import DoublePrecision, MixedPrecision, Precision
from lightning.pytorch.profilers import SimpleProfiler
from torch import nn
from torch.optim import SGD

import fedlit.federated.loop
from fedlit.algorithms import CoordinateMedian
from fedlit.cli import main
from fedlit.command.trainer import Trainer
from fedlit.core.errors import InputError
from fedlit.data import EMNIST, FederatedData, MNIST5k, SimulatedSensors, Synthetic, Tensors, TorchDataset, Uniform
from fedlit.engines import LoopEngine, TrainerEngine, WorkersEngine
from fedlit.federated import (
    ClientModule,
    Diagnostics,
    FederatedLoop,
    FederatedModule,
    FixedSlow,
    SizeSampling,
)
from fedlit.federated.trainer_settings import warn_of_device

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")

TESTS = Path(__file__).parent
RANKS = "test_ranks.py::test_two_ranks_end_with_the_bits_of_one_process"

# --- Lightning's Trainer ---------------------------------------------------------------------------------------------

#: Refused: a value, and what the remedy names.
REFUSED: dict[str, tuple[Any, str]] = {
    "fast_dev_run": (True, r"trainer\.max_epochs 1"),
    "limit_train_batches": (0.5, r"trainer\.max_epochs the number of rounds"),
    "overfit_batches": (1, r"data\.num_clients"),
    "val_check_interval": (0.5, r"trainer\.check_val_every_n_epoch"),
    "log_every_n_steps": (10, "leave it out"),
    "accumulate_grad_batches": (2, r"data\.batch_size"),
    "gradient_clip_val": (1.0, r"model\.client_clip_norm"),
    "gradient_clip_algorithm": ("norm", r"model\.client_clip_norm"),
    "use_distributed_sampler": (False, "leave it out"),
    "barebones": (True, r"trainer\.enable_checkpointing"),
    "sync_batchnorm": (True, "leave it out"),
    "reload_dataloaders_every_n_epochs": (2, "leave it out"),
    "default_root_dir": ("somewhere", "--logs_dir"),
    "enable_autolog_hparams": (False, r"config\.yaml"),
    "model_registry": ("mine", "leave it out"),
}

#: Takes effect, as the named test shows.
SHOWN: dict[str, str] = {
    "accelerator": "engines/test_gpu.py::test_the_loop_gives_the_references_bits",
    "strategy": RANKS,
    "devices": RANKS,
    "num_nodes": "test_ranks.py::test_two_machines_end_with_the_bits_of_one_process",
    "precision": "federated/test_module.py::test_the_servers_precision_reaches_the_clients",
    "logger": "runs/test_outcome.py::test_clients_and_classes_are_those_of_the_final_model",
    "callbacks": "federated/test_resume.py::test_a_callbacks_changed_argument_is_not_undone_by_the_checkpoint",
    "plugins": "runs/test_checkpoints.py::test_the_trainer_writes_checksums_unless_it_is_given_another_writer",
}


class Watched(ClientModule):
    """Notes what PyTorch is set to within a fit."""

    seen: list[tuple[bool, bool]]

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        self.seen.append((torch.are_deterministic_algorithms_enabled(), torch.is_anomaly_enabled()))
        return super().training_step(*args, **kwargs)


class Halved(ClientModule):
    """Minimises half of the loss."""

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        return super().training_step(*args, **kwargs) / 2


class Server(FederatedModule):
    """Notes the sizes of the batches that it is validated on, and whether in inference mode."""

    client_class = Watched

    def __init__(self) -> None:
        super().__init__(net(), client_optimizer=lambda p: SGD(p, lr=0.1))
        self.seen: list[tuple[int, bool]] = []

    def evaluation_step(self, batch: Any) -> None:
        self.seen.append((len(batch[1]), torch.is_inference_mode_enabled()))
        super().evaluation_step(batch)


def trained(rounds: int = 4, engine: Any = None, **settings: Any) -> lightning.Trainer:
    """A Trainer after ``fit`` with these settings, on 20 held-out examples in batches of 8, 8 and 4."""
    Watched.seen = []
    loop = FederatedLoop(4, seed=0, engine=engine or LoopEngine())
    return fit(Server(), loop, data(eval_batch_size=8), rounds, **settings).trainer


def sizes(trainer: lightning.Trainer) -> list[int]:
    return [size for size, _ in trainer.lightning_module.seen]  # type: ignore[union-attr, operator, misc]


class Never(EarlyStopping):
    """Stops as soon as it may."""

    def __init__(self) -> None:
        super().__init__("global/loss", patience=1, min_delta=100.0)


def takes_max_epochs() -> None:
    assert trained(3).global_step == 3


def takes_min_epochs() -> None:
    assert trained(9, callbacks=[Never()]).global_step == 2
    assert trained(9, callbacks=[Never()], min_epochs=5).global_step == 5


def takes_max_steps() -> None:
    assert trained(9, max_steps=2).global_step == 2


def takes_min_steps() -> None:
    assert trained(9, callbacks=[Never()], min_steps=4).global_step == 4


def takes_max_time() -> None:
    assert trained(100_000, max_time={"seconds": 1}).global_step < 100_000


def takes_limit_val_batches() -> None:
    with pytest.warns(UserWarning, match=r"limit_val_batches is 2: global/\* is measured on 2 of 3 batches"):
        assert sizes(trained(1, limit_val_batches=2)) == [8, 8]
    assert sizes(trained(1, limit_val_batches=0)) == []


def takes_limit_test_batches() -> None:
    trainer = trained(1, limit_test_batches=1)
    trainer.test(trainer.lightning_module, datamodule=data(eval_batch_size=8), verbose=False)
    assert sizes(trainer) == [8, 8, 4, 8]


def takes_limit_predict_batches() -> None:
    trainer = trained(1, limit_predict_batches=1)
    (only,) = trainer.predict(trainer.lightning_module, datamodule=data(eval_batch_size=8))
    assert len(only) == 8


def takes_check_val_every_n_epoch() -> None:
    assert sizes(trained(4, check_val_every_n_epoch=2)) == [8, 8, 4] * 2
    assert sizes(trained(4, check_val_every_n_epoch=None, val_check_interval=2)) == [8, 8, 4] * 2


def takes_num_sanity_val_steps() -> None:
    assert sizes(trained(1, num_sanity_val_steps=2)) == [8, 8, 8, 8, 4]


def takes_enable_checkpointing() -> None:
    assert not trained(1, enable_checkpointing=False).checkpoint_callbacks
    assert trained(1, enable_checkpointing=True).checkpoint_callbacks
    assert list(Path().rglob("*.ckpt"))


def takes_enable_progress_bar() -> None:
    assert trained(1, enable_progress_bar=True).progress_bar_callback
    assert not trained(1, enable_progress_bar=False).progress_bar_callback


def takes_enable_model_summary() -> None:
    callbacks: list[Callback] = trained(1, enable_model_summary=True).callbacks  # type: ignore[attr-defined]
    assert any(isinstance(callback, ModelSummary) for callback in callbacks)


def takes_deterministic() -> None:
    try:
        for engine in (LoopEngine(), TrainerEngine()):
            trained(1, engine, deterministic=True)
            assert Watched.seen
            assert all(deterministic for deterministic, _ in Watched.seen)
    finally:
        torch.use_deterministic_algorithms(False)


def takes_detect_anomaly() -> None:
    for engine in (LoopEngine(), TrainerEngine()):
        trained(1, engine, detect_anomaly=True)
        assert Watched.seen
        assert all(anomaly for _, anomaly in Watched.seen)


def takes_benchmark() -> None:
    before = torch.backends.cudnn.benchmark
    try:
        trained(1, benchmark=True)
        assert torch.backends.cudnn.benchmark
    finally:
        torch.backends.cudnn.benchmark = before


def takes_inference_mode() -> None:
    for mode in (True, False):
        trainer = trained(1, inference_mode=mode, limit_val_batches=0)
        trainer.limit_val_batches = 1.0
        trainer.validate(trainer.lightning_module, datamodule=data(), verbose=False)
        assert {seen for _, seen in trainer.lightning_module.seen} == {mode}  # type: ignore[union-attr, operator, misc]


def takes_profiler() -> None:
    profiler = SimpleProfiler()
    trained(2, profiler=profiler)
    assert len(profiler.recorded_durations["run_training_epoch"]) == 2


#: Takes effect, as these show.
TAKEN: dict[str, Callable[[], None]] = {
    name.removeprefix("takes_"): check for name, check in list(globals().items()) if name.startswith("takes_")
}


def test_the_table_has_every_argument_of_lightnings_trainer_once() -> None:
    known = [*REFUSED, *SHOWN, *TAKEN]
    assert sorted(known) == sorted(set(inspect.signature(lightning.Trainer.__init__).parameters) - {"self"})


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("argument", TAKEN)
@pytest.mark.usefixtures("own_folder")
def test_the_argument_takes_effect(argument: str) -> None:
    TAKEN[argument]()


@pytest.mark.parametrize("argument", REFUSED)
def test_the_argument_is_refused_by_the_commands_trainer_before_anything_is_made(argument: str) -> None:
    value, remedy = REFUSED[argument]
    with pytest.raises(InputError, match=rf"trainer\.{argument} is {value}, but .*{remedy}"):
        Trainer(accelerator="cpu", logger=False, **{argument: value})


@pytest.mark.parametrize("argument", sorted(set(REFUSED) - {"barebones", "default_root_dir"}))
def test_the_argument_is_refused_in_python_at_the_start_of_fit(argument: str) -> None:
    value, remedy = REFUSED[argument]
    with pytest.raises(InputError, match=rf"trainer\.{argument} is {value}, but .*{remedy}"):
        trained(1, **{argument: value})


class OwnPrecision(Precision):
    """Counts steps, in TrainerEngine's Trainers alone if they had it."""

    def optimizer_step(self, *arguments: Any, **named: Any) -> Any:
        return super().optimizer_step(*arguments, **named)


class OwnMixed(MixedPrecision):
    """Takes another type than it says."""

    def autocast_context_manager(self) -> torch.autocast:
        return torch.autocast("cpu", dtype=torch.float16)


@pytest.mark.filterwarnings("ignore:.*is supported for historical reasons")
@pytest.mark.parametrize("precision", ["16-mixed", "16", 16])
def test_the_command_refuses_float16_on_a_cpu_where_lightning_would_take_bfloat16(precision: Any) -> None:
    with pytest.raises(InputError, match=f"precision is {precision}, but float16 is for GPUs.* or give bf16-mixed"):
        Trainer(accelerator="cpu", logger=False, precision=precision)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"min_epochs": 5}, r"min_epochs is 5, but training ends after 4 rounds; lower it"),
        ({"min_steps": 5}, r"min_steps is 5, but training ends after 4 rounds"),
        ({"min_epochs": 3, "max_steps": 2}, r"min_epochs is 3, but training ends after 2 rounds"),
        ({"check_val_every_n_epoch": 0}, r"check_val_every_n_epoch is 0, but it must be at least 1"),
        ({"val_check_interval": "00:00:01:00"}, r"val_check_interval is 60.* s, but a round is one batch"),
        ({"limit_train_batches": 3}, r"limit_train_batches is 3"),
        ({"precision": "64-true"}, r"precision is 64-true, but clients are trained in 32-true"),
        ({"plugins": [DoublePrecision()]}, r"precision is 64-true, but clients are trained in 32-true"),
        ({"plugins": [MixedPrecision("16-mixed", "cpu")]}, r"precision is 16-mixed, but float16 is for GPUs"),
        (
            {"plugins": [OwnPrecision()]},
            r"plugins is OwnPrecision, but not every engine .* give trainer.precision",
        ),
        ({"plugins": [OwnMixed("bf16-mixed", "cpu")]}, r"plugins is OwnMixed, but not every engine calls"),
    ],
)
def test_values_that_mean_nothing_are_refused_with_the_value(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        trained(4, **settings)


def test_a_part_of_the_workers_settings_is_inherited() -> None:
    """Forked workers train under what the Trainer has set: an anomaly in a fit is an error there as well."""
    trained(1, WorkersEngine(workers=2), detect_anomaly=True)


# --- ours ------------------------------------------------------------------------------------------------------------

FEDERATION: dict[str, Any] = {
    "clients_per_round": 3,
    "local_epochs": 1.0,
    "seed": 1,
    "sampling": SizeSampling(),
    "averaging": "uniform",
    "stragglers": FixedSlow(share=0.9),
    "algorithm": CoordinateMedian(),
    "diagnostics": Diagnostics(every=1),
    "engine": TrainerEngine(),
    "tune_allocator": False,
    "max_rejected": "federated/test_screen.py::test_a_run_stops_when_more_than_the_share_diverge",
}
MODEL: dict[str, Any] = {
    "net": net(1),
    "mu": 1.0,
    "client_optimizer": lambda p: SGD(p, lr=0.2),
    "server_optimizer": lambda p: SGD(p, lr=0.5),
    "loss": nn.CrossEntropyLoss(label_smoothing=0.5),
    "client_schedule": "test_schedules.py::test_clients_step_at_the_rate_of_the_round",
    "server_schedule": "test_schedules.py::test_the_server_steps_at_the_rate_of_the_round",
    "client_clip_norm": 0.01,
    "client": Halved,
}
DATA: dict[str, Any] = {
    "partition": Uniform(),
    "num_clients": "data/test_module.py::test_setup_loads_once_and_splits_over_a_hundred_clients_by_default",
    "batch_size": 3,
    "eval_batch_size": 8,
    "seed": "data/test_module.py::test_the_partition_is_addressed_by_the_seed_alone",
    "client_holdout": 0.3,
    "validation_clients": 1,
    "augment": "data/test_augment.py::test_augmentation_changes_the_result_and_its_absence_does_not",
}
#: Of each class of ours its arguments: a value other than the default that changes a run, or the test that shows it.
OURS: dict[type, dict[str, Any]] = {
    FederatedLoop: FEDERATION,
    FederatedModule: MODEL,
    FederatedData: DATA,
    MNIST5k: DATA,
    Tensors: DATA
    | {
        "path": "data/test_tensors.py::test_an_npz_file_keeps_its_own_split_and_names",
        "train": "data/test_tensors.py::test_arrays_are_given_in_python",
        "test": "data/test_tensors.py::test_arrays_are_given_in_python",
        "class_names": "data/test_tensors.py::test_an_npz_file_keeps_its_own_split_and_names",
        "images": "data/test_tensors.py::test_floats_are_images_if_the_file_names_them_images",
        "mean": "data/test_tensors.py::test_measured_mean_and_std_are_those_of_the_training_images",
        "std": "data/test_tensors.py::test_measured_mean_and_std_are_those_of_the_training_images",
        "test_fraction": "data/test_tensors.py::test_a_test_fraction_holds_out_rows_of_every_writer_in_place_of_"
        "the_files_split",
    },
    TorchDataset: DATA
    | {
        "train": "data/test_tensors.py::test_datasets_are_made_only_when_needed_and_made_datasets_are_taken_too",
        "test": "data/test_tensors.py::test_datasets_are_made_only_when_needed_and_made_datasets_are_taken_too",
        "class_names": "data/test_tensors.py::test_an_npz_file_keeps_its_own_split_and_names",
        "images": "data/test_tensors.py::test_floats_are_images_if_the_file_names_them_images",
        "mean": "data/test_tensors.py::test_measured_mean_and_std_are_those_of_the_training_images",
        "std": "data/test_tensors.py::test_measured_mean_and_std_are_those_of_the_training_images",
        "test_fraction": "data/test_tensors.py::test_without_a_split_a_fifth_of_every_class_is_held_out_by_the_seed",
    },
    EMNIST: DATA
    | {
        "root": "data/test_emnist.py::test_the_folder_is_fedlit_data_or_the_users_cache",
        "split": "data/test_emnist.py::test_class_names_are_those_of_the_paper",
        "download": "data/test_emnist.py::test_with_download_off_missing_files_are_named",
    },
    Synthetic: DATA
    | {
        "alpha": "data/test_synthetic.py::test_alpha_and_beta_are_standard_deviations_or_variances",
        "beta": "data/test_synthetic.py::test_alpha_and_beta_are_standard_deviations_or_variances",
        "iid": "data/test_synthetic.py::test_iid_clients_share_one_model_and_have_inputs_around_zero",
        "reading": "data/test_synthetic.py::test_alpha_and_beta_are_standard_deviations_or_variances",
        "test_fraction": "data/test_synthetic.py::test_thirty_clients_hold_their_own_examples_nine_tenths_of_them_for_"
        "training",
    },
    SimulatedSensors: DATA
    | {
        "sensors": "data/test_sensors.py::test_every_client_is_a_site_with_four_fifths_of_its_recordings_for_training",
        "steps": "data/test_sensors.py::test_every_client_is_a_site_with_four_fifths_of_its_recordings_for_training",
        "classes": "data/test_sensors.py::test_every_client_is_a_site_with_four_fifths_of_its_recordings_for_training",
        "recordings": "data/test_sensors.py::test_every_client_is_a_site_with_four_fifths_of_its_recordings_for_"
        "training",
        "test_fraction": "data/test_sensors.py::test_every_client_is_a_site_with_four_fifths_of_its_recordings_for_"
        "training",
        "noise": "data/test_sensors.py::test_sensors_have_their_gain_and_offset_or_nothing_but_noise",
        "spread": "data/test_sensors.py::test_sensors_have_their_gain_and_offset_or_nothing_but_noise",
        "faulty": "data/test_sensors.py::test_sensors_have_their_gain_and_offset_or_nothing_but_noise",
    },
}
#: Of the command, beside sections that are classes': likewise, or what it is refused with.
COMMAND: dict[str, str] = {
    "config": "test_cli.py::test_a_run_is_named_after_its_last_config",
    "name": "test_cli.py::test_a_run_is_named_after_its_last_config",
    "logs_dir": "runs/test_state.py::",
    "version": "runs/test_changes.py::test_a_change_that_is_not_allowed_is_one_line_and_leaves_the_run_unchanged",
    "ckpt_path": "test_resume.py::test_a_run_killed_in_the_middle_of_a_round_ends_with_the_same_bits",
    "seed_everything": "test_cli.py::test_the_options_of_the_federation_take_effect",
    "weights_only": "test_settings.py::test_options_of_commands_that_have_no_effect_are_refused",
    "verbose": "test_settings.py::test_a_test_says_nothing_where_it_is_not_to",
    "return_predictions": "test_settings.py::test_options_of_commands_that_have_no_effect_are_refused",
}


def is_name(value: Any) -> bool:
    """Whether a test is named in place of a value."""
    return isinstance(value, str) and "::" in value


def arguments_of(owner: type) -> set[str]:
    """Named arguments of a class, of bases that it hands keywords on to included."""
    found: set[str] = set()
    for base in owner.__mro__:
        if "__init__" in vars(base) and base is not object:
            parameters = inspect.signature(base.__init__).parameters.values()  # type: ignore[misc]
            found |= {p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)} - {"self"}
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                break
    return found


@pytest.mark.parametrize("owner", OURS)
def test_the_table_has_every_argument_of_ours(owner: type) -> None:
    assert arguments_of(owner) == set(OURS[owner]), f"{owner.__name__}: how does each argument show?"


@pytest.mark.usefixtures("own_folder")
def test_the_table_has_every_option_of_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("fit", "validate", "test", "predict"):
        with pytest.raises(SystemExit):
            main([command, "--help_all"])
        options = set(re.findall(r"^ +(?:-\w, )?--(\w+)[ .]", capsys.readouterr().out, re.MULTILINE))
        sections = {"trainer", "model", "data", "federation"}
        assert options - sections - {"help", "print_config", "print_shtab"} <= set(COMMAND), command


def test_each_test_that_the_table_names_is_there() -> None:
    tables = [SHOWN, COMMAND, *OURS.values()]
    named = {value for table in tables for value in table.values() if is_name(value)}
    for each in named:
        file, _, name = each.partition("::")
        assert f"def {name}" in (TESTS / file).read_text(), each


def outcome(monkeypatch: pytest.MonkeyPatch, owner: type | None = None, **changed: Any) -> list[Any]:
    """What can be seen of a round with one argument changed."""
    tuned: list[bool] = []
    monkeypatch.setattr(fedlit.federated.loop, "keep_freed_memory", lambda: tuned.append(True))
    of = {FederatedLoop: {}, FederatedModule: {}, FederatedData: {}} | ({owner: changed} if owner else {})
    loop = FederatedLoop(**({"clients_per_round": 4, "seed": 0} | of[FederatedLoop]))
    module = FederatedModule(
        **({"net": net(), "client_optimizer": lambda p: SGD(p, lr=0.1)} | of[FederatedModule]),  # type: ignore[arg-type]
    )
    partition = of[FederatedData].pop("partition", None)
    datamodule = data(**({"batch_size": 4} | of[FederatedData]))
    datamodule.partitioner = partition or datamodule.partitioner
    batches: list[int] = []
    module.register_forward_hook(lambda net, inputs, logits: batches.append(len(logits)))
    if partition:
        datamodule._requested_clients = 6
    watch = Watch()
    fit(module, loop, datamodule, rounds=1, callbacks=[watch])
    metrics = {name: value for name, value in module.logged.items() if not name.endswith(("seconds", "per_second"))}
    return [metrics, tuned, batches, type(watch.session.engine), [p.tolist() for p in module.net.parameters()]]


@pytest.mark.parametrize(
    ("owner", "argument"),
    [
        (owner, argument)
        for owner in (FederatedLoop, FederatedModule, FederatedData)
        for argument, value in OURS[owner].items()
        if not is_name(value)
    ],
)
def test_an_argument_of_ours_changes_a_round(owner: type, argument: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = outcome(monkeypatch)
    assert before == outcome(monkeypatch)
    assert outcome(monkeypatch, owner, **{argument: OURS[owner][argument]}) != before


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Words for a run that has ended."""
    monkeypatch.chdir(tmp_path)
    words = "--trainer.accelerator=cpu --model.net.widths=[2] --model.net.hidden=4".split()
    assert main(["fit", *words, "--trainer.max_epochs=1", "--federation.local_epochs=0.1"]) == 0
    return [*words, "--ckpt_path=last"]


@pytest.mark.parametrize(
    "command", ["fit --weights_only=false", "test --weights_only=true", "predict --return_predictions=false"]
)
def test_options_of_commands_that_have_no_effect_are_refused(
    command: str, run: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    name, option = command.split()
    assert main([name, *run, option]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"fedlit: error: {option.partition('=')[0]}")
    assert line.endswith("; leave it out")


def test_a_test_says_nothing_where_it_is_not_to(run: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["test", *run, "--verbose=false", "--trainer.enable_progress_bar=false"]) == 0
    assert capsys.readouterr().out == ""
    assert list(Path("logs").rglob("test.json"))


@pytest.mark.parametrize(
    ("given", "sees_gpu", "expected"),
    [
        ({}, True, "warn"),
        ({"accelerator": "gpu"}, True, "warn"),
        ({"accelerator": "gpu", "deterministic": False}, True, False),
        ({"accelerator": "gpu", "deterministic": True}, True, True),
        ({"accelerator": "gpu", "benchmark": True}, True, None),  # wants speed
        ({"accelerator": "cpu"}, True, None),
        ({}, False, None),
    ],
)
def test_on_a_gpu_the_command_asks_for_kernels_that_give_the_same_bits_again(
    given: dict[str, Any], sees_gpu: bool, expected: object, monkeypatch: pytest.MonkeyPatch
):
    class MadeError(Exception):
        pass

    def make(self: object, **kwargs: object) -> None:
        raise MadeError(kwargs.get("deterministic"))

    monkeypatch.setattr(lightning.Trainer, "__init__", make)
    monkeypatch.setattr("fedlit.command.trainer.torch.cuda.is_available", lambda: sees_gpu)
    monkeypatch.setattr("fedlit.command.trainer._check_gpu", lambda accelerator: None)
    with pytest.raises(MadeError) as made:
        Trainer(**({"precision": "32-true"} | given))
    assert made.value.args == (expected,)


def test_a_kind_of_device_that_was_never_tried_is_named() -> None:
    with pytest.warns(UserWarning, match="not been run on devices of the kind mps.*trainer.accelerator cpu"):
        warn_of_device(torch.device("mps"))
    warn_of_device(torch.device("cuda", 0))  # warnings are errors in these tests
