"""The files of rounds after any end and any resume."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from federations import cnn, data, fit, images, net, two_ranks, weights
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

from fedlit.algorithms import Algorithm, KeepLocal
from fedlit.attention import CBAM, Spatial
from fedlit.core.errors import InputError
from fedlit.core.layout import write_state
from fedlit.core.records import ClientAnswer, ClientUpdate
from fedlit.data import Partition, Partitioner
from fedlit.engines import LoopEngine
from fedlit.federated import FederatedLoop, FederatedModule
from fedlit.runs import AttentionFilm, ClientAccuracy, MetricsTable, Outcome
from fedlit.runs.by_round import ByRound, files_by_round
from fedlit.runs.film import frames_of, skewed_client
from fedlit.runs.gates import gates, shown_inputs
from fedlit.runs.strips import MOST_INPUTS, channel_strip, map_strip, spread_over
from fedlit.schedules import Exponential, Schedule

pytestmark = pytest.mark.filterwarnings("ignore:.*(is not empty|already exists|Experiment logs directory)")


def run(
    folder: Path,
    rounds: int,
    *callbacks: Callback,
    algorithm: Algorithm | None = None,
    resume: str | None = None,
    schedule: Schedule | None = None,
    updates: list[ClientUpdate] | None = None,
    **trainer: object,
) -> FederatedModule:
    """A run of six clients, all of them in each round, with a checkpoint of each round."""

    def hear(answer: ClientAnswer) -> None:
        assert isinstance(answer, ClientUpdate)
        if updates is not None:
            updates.append(answer._replace(weights=answer.weights._replace(floats=answer.weights.floats.clone())))

    loop = FederatedLoop(6, 1, seed=0, algorithm=algorithm, engine=LoopEngine())
    loop.folder = folder
    loop.on_update.append(hear)
    kept = ModelCheckpoint(dirpath=folder / "ckpt", filename="{step}", save_top_k=-1, enable_version_counter=False)
    return fit(
        FederatedModule(cnn(CBAM), mu=0.1, client_schedule=schedule),
        loop,
        images(),
        rounds=rounds,
        callbacks=[*callbacks, kept],
        enable_checkpointing=True,
        ckpt_path=folder / "ckpt" / f"{resume}.ckpt" if resume else None,
        **trainer,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "rounds").glob("*"))}


def test_every_kth_round_and_the_last_one_has_a_file(tmp_path: Path) -> None:
    run(tmp_path, 5, ClientAccuracy(2))
    assert list(files_by_round(tmp_path, "clients_{}.csv")) == [2, 4, 5]
    assert list(files_by_round(tmp_path, "clients_{}.txt")) == []


@pytest.mark.parametrize("callback", [ClientAccuracy, AttentionFilm])
@pytest.mark.parametrize("algorithm", [Algorithm, KeepLocal])
def test_a_resumed_run_has_the_same_files_as_an_uninterrupted_one(
    callback: type[ByRound], algorithm: type[Algorithm], tmp_path: Path
) -> None:
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    run(straight, 5, callback(every=2), algorithm=algorithm())
    run(resumed, 3, callback(every=2), algorithm=algorithm())  # its last round, 3, is no second one
    (resumed / "rounds" / callback.pattern.format("0004")).touch()  # as of a process killed before its checkpoint
    run(resumed, 5, callback(every=2), algorithm=algorithm(), resume="step=3")
    assert len(contents(straight)) == 3
    assert contents(resumed) == contents(straight)


class StopsEarly(Callback):
    """Ends the fit after a round."""

    def __init__(self, round: int) -> None:
        self.round = round

    def on_train_epoch_end(self, trainer: Trainer, *_: object) -> None:
        trainer.should_stop = trainer.global_step == self.round


@pytest.mark.parametrize("callback", [ClientAccuracy, AttentionFilm])
def test_the_last_file_of_a_run_that_stops_early_is_that_of_its_round(callback: type[ByRound], tmp_path: Path) -> None:
    for folder, every, stop in (("whole", 1, 9), ("stopped", 2, 3)):
        callbacks = callback(every=every), StopsEarly(stop)
        run(tmp_path / folder, 4, *callbacks, algorithm=KeepLocal(), schedule=Exponential(0.5))
    whole, stopped = contents(tmp_path / "whole"), contents(tmp_path / "stopped")
    assert list(stopped) == [callback.pattern.format(name) for name in ("0002", "0003")]
    assert stopped.items() <= whole.items()


def test_if_no_round_is_left_files_of_later_rounds_are_removed(tmp_path: Path) -> None:
    run(tmp_path, 3, ClientAccuracy(1))
    run(tmp_path, 2, ClientAccuracy(1), resume="step=2")
    assert list(files_by_round(tmp_path, "clients_{}.csv")) == [1, 2]


def test_a_run_is_the_same_with_them_and_without(tmp_path: Path) -> None:
    watched = run(tmp_path / "a", 3, ClientAccuracy(1), AttentionFilm(), algorithm=KeepLocal())
    assert torch.equal(weights(watched), weights(run(tmp_path / "b", 3, algorithm=KeepLocal())))


def test_two_ranks_write_the_same_files_as_one(tmp_path: Path) -> None:
    for folder, more in (("one", {}), ("two", two_ranks())):
        run(tmp_path / folder, 2, ClientAccuracy(1), AttentionFilm(), algorithm=KeepLocal(), **more)
    assert len(contents(tmp_path / "one")) == 4
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_accuracy_of_the_last_round_is_that_of_the_outcome(tmp_path: Path) -> None:
    run(tmp_path, 2, ClientAccuracy(2), Outcome(tmp_path))
    last = pd.read_csv(tmp_path / "rounds" / "clients_0002.csv")
    outcome = pd.read_csv(tmp_path / "clients.csv")
    assert last.columns.tolist() == ["round", "client", "samples", "skew", "accuracy"]
    pd.testing.assert_frame_equal(last[outcome.columns], outcome)


def test_the_parts_that_a_client_keeps_are_in_its_model(tmp_path: Path) -> None:
    updates: list[ClientUpdate] = []
    module = run(tmp_path, 2, ClientAccuracy(2), algorithm=KeepLocal(), updates=updates)
    federation = images()
    federation.setup()
    measured = pd.read_csv(tmp_path / "rounds" / "clients_0002.csv").set_index("client")["accuracy"]
    for update in updates[-6:]:
        sent = cnn(CBAM)
        write_state(sent, module.layout, update.weights)
        own = {name: value for name, value in sent.state_dict().items() if ".attention." in name}
        model = cnn(CBAM).eval()
        model.load_state_dict(module.net.state_dict() | own)
        rows = federation.partition.client(update.task.client)
        guesses = model(federation.transform(federation.train.inputs[rows])).argmax(-1)
        right = (guesses == federation.train.targets[rows]).double().mean().item()
        assert measured[update.task.client] == pytest.approx(right)


def test_held_out_examples_of_clients_have_a_column_and_scalars(tmp_path: Path) -> None:
    scalars: dict[str, float] = {}

    class Remember(ClientAccuracy):
        def record(self, trainer: Trainer, module: FederatedModule, path: Path) -> None:
            class Logger:
                def log_metrics(self, metrics: dict[str, float], step: int) -> None:
                    scalars.update(metrics)

            trainer.loggers = [Logger()]  # type: ignore[list-item]
            super().record(trainer, module, path)
            trainer.loggers = []

    loop = FederatedLoop(4, 1, seed=0)
    loop.folder = tmp_path
    fit(FederatedModule(net()), loop, data(client_holdout=0.3), rounds=1, callbacks=[Remember(1)])
    table = pd.read_csv(tmp_path / "rounds" / "clients_0001.csv")
    assert table["own_accuracy"].isna().tolist() == [size < 4 for size in (9, 4, 17, 1, 12, 6)]  # 0.3 * n_k < 1
    for name in ("accuracy", "own_accuracy"):
        assert scalars[f"all_clients/{name}_mean"] == pytest.approx(table[name].mean())
        assert scalars[f"all_clients/{name}_p10"] == pytest.approx(np.nanpercentile(table[name], 10))


@pytest.mark.parametrize("algorithm", [Algorithm, KeepLocal])
def test_a_frame_shows_what_the_client_sends_back_in_the_next_round(algorithm: type[Algorithm], tmp_path: Path) -> None:
    updates: list[ClientUpdate] = []
    module = run(tmp_path, 3, AttentionFilm(client=2), algorithm=algorithm(), updates=updates)
    federation = images()
    federation.setup()
    inputs = shown_inputs(federation, 4)
    sent = {update.task.round: update for update in updates if update.task.client == 2}
    frames = frames_of(tmp_path)
    assert list(frames) == [1, 2, 3]
    for round in (1, 2):
        fitted = cnn(CBAM)
        write_state(fitted, module.layout, sent[round].weights)  # its round is counted from 0: it is the next one
        for name, gate in gates(fitted, inputs).items():
            np.testing.assert_allclose(frames[round][f"client/{name}"], gate, atol=1e-3)  # a frame has 16 bits
    for name, gate in gates(module.net, inputs).items():
        np.testing.assert_allclose(frames[3][f"global/{name}"], gate, atol=1e-3)


def test_spatial_and_channel_gates_are_drawn_and_a_new_fit_removes_the_pictures(tmp_path: Path) -> None:
    run(tmp_path, 2, AttentionFilm())
    pictures = [tmp_path / name for name in ("attention_film.png", "channel_gates.png")]
    assert all(picture.is_file() for picture in pictures)
    loop = FederatedLoop(6, 1, seed=0)
    loop.folder = tmp_path
    fit(FederatedModule(cnn(Spatial)), loop, images(), rounds=1, callbacks=[AttentionFilm()])
    assert [picture.is_file() for picture in pictures] == [True, False]


@pytest.mark.parametrize("callback", [ClientAccuracy, AttentionFilm])
@pytest.mark.parametrize("left", ["rounds/{}", "attention_film.png"])
def test_a_new_fit_outside_of_a_run_folder_replaces_nothing(callback: type[ByRound], left: str, tmp_path: Path) -> None:
    """The folder of a Trainer without a logger, by default the current folder."""

    def again(rounds: int, **options: object) -> FederatedModule:
        loop, module = FederatedLoop(6, 1, seed=0, engine=LoopEngine()), FederatedModule(cnn(CBAM))
        return fit(module, loop, images(), rounds, callbacks=[callback(1)], default_root_dir=tmp_path, **options)

    theirs = tmp_path / left.format(callback.pattern.format("0007"))
    theirs.parent.mkdir(exist_ok=True)
    theirs.write_text("theirs")
    if theirs.suffix == ".png" and callback is ClientAccuracy:  # draws nothing
        again(1)
        assert theirs.read_text() == "theirs"
        return
    with pytest.raises(InputError, match=f"{callback.__name__} would replace {theirs} of another fit; give"):
        again(1)
    assert theirs.read_text() == "theirs"
    theirs.unlink()
    again(2)
    with pytest.raises(InputError, match="would replace"):
        again(2)


def test_a_network_without_gates_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loop = FederatedLoop(4, 1, seed=0)
    loop.folder = tmp_path
    fit(loop=loop, rounds=1, callbacks=[AttentionFilm()])
    assert "no gates to follow" in capsys.readouterr().err
    assert not (tmp_path / "rounds").exists()


class Kept(nn.Module):
    """A spatial gate by a method."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(2, 1, 1)

    def gate(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs).sigmoid()  # type: ignore[no-any-return]

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.gate(inputs)


