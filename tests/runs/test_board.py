"""What TensorBoard shows of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import metadata

from fedlit.cli import main
from fedlit.runs.board import LAYOUT, PICTURES, in_words, layout, name_of, tag_of

TINY = (
    "--trainer.max_epochs=1 --trainer.accelerator=cpu --model.net.widths=[2] --model.net.hidden=4 --name=tiny "
    "--federation.clients_per_round=2 --federation.local_epochs=0.1 --data.partition Dirichlet"
)


def test_the_curves_of_the_global_model_come_first_and_pictures_last() -> None:
    names = [
        "clients/accuracy_mean",
        "diagnostics/gamma_mean",
        "drift/mean",
        "federation/mu",
        "global/loss",
        "round/seconds",
    ]
    tags = sorted([*map(tag_of, names), f"{PICTURES}partition"])
    assert (tags[0], tags[-1]) == ("Global/loss", "view/partition")
    assert [name_of(tag_of(name)) for name in names] == names
    assert name_of("global/loss") == "global/loss"  # of an earlier version


def test_charts_of_the_clients_held_out_data_are_shown_if_there_is_any() -> None:
    assert list(layout(True)) == list(LAYOUT) == ["Result", "Fairness", "Drift", "Cost"]
    own = [title for title in layout(True)["Fairness"] if title not in layout(False)["Fairness"]]
    assert own == ["accuracy on the clients' own held-out data: mean, 10th to 90th percentile"]


def test_a_vertical_bar_in_a_value_is_escaped() -> None:
    assert "| `name` | a\\|b |" in in_words("a run", {}, {"name": "a|b"}, ["fit"])


def test_a_run_shows_charts_config_and_changed_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", *TINY.split()]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    line = "MNIST5k, 100 clients (Dirichlet 0.5), 2 a round, EmnistCNN, mu 0.01, 1 round"
    assert first.startswith(f"logs/tiny/version_0: {line}, ")
    events = EventAccumulator("logs/tiny/version_0").Reload()
    tags = events.Tags()
    assert {"Global/accuracy", "round/seconds"} <= set(tags["scalars"])
    assert not [tag for tag in tags["scalars"] if tag.startswith("global/")]
    charts = layout_pb2.Layout.FromString(events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    assert [category.title for category in charts.category] == ["Result", "Fairness", "Drift", "Cost"]
    shown = {tag for each in charts.category for chart in each.chart for tag in chart.multiline.tag}
    assert shown - {"drift/attention", "drift/rest"} <= set(tags["scalars"])  # the net has no attention
    (text,) = events.Tensors("run/text_summary")
    assert line in text.tensor_proto.string_val[0].decode()
    assert metadata.EXPERIMENT_TAG not in tags["tensors"]
    start = metadata.parse_session_start_info_plugin_data(
        events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    )
    assert set(start.hparams) == {"widths", "hidden", "clients_per_round", "local_epochs", "partition", "rounds"}
    assert main(["fit", *TINY.split(), "--trainer.max_epochs=2", "--model.mu=0.5", "--ckpt_path=last"]) == 0
    texts = EventAccumulator("logs/tiny/version_0").Reload().Tensors("run/text_summary")
    assert [each.step for each in texts] == [0, 1]
    assert ", mu 0.5, 2 rounds, " in texts[1].tensor_proto.string_val[0].decode()