class Part(nn.Module):
    """A spatial gate by a module."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Conv2d(2, 1, 1), nn.Sigmoid())

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.gate(inputs)  # type: ignore[no-any-return]


SHARED = nn.Sigmoid()


class Activation(nn.Module):
    """What is called a gate is the function at its end, as in timm; here it is the same one in all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.gate = nn.Conv2d(2, 1, 1), SHARED

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.gate(self.layer(inputs))  # type: ignore[no-any-return]


class Scaled(Part):
    """Its gate gets something else than its input, and is changed in place afterwards."""

    def forward(self, inputs: Tensor) -> Tensor:
        gate = self.gate(3 * inputs - 1)
        output = inputs * gate
        gate.zero_()
        return output  # type: ignore[no-any-return]


class Around(nn.Module):
    """Calls a gate by the name of its argument."""

    def __init__(self, inner: nn.Module, named: bool) -> None:
        super().__init__()
        self.inner, self.named = inner, named

    def forward(self, inputs: Tensor) -> Tensor:
        return self.inner(inputs=inputs) if self.named else self.inner(inputs)  # type: ignore[no-any-return]


GATED = [Kept, Part, Activation, Scaled]


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("kind", GATED)
def test_gates_of_ones_own_are_found_however_they_are_called(kind: type[nn.Module], named: bool) -> None:
    inputs = torch.randn(3, 2, 4, 5)
    net = Around(kind(), named)
    found = gates(net, inputs)
    assert list(found) == ["inner"]
    with torch.no_grad():
        np.testing.assert_allclose(found["inner"] * inputs.numpy(), net(inputs).numpy(), rtol=1e-5)


@pytest.mark.parametrize("kind", GATED)
def test_each_call_of_a_gate_has_its_own(kind: type[nn.Module]) -> None:
    shared, inputs = kind(), torch.randn(3, 2, 4, 5)
    found = gates(nn.Sequential(shared, kind(), shared), inputs)
    assert list(found) == ["0", "1", "0, call 2"]
    x = inputs.numpy() * found["0"] * found["1"]
    with torch.no_grad():
        np.testing.assert_allclose(x * found["0, call 2"], shared(torch.from_numpy(x)).numpy(), rtol=1e-5)


@pytest.mark.parametrize("whole", [True, False], ids=["net", "part"])
def test_the_gates_of_a_compiled_network_are_found_each_time(whole: bool) -> None:
    inputs, net = torch.randn(3, 2, 4, 5), Around(Kept(), named=False)
    expected = gates(net, inputs)["inner"]
    if whole:
        net = torch.compile(net, backend="eager")  # type: ignore[assignment]
    else:
        net.inner = torch.compile(net.inner, backend="eager")  # type: ignore[assignment]
    compiled = net if whole else net.inner
    net.eval()
    for _ in range(2):
        with torch.no_grad():
            net(inputs)
        found = gates(net, inputs)
        assert list(found) == ["inner"]
        np.testing.assert_allclose(found["inner"], expected)
    assert compiled is (net if whole else net.inner)
    assert hasattr(compiled, "_orig_mod")


def test_random_gates_are_the_same_each_time_and_take_no_draw() -> None:
    class Noisy(Kept):
        def gate(self, inputs: Tensor) -> Tensor:
            return super().gate(inputs + torch.randn_like(inputs))

    net, inputs, before = Around(Noisy(), named=False), torch.randn(3, 2, 4, 5), torch.get_rng_state()
    first, second = gates(net, inputs)["inner"], gates(net, inputs)["inner"]
    np.testing.assert_array_equal(first, second)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("values", "ends"), [([0.2, 0.8], (0, 1)), ([-3.0, 0.5], (-3, 1)), ([0.5, 2.0], (0, 2))])
def test_the_colours_go_from_0_to_1_or_as_far_as_the_gate(values: list[float], ends: tuple[float, float]) -> None:
    gate = np.array([*values, np.nan, np.inf], dtype=np.float32)
    maps, channels = gate.reshape(1, 1, 2, 2), gate.reshape(1, 4, 1, 1)
    with warnings.catch_warnings(action="ignore"):  # of matplotlib, of the layout
        for figure in (
            map_strip({1: {"global/gate": maps}}, {"global": "the model"}),
            channel_strip({1: {"global/gate": channels}}, {"global": "the model"}),
        ):
            drawn = [each for axes in figure.axes[:-1] for each in (*axes.images, *axes.collections)]
            assert [each.get_clim() for each in drawn] == [ends]


def test_many_inputs_are_kept_and_a_few_drawn() -> None:
    frame = {"images": np.zeros((40, 4, 4)), "global/gate": np.zeros((40, 1, 4, 4))}
    with warnings.catch_warnings(action="ignore"):  # of matplotlib, of the layout
        figure = map_strip({1: frame}, {"global": "the model"})
    assert len(figure.axes) == MOST_INPUTS * 2 + 1  # inputs and gates, and the bar of colours


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (
            ClientAccuracy(2),
            ClientAccuracy(3),
            r"two callbacks that write rounds/clients_NNNN.csv \(one is a ClientAccuracy",
        ),
        (AttentionFilm(client=0), AttentionFilm(client=3), r"two callbacks that write rounds/attention_NNNN.npz"),
    ],
    ids=["accuracy", "film"],
)
def test_two_that_would_replace_each_others_files_are_refused(
    first: ByRound, second: ByRound, said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said):
        run(tmp_path, 1, first, second)


def test_the_skewed_client_is_not_a_small_one() -> None:
    federation = images((2, 8, 9))  # labels go round: the smallest has two of three classes
    federation.setup()
    assert skewed_client(federation) == 1  # 3, 2 and 3 of the classes; the largest has an even mix


@pytest.mark.parametrize(
    ("callback", "said"),
    [
        (lambda: ClientAccuracy(0), "every must be at least 1, got 0"),
        (lambda: ClientAccuracy(2.5), r"every must be a whole number, got 2\.5"),  # type: ignore[arg-type]
        (lambda: AttentionFilm(client=1.0), r"client must be a whole number, got 1\.0"),  # type: ignore[arg-type]
        (lambda: AttentionFilm(digits=0), "digits must be at least 1, got 0"),
        (lambda: AttentionFilm(client=6), "client must be from 0 to 5, got 6"),
    ],
)
def test_invalid_arguments_are_refused(callback: object, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        run(tmp_path, 1, callback())  # type: ignore[operator]


class Emptying(MetricsTable):
    """A logger that takes away what it is told."""

    def log_metrics(self, metrics, step=None):
        metrics.clear()


def test_a_logger_that_changes_the_metrics_does_not_change_those_of_others(tmp_path: Path) -> None:
    run(tmp_path, 1, ClientAccuracy(1), logger=[Emptying(None), MetricsTable(tmp_path / "metrics.csv")])
    assert {"all_clients/accuracy_mean", "global/accuracy"} <= set(pd.read_csv(tmp_path / "metrics.csv").columns)


class FirstHasNone(Partitioner):
    """All examples are at the last client."""

    def split(self, labels, num_clients, rng, groups=None):
        return Partition.from_assignment(np.full(len(labels), num_clients - 1), num_clients)


def test_clients_without_examples_are_measured_as_such_and_not_filmed(tmp_path: Path) -> None:
    """A film of one used to wait for its first batch for ever."""

    def train(*callbacks: Callback) -> None:
        loop, federation = FederatedLoop(2, 1, seed=0, engine=LoopEngine()), images()
        loop.folder, federation.partitioner, federation._requested_clients = tmp_path, FirstHasNone(), 2
        fit(FederatedModule(cnn(Spatial)), loop, federation, rounds=1, callbacks=list(callbacks))

    with pytest.raises(InputError, match=r"AttentionFilm.client is 0, which has no examples .*; give another"):
        train(AttentionFilm(client=0))
    train(AttentionFilm(), ClientAccuracy(1))
    assert len(frames_of(tmp_path)) == 1
    assert pd.read_csv(tmp_path / "rounds" / "clients_0001.csv").accuracy.isna().tolist() == [True, False]


def test_the_first_and_the_last_round_are_among_those_shown() -> None:
    assert spread_over([1, 2, 3], 8) == [1, 2, 3]
    assert spread_over(range(1, 101), 4) == [1, 34, 67, 100]
