"""Wrong configs, command lines and data files, as data: what is given, and how it has to end."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Maker = Callable[[Path], object]


class Case(NamedTuple):
    """A command line and the files that it meets.

    Attributes:
        name: Says what is wrong.
        words: What follows ``fedlit``.
        said: A regular expression of what the one line has to say; None where it has to work; "" where both is right.
        files: What is written before, by path: text, bytes, or what makes it.
    """

    name: str
    words: list[str]
    said: str | None
    files: Mapping[str, str | bytes | Maker] = {}


def arrays(num: int = 80, side: int = 8, **changes: Any) -> Maker:
    """A file of ``num`` images of four classes; a change to None leaves an array out."""
    draw = np.random.default_rng(0)
    given = {"images": draw.integers(0, 255, (num, side, side), dtype=np.uint8), "labels": np.arange(num) % 4} | changes
    return lambda path: np.savez(path, **{name: array for name, array in given.items() if array is not None})


def idx(num: int, kind: int, *shape: int, promised: int | None = None, body: bytes | None = None) -> bytes:
    """An idx file of zeros; ``promised`` is the number of items that its header tells of."""
    header = struct.pack(f">{2 + len(shape)}I", kind, num if promised is None else promised, *shape)
    return header + (bytes(num * int(np.prod(shape))) if body is None else body)


DATA = "--data fedlit.data.Tensors --data.path tiny.npz --data.num_clients 4".split()
NET = "--model.net fedlit.models.MLP --model.net.hidden [4] --model.net.image_size 8".split()
CNN = (
    "--model.net fedlit.models.EmnistCNN --model.net.widths [2,2,2] --model.net.hidden 4 --model.net.image_size 8"
).split()
RUN = (
    "--trainer.accelerator cpu --trainer.max_epochs 1 --federation.clients_per_round 2 --federation.local_epochs 1 "
    "--federation.engine fedlit.engines.LoopEngine"
).split()
TINY = [*DATA, *NET, *RUN]
ALWAYS: dict[str, str | bytes | Maker] = {"tiny.npz": arrays()}


def fit(name: str, words: str | list[str], said: str | None, **files: str | bytes | Maker) -> Case:
    more = words.split() if isinstance(words, str) else words
    return Case(name, ["fit", *TINY, *more], said, files)


def config(name: str, text: str | bytes | Maker, said: str | None) -> Case:
    return Case(f"config: {name}", ["fit", *TINY, "--config", "file.yaml"], said, {"file.yaml": text})


def npz(name: str, file: bytes | Maker, said: str | None, *words: str) -> Case:
    return Case(f"npz: {name}", ["fit", *TINY, *words], said, {"tiny.npz": file})


def emnist(name: str, said: str, **files: bytes | Maker) -> Case:
    whole = {"train_images": idx(4, 2051, 28, 28), "train_labels": idx(4, 2049), **{}}
    whole |= {"test_images": whole["train_images"], "test_labels": whole["train_labels"]} | files  # type: ignore[dict-item]
    names = {"images": "images-idx3-ubyte", "labels": "labels-idx1-ubyte"}
    paths = {
        f"EMNIST/raw/emnist-digits-{part}-{names[kind]}": content
        for key, content in whole.items()
        for part, kind in [key.split("_")]
        if content
    }
    words = "--data fedlit.data.EMNIST --data.root . --data.split digits --data.download false --data.num_clients 2"
    return Case(f"idx: {name}", ["fit", *words.split(), *RUN], said, paths)


def trace(name: str, text: str | bytes | Maker, said: str | None) -> Case:
    words = "--federation.stragglers fedlit.federated.Trace --federation.stragglers.path trace.csv"
    return Case(f"trace: {name}", ["fit", *TINY, *words.split()], said, {"trace.csv": text})


def study(name: str, text: str | bytes | Maker, said: str) -> Case:
    base = "data: {class_path: fedlit.data.MNIST5k}\n"
    return Case(f"study: {name}", "study --config s.yaml --dry_run".split(), said, {"s.yaml": text, "base.yaml": base})


def report(name: str, text: str | bytes | Maker, said: str, record: str | bytes | Maker | None = None) -> Case:
    files = {"logs2/plain/seed_0/metrics.csv": text} | ({} if record is None else {"logs2/study.json": record})
    return Case(f"report: {name}", ["report", "logs2"], said, files)


def runs(name: str, text: str | bytes | Maker, said: str | None, **files: str | bytes | Maker) -> Case:
    """A folder of one run; its other files by their names, with a _ for each dot."""
    others = {f"logs2/a/version_0/{key.replace('_', '.')}": content for key, content in files.items()}
    return Case(
        f"runs: {name}",
        ["runs", "logs2"],
        said,
        {"logs2/a/version_0/metrics.csv": text, "logs2/a/version_0/config.yaml": "a: 1\n"} | others,
    )


def folder(path: Path) -> None:
    path.mkdir()


def fifo(path: Path) -> None:
    os.mkfifo(path)


def nowhere(path: Path) -> None:
    path.symlink_to("not there")


def cut(maker: Maker, keep: float) -> Maker:
    """The first part of a file, and no more."""

    def write(path: Path) -> None:
        maker(path)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])

    return write


def promising(path: Path) -> None:
    """An .npz whose images' header promises 10^15 of them."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": (10**15, 8, 8)})
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("images.npy", buffer.getvalue())


def without(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("images.npy", b"no array")


FLOATS = np.random.default_rng(0).random((80, 8, 8)).astype(np.float32)


def spoiled(value: float) -> np.ndarray[Any, Any]:
    spoilt = FLOATS.astype(np.float64)
    spoilt[3, 1, 1] = value
    return spoilt


LABELS = np.arange(80) % 4
#: One row of a run's table.
ROW = "round,global/accuracy\n1,0.5\n"
NESTED = "[" * 100_000
DIRICHLET, SHARDS, SKEW = (f"--data.partition fedlit.data.{name}" for name in ("Dirichlet", "Shards", "QuantitySkew"))
MU = "--model.mu fedlit.federated.AdaptiveMu"
OPT = "--model.client_optimizer torch.optim.SGD --model.client_optimizer"
BATCH = [*DATA, *CNN, *RUN, *"--model.net.attention fedlit.attention.CBAM --model.net.attention.norm batch".split()]

CASES = [
    # --- the shape of the command line
    Case("help without a command", ["--help"], None),
    Case("unknown command", ["trian"], "unknown command 'trian'; use one of fit"),
    fit("works", "", None),
    fit("unknown key", "--federation.momentum 1", "momentum: no such option"),
    fit("abbreviated key", "--federation.clients 1", "clients"),
    fit("a word too many", "extra", "extra"),
    fit("a model that is no file", "--model x.yaml", "x.yaml"),
    fit("class of another kind", "--model.net torch.optim.SGD", "torch.optim.SGD"),
    fit("module for a class", "--model.net fedlit.models", "fedlit.models"),
    fit("import of something wrong", "--data os.system", "os.system"),
    fit("unicode key", "--mödel 1", "mödel"),
    fit("a very long value", "--model.mu " + "x" * 5000, "model.mu must be a number"),
    fit("a very long key", "--" + "x" * 5000 + " 1", "no such option"),
    fit("no partition", "--data.partition fedlit.data.Nope", "Nope"),
    fit("engine of another kind", "--federation.engine fedlit.data.Uniform", "Uniform"),
    fit("sampling of another kind", "--federation.sampling fedlit.data.Uniform", "Uniform"),
    fit("algorithm of another kind", "--federation.algorithm fedlit.data.Uniform", "Uniform"),
    # --- a number of classes that the data overrides
    fit("number of classes", "--model.net.num_classes 7", "num_classes is 7 but the data has 4; leave it out"),
    fit("number of channels", "--model.net.in_channels 3", "in_channels is 3 but the data has 1; leave it out"),
    fit("number of classes as the data's", "--model.net.num_classes 4", None),
    # --- where runs go
    fit("name with a slash", "--name a/b", "'a/b'; give another --name"),
    fit("name that climbs", "--name ../x", "'../x'"),
    fit("name of a dot", "--name .", "name of one folder"),
    fit("name with a line break", ["--name", "a\nb"], "name of one folder"),
    fit("name of 300 characters", ["--name", "x" * 300], "at most 200 bytes"),
    fit("name of 100 wide characters", ["--name", "名" * 100], "at most 200 bytes"),
    fit("name in unicode", ["--name", "ü ñ 名"], None),
    fit("name with quotes", ["--name", "a 'b' \"c\""], None),
    fit("version with a slash", "--version a/b", "'a/b'"),
    fit("version of 300 characters", ["--version", "x" * 300], "--version"),
    fit("logs folder that is a file", "--logs_dir tiny.npz", "tiny.npz is a file.* --logs_dir"),
    fit("logs folder below a file", "--logs_dir tiny.npz/x", "tiny.npz is a file"),
    fit("logs folder with a zero byte", ["--logs_dir", "x\0y"], "zero byte"),
    fit("logs folder with a long name", ["--logs_dir", "x" * 300], "--logs_dir"),
    fit("logs folder with spaces", ["--logs_dir", "a b/ü"], None),
    fit("logs folder with markup", ["--logs_dir", "a[/b]"], None),
    fit("logs folder with escape sequences", ["--logs_dir", "a\x1b[2Jb"], None),
    fit("name with markup", ["--name", "m[bold]x"], None),
    fit("logs folder that is a link to nothing", "--logs_dir gone", "gone is a link to not there", gone=nowhere),
    fit("logs folder below a link to nothing", "--logs_dir gone/x", "gone is a link to not there", gone=nowhere),
    fit("name that is a link to nothing", "--logs_dir . --name gone", "link to not there.* --name", gone=nowhere),
    fit("logs folder that is a link to itself", "--logs_dir me", "me is a link to me", me=lambda p: p.symlink_to("me")),
    Case(
        "study: folder that is a link to nothing",
        "study --config s.yaml --logs_dir gone".split(),
        "gone is a link to not there",
        {"s.yaml": "", "gone": nowhere},
    ),
    Case(
        "report: folder that is a link to nothing",
        "report logs2 --out gone".split(),
        "gone is a link to not there.* --out",
        {"logs2/plain/seed_0/metrics.csv": ROW, "gone": nowhere},
    ),
    # --- what is no file: opened, it would never come to an end
    *(
        fit(f"a FIFO as {words}", words, "FIFO|no checkpoint file|is a file", pipe=fifo)
        for words in (
            "--config pipe",
            "--config=pipe",
            "--data pipe",
            "--model pipe",
            "--trainer pipe",
            "--federation=pipe",
            "--model.net pipe",
            "--model.mu pipe",
            "--trainer.logger pipe",
            "--data.partition pipe",
            "--data.path pipe",
            "--ckpt_path pipe",
            "--logs_dir pipe",
        )
    ),
    Case("config: a FIFO in it", ["fit", "--config", "c.yaml"], "FIFO", {"c.yaml": "data: pipe\n", "pipe": fifo}),
    Case("config: a FIFO in a list", ["fit", "--config", "c.yaml"], "FIFO", {"c.yaml": "a: [pipe]\n", "pipe": fifo}),
    *(
        fit(f"{option} that is no text", [f"--{option}", "a\udcffb"], "UTF-8|--version|utf-8|no checkpoint file")
        for option in ("name", "logs_dir", "version", "config", "ckpt_path", "model.net")
    ),
    fit("logs folder elsewhere", "--logs_dir s3://bucket/runs", "folder on this machine, got s3://bucket/runs"),
    *(
        fit(f"precision {precision}", f"--trainer.precision {precision}", f"trainer.precision is {precision}.*32-true")
        for precision in ("64-true", "bf16-true", "16-true")
    ),
    fit(
        "precision of GPUs",
        "--trainer.precision 16-mixed --trainer.accelerator cpu",
        "trainer.precision is 16-mixed, but float16 is for GPUs.*32-true",
    ),
    fit("precision of a package", "--trainer.precision transformer-engine", "transformer_engine.*not met"),
    fit("logger of a package", "--trainer.logger lightning.pytorch.loggers.CometLogger", "comet-ml.*; install it"),
    fit("number of 5,000 digits", f"--model.mu {'9' * 5000}", "model.mu: .*5000 digits"),
    # --- checkpoints
    fit("checkpoint that is none", "--ckpt_path tiny.npz", "tiny.npz is not a complete checkpoint"),
    fit("checkpoint that is missing", "--ckpt_path nope.ckpt", "nope.ckpt"),
    fit("checkpoint that is a folder", "--ckpt_path .", "no checkpoint file"),
    fit("last of no run", "--ckpt_path last", "'last' of a run named 'default'"),
    *(
        Case(f"{verb}: {name}", [verb, *TINY, *words.split()], said)
        for verb in ("validate", "test", "predict")
        for name, words, said in (
            ("no checkpoint", "", "needs a trained model"),
            ("missing", "--ckpt_path nope.ckpt", "nope.ckpt"),
            ("of no run", "--ckpt_path best", "'best' of a run named"),
            ("none", "--ckpt_path tiny.npz", "not a complete checkpoint"),
        )
    ),
    # --- config files
    config("works", "model:\n  mu: 0.1\n", None),
    config("empty", "", "not a config: an empty file"),
    config("only a comment", "# nothing\n", "not a config"),
    config("a list", "- 1\n", "not a config"),
    config("a word", "model", "not a config"),
    config("binary", bytes(range(256)), "file.yaml: not UTF-8"),
    config("latin-1", "name: café\n".encode("latin-1"), "file.yaml: not UTF-8.* save it as UTF-8"),
    config("byte order mark", b"\xef\xbb\xbfmodel:\n  mu: 0.1\n", None),
    config("tabs", "model:\n\tmu: 1\n", "not valid YAML.* line 2"),
    config("a folder", folder, "is a folder"),
    config("a FIFO", fifo, "FIFO"),
    config("two documents", "name: x\n---\nname: y\n", "another document"),
    config("a tag of Python", "name: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
    config("a loop", "model: &a\n  net: *a\n", "alias"),
    config("aliases without end", "".join(
        f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 9) if i else '1'}]\n" for i in range(12)
    ), "alias|values"),
    config("deeply nested", "[" * 5000, "not valid YAML|not a config"),
    config("key that is a number", "1: 2\n", "string"),
    config("key that is null", "null: 2\n", "string"),
    config("key that is a list", "? [1]\n: 2\n", "not valid YAML"),
    config("section twice", "model:\n  mu: 0.5\nmodel:\n  mu: 0.7\n", "file.yaml: model is given 2 times"),
    config("key twice", "model:\n  mu: 0.5\n  mu: 0.7\n", "file.yaml: mu is given 2 times in the mapping at line 2"),
    config("another config", "config: base.yaml\n", "config: .* give several --config"),
    config("unknown section", "modle:\n  mu: 1\n", "modle"),
    config("section that is a list", "model: [1]\n", "model"),
    config("section that is text", "federation: fast\n", "federation"),
    config("nan", "model:\n  mu: .nan\n", "model.mu must be a number, got nan"),
    config("null", "federation:\n  clients_per_round: null\n", "clients_per_round must not be null; leave.* 10"),
    config("zero byte", "model:\n  mu: 0.1\0\n", "file.yaml: not valid YAML: unacceptable character"),
    config("a number of 5,000 digits", f"model:\n  mu: {'9' * 5000}\n", "file.yaml: .*5000 digits"),
    config("half of a character", 'name: "a\\udcff"\n', "file.yaml: not valid YAML"),
    *(
        config(f"null for {section}", f"{section}: null\n", f"file.yaml: {section} must not be null; leave it out")
        for section in ("trainer", "model", "data", "federation", "seed_everything")
    ),
    config("null for the net", "model:\n  net: null\n", "model.net must be given and must not be null"),
    config("key with dots", "model.mu: 0.2\n", None),
    config("key with dots and without", "model: {mu: 0.1}\nmodel.mu: 0.2\n", "model.mu is given 2 times, with dots"),
    config(
        "key with dots within a section",
        "model: {net.hidden: [1], net: {init_args: {hidden: [2]}}}",
        "hidden is given 2 times",
    ),
    config(
        "part of a value that is given as a whole",
        "model: {net: {init_args: {hidden: [2]}}}\nmodel.net: fedlit.models.MLP\n",
        "model.net is given as a whole, and a part of it by model.net.hidden",
    ),
    config(
        "names with dots are no keys",
        "model: {mu: {class_path: fedlit.federated.MuByName, init_args: {names: {layers: 1.0, layers.1: 0.5}}}}\n",
        None,
    ),
    config("date", "model:\n  mu: 2024-99-99\n", "model.mu"),
    Case("config: spaces", ["fit", *TINY, "--config", "a 'b' ü.yaml"], None, {"a 'b' ü.yaml": "name: null\n"}),
    Case("config: missing", ["fit", "--config", "none.yaml"], "none.yaml"),
    # --- .npz files
    npz("works with spaces", lambda path: arrays()(path), None),
    npz("missing", folder, "cannot be read as .npz"),
    npz("a FIFO", fifo, "FIFO"),
    npz("empty", b"", "cannot be read as .npz.*savez"),
    npz("text", b"hello", "cannot be read as .npz"),
    npz("binary", bytes(range(256)) * 9, "cannot be read as .npz"),
    *(npz(f"cut at {keep}", cut(arrays(), keep), "cannot be read as .npz") for keep in (0.1, 0.5, 0.9, 0.99)),
    npz("no array in it", without, "images is not an array"),
    npz("10^15 images promised", promising, "cannot be read as .npz"),
    npz("pickled labels", arrays(labels=np.array([{}] * 80)), "cannot be read as .npz"),
    npz("no images", arrays(images=None), "no array images or inputs"),
    npz("no labels", arrays(labels=None), "no array labels or targets"),
    npz("no images at all", arrays(num=0), "no examples"),
    npz("one image", arrays(num=1), "holds out no example"),
    npz("fewer images than clients", arrays(num=3), "holds out no example"),
    npz("labels of other length", arrays(labels=LABELS[:9]), "80 inputs but 9 targets"),
    npz("labels below 0", arrays(labels=LABELS - 1), "class numbers from 0.*got -1"),
    npz("label of 10^12", arrays(labels=np.where(LABELS == 1, 10**12, LABELS)), "got 1000000000000; renumber"),
    npz("label of 10^5", arrays(labels=np.where(LABELS == 1, 10**5, LABELS)), None),
    npz("labels of uint64", arrays(labels=np.full(80, 2**64 - 1, np.uint64)), "renumber"),
    npz("labels of float", arrays(labels=LABELS / 2), "labels must be one class number for each"),
    npz("labels of text", arrays(labels=LABELS.astype(str)), "labels must be one class number for each"),
    npz("labels of two columns", arrays(labels=np.stack([LABELS] * 2, 1)), "labels must be one class number for each"),
    npz("labels out of named classes", arrays(class_names=np.array(["a", "b"])), "has no name among 2"),
    npz("a class without samples", arrays(labels=np.where(LABELS == 1, 2, LABELS)), None),
    npz("one class", arrays(labels=np.zeros(80, int)), "one class"),
    npz("images of another size", arrays(side=9), r"inputs of shape \(1, 9, 9\).* image_size"),
    npz("images laid flat", arrays(images=np.zeros((80, 64), np.uint8)), r"shape \(64,\)"),
    npz("images of no pixels", arrays(images=np.zeros((80, 0, 0), np.uint8)), "hold no numbers"),
    npz("images of text", arrays(images=np.full((80, 8, 8), "a")), "inputs must be numbers"),
    npz("images of one dimension", arrays(images=np.zeros(80)), "inputs must have shape"),
    npz("images of complex numbers", arrays(images=FLOATS + 1j), "inputs must be numbers"),
    npz("pixels of int64", arrays(images=np.full((80, 8, 8), 255)), "int64 tokens from 255 to 255.* saved as uint8"),
    npz("tokens of uint64", arrays(images=None, inputs=np.full((80, 8), 2**64 - 1, np.uint64)), "int64, got 1844674"),
    npz("float images", arrays(images=FLOATS), None),
    npz("NaN", arrays(images=spoiled(np.nan)), "got nan in row 3"),
    npz("infinity", arrays(images=spoiled(np.inf)), "got inf in row 3"),
    npz("beyond float32", arrays(images=spoiled(1e300)), "got inf in row 3"),
    npz("n_train of all", arrays(n_train=np.array(80)), "n_train is 80 of 80"),
    npz("n_train below 0", arrays(n_train=np.array(-1)), "n_train is -1"),
    npz("n_train of text", arrays(n_train=np.array("many")), "n_train must be one whole number"),
    npz("n_train of NaN", arrays(n_train=np.array(np.nan)), "n_train must be one whole number"),
    npz("n_train of two", arrays(n_train=np.array([1, 2])), "n_train must be one whole number"),
    npz("one class name", arrays(class_names=np.array("a")), "has no name among 1"),
    npz("no groups", arrays(), "no groups to split by", "--data.partition", "fedlit.data.ByGroup"),
    npz("groups of other length", arrays(writers=LABELS[:9]), "9 groups"),
    npz("groups of two dimensions", arrays(writers=LABELS[:, None]), r"groups must have shape \(N,\).* got \(80, 1\)"),
    npz("groups of NaN", arrays(writers=np.where(LABELS == 2, np.nan, LABELS)), "of every input, got nan in row 2"),
    npz("groups of no time", arrays(writers=np.full(80, "NaT", "datetime64[D]")), "got NaT in row 0"),
    npz("two arrays of inputs", arrays(inputs=LABELS[:, None]), "both images and inputs"),
    npz("two arrays of labels", arrays(targets=LABELS), "both labels and targets"),
    npz("two arrays of groups", arrays(writers=LABELS, groups=LABELS), "both writers and groups"),
    npz("an array too many", arrays(ids=LABELS), None),
    npz("odd class names", arrays(class_names=np.array(["=cmd|' /C calc'!A0", "[/b]", "$\\foo$", "\x1b[2J"])), None),
    npz("other number of groups", arrays(writers=LABELS % 3), "3 groups", "--data.partition", "fedlit.data.ByGroup"),
    npz("test set of nothing", arrays(), "holds out no example", "--data.test_fraction", "0.01"),
    fit("path that is missing", "--data.path nope.npz", "nope.npz cannot be read"),
    fit("path that is a folder", "--data.path .", "cannot be read"),
    fit("path with a zero byte", ["--data.path", "x\0y"], "cannot be read"),
    fit("mean of two channels", "--data.mean [0.1,0.2]", "mean has 2 numbers for 1 channels"),
    fit("std of none", "--data.std []", "std"),
    fit("one-class clients", f"{SHARDS} --data.partition.classes_per_client 1", None),
    # --- the Trainer
    fit("no bar", "--trainer.enable_progress_bar false", None),
    fit("no checkpoints", "--trainer.enable_checkpointing false", None),
    fit("no training batches", "--trainer.limit_train_batches 0", "a round is one batch"),
    fit("half a training batch", "--trainer.overfit_batches 0.5", "a round is one batch"),
    fit("validation after 0 batches", "--trainer.val_check_interval 0", "check_val_every_n_epoch"),
    fit("validation after many batches", "--trainer.val_check_interval 9", "check_val_every_n_epoch"),
    fit("accumulated gradients", "--trainer.accumulate_grad_batches 2", "accumulate|[Aa]ccumulation"),
    fit("clipped gradients", "--trainer.gradient_clip_val 1", "is not clipped"),
    fit("no such accelerator", "--trainer.accelerator tpux", "tpux"),
    fit("no such precision", "--trainer.precision 7", "precision must be"),
    fit("no devices", "--trainer.devices 0", "devices"),
    fit("devices of text", "--trainer.devices many", "devices"),
    fit("no such strategy", "--trainer.strategy fast", "fast"),
    fit("no such profiler", "--trainer.profiler fast", "profiler|fast"),
    fit("rounds below none", ["--trainer.max_epochs=-2"], "max_epochs"),
    fit("rounds of a fraction", "--trainer.max_epochs 0.5", "max_epochs must be a whole number"),
    fit("time of text", "--trainer.max_time soon", "max_time|soon"),
    # --- clients
    fit("cohort above the clients", "--federation.clients_per_round 9", "9 but there are 4 clients"),
    fit("more clients than samples", "--data.num_clients 65", "num_clients <= 64"),
    fit("one-sample clients", "--data.num_clients 64", None),
    fit("all clients validate", "--data.validation_clients 4", "leaves none to train"),
    fit("empty clients", "--data.client_holdout 0.99 --data.num_clients 64", None),
    fit("min_samples", "--data.partition fedlit.data.Dirichlet --data.partition.min_samples 99", "num_clients <= 0|99"),
    Case("BatchNorm and clients of one sample", ["fit", *BATCH, "--data.num_clients", "64"], "single example.*Norm"),
    Case("BatchNorm and a last batch of one", ["fit", *BATCH, "--data.batch_size", "15"], "client 0 .* single example"),
    Case("BatchNorm and batches of one", ["fit", *BATCH, "--data.batch_size", "1"], "single example"),
    Case("BatchNorm and fair batches", ["fit", *BATCH, "--data.batch_size", "8"], None),
    Case("too many blocks", ["fit", *DATA, *CNN, *RUN, "--model.net.widths", "[2,2,2,2]"], "too small for 4 blocks"),
    # --- traces
    trace("works", "client,round,epochs\n0,1,0.5\n", None),
    trace("byte order mark", b"\xef\xbb\xbfclient,round,epochs\n0,1,0.5\n", None),
    trace("missing", folder, "cannot read the trace"),
    trace("a FIFO", fifo, "trace.csv: it is not a file but a FIFO"),
    trace("empty", "", "has the columns none"),
    trace("binary", bytes(range(256)), "cannot read the trace"),
    trace("a column missing", "client,round\n0,1\n", "has the columns client, round;"),
    trace("a column twice", "client,client,round,epochs\n0,0,1,1\n", "has the columns"),
    trace("values missing", "client,round,epochs\n0,1\n", "line 2: not three values"),
    trace("a value too many", "client,round,epochs\n0,1,1,9\n", "line 2: not three values"),
    trace("negative epochs", "client,round,epochs\n0,1,-1\n", "line 2.*epochs -1"),
    trace("NaN epochs", "client,round,epochs\n0,1,nan\n", "line 2.*epochs nan"),
    trace("infinite epochs", "client,round,epochs\n0,1,inf\n", "line 2.*epochs inf"),
    trace("epochs of text", "client,round,epochs\n0,1,all\n", "line 2.*all"),
    trace("client of a fraction", "client,round,epochs\n0.5,1,1\n", "line 2.*0.5"),
    trace("client below 0", "client,round,epochs\n-1,1,1\n", "client -1"),
    trace("client that is not there", "client,round,epochs\n4,1,1\n", "names client 4 but there are 4 clients"),
    trace("client of 10^30", f"client,round,epochs\n{10**30},1,1\n", "names client 10000"),
    trace("client of 5,000 digits", f"client,round,epochs\n{'9' * 5000},1,1\n", "line 2"),
    trace("round 0", "client,round,epochs\n0,0,1\n", "rounds from 1"),
    trace("twice", "client,round,epochs\n0,1,1\n0,1,1\n", "line 3.*already"),
    trace("a huge field", "client,round,epochs\n" + "1" * 200_000 + ",1,1\n", "field larger than field limit"),
    trace("a zero byte", b"client,round,epochs\n0,1\x00,1\n", "trace|line 2"),
    # --- idx files
    emnist("missing", "lacks emnist-digits-train-images", train_images=b""),
    emnist("empty", "0 bytes, shorter than a header", test_images=lambda path: path.write_bytes(b"")),
    emnist("half a header", "7 bytes, shorter than a header", train_images=idx(4, 2051, 28, 28)[:7]),
    emnist("wrong magic number", "magic number 2050", train_images=idx(4, 2050, 28, 28)),
    emnist("another type", "magic number 3331", train_images=idx(4, 0x0D03, 28, 28)),
    emnist("truncated", "but the header requires", train_images=idx(4, 2051, 28, 28)[:-1]),
    emnist("too long", "but the header requires", train_labels=idx(4, 2049) + b"1"),
    emnist("10^9 images", "but the header requires", train_images=idx(4, 2051, 28, 28, promised=10**9)),
    emnist("2^32 - 1 images", "but the header requires", train_images=idx(4, 2051, 28, 28, promised=2**32 - 1)),
    emnist("another size", "28 x 27 pixels|27 x 28", train_images=idx(4, 2051, 28, 27)),
    emnist("other number of labels", "3 labels for 4 images", train_labels=idx(3, 2049)),
    emnist("labels out of range", "labels 0..200, not in 0..9", train_labels=idx(4, 2049, body=b"\0\0\0\xc8")),
    emnist("no images", "no images", train_images=idx(0, 2051, 28, 28), train_labels=idx(0, 2049)),
    emnist("a folder", "lacks", train_images=folder),
    emnist("a FIFO", "lacks|FIFO", train_images=fifo),
    emnist("compressed", "magic number", train_images=b"\x1f\x8b" + bytes(2000)),
    # --- studies
    study("empty", "", "s.yaml: not a study"),
    study("a list", "- 1\n", "not a study"),
    study("binary", bytes(range(256)), "s.yaml: not UTF-8"),
    study("a folder", folder, "s.yaml: cannot be read"),
    study("a FIFO", fifo, "s.yaml: cannot be read.*FIFO"),
    study("tabs", "base:\n\tx\n", "not valid YAML"),
    study("a date that is none", "base: 2024-99-99\n", "not valid YAML|base"),
    study("deeply nested", "[" * 5000, "not valid YAML"),
    study("a loop", "base: base.yaml\naxes: &a {x: *a}\n", "alias"),
    study("a key twice", "base: a\nbase: b\n", "base is given 2 times"),
    study("unknown key", "bass: base.yaml\n", "did you mean base"),
    study("no base", "axes: {a: {b: {}}}\n", "base must be a config file"),
    study("base that is missing", "base: none.yaml\n", "config file none.yaml does not exist"),
    study("base that is a list", "base: [1]\n", "base must be a config file"),
    study("no axes", "base: base.yaml\n", "axes must have"),
    study("axes of text", "base: base.yaml\naxes: all\n", "axes must have"),
    study("axis without values", "base: base.yaml\naxes: {a: {}}\n", "axes.a has no named values"),
    study("value with a slash", "base: base.yaml\naxes: {a: {b/c: {}}}\n", "'b/c'"),
    study("value that is null", "base: base.yaml\naxes: {a: {null: {}}}\n", "not as text; write it in quotes"),
    study("seeds below 0", "base: base.yaml\nseeds: [-1]\naxes: {a: {b: {}}}\n", "seeds must be"),
    study("seeds of text", "base: base.yaml\nseeds: many\naxes: {a: {b: {}}}\n", "seeds must be"),
    study("seeds twice", "base: base.yaml\nseeds: [1, 1]\naxes: {a: {b: {}}}\n", "1 is listed 2 times"),
    study("rounds of NaN", "base: base.yaml\nrounds: .nan\naxes: {a: {b: {}}}\n", "rounds must be"),
    study("unknown override", "base: base.yaml\naxes: {a: {b: {model.mux: 1}}}\n", "mux"),
    study("NaN override", "base: base.yaml\naxes: {a: {b: {model.mu: .nan}}}\n", "mu"),
    Case("study: no file", ["study"], "--config|config"),
    Case("study: jobs", "study --config s.yaml --jobs 0".split(), "--jobs must be at least 1", {"s.yaml": ""}),
    # --- reports and lists of runs
    Case("report: no folder", ["report", "none"], "no folder none"),
    Case("report: a file", ["report", "tiny.npz"], "tiny.npz"),
    report("empty table", "", "has a global/accuracy yet"),
    report("binary", bytes(range(256)), "no NAME/seed_K|not a table"),
    report("half a header", "round,glob", "has a global/accuracy yet"),
    report("text for numbers", "round,global/accuracy\nx,y\n", "metrics.csv is not a table"),
    report("no round", "round,global/accuracy\n,0.5\n", "metrics.csv is not a table"),
    Case("runs: no folder", ["runs", "none"], "the folder none does not exist"),
    Case("runs: a file", ["runs", "tiny.npz"], "the folder tiny.npz does not exist"),
    Case("runs: too many words", ["runs", "a", "b"], "b"),
    runs("works", ROW, None),
    runs("text for numbers", "round,global/accuracy\nx,y\n", None),
    runs("binary", bytes(range(256)), None),
    runs("zero bytes", b"round,global/accuracy\n1,\x00\n", None),
    runs("a FIFO for a table", fifo, None),
    runs("broken config", ROW, None, config_yaml=bytes(range(256))),
    runs("a FIFO for a config", ROW, None, config_yaml=fifo),
    runs("a link to nothing for a config", ROW, "no runs under", config_yaml=nowhere),
    runs("a FIFO for a lock", ROW, None, run_lock=fifo),
    *(
        runs(f"record {name}", ROW, None, run_json=record)
        for name, record in {
            "null": "null",
            "a list": "[1]",
            "text": '"finished"',
            "of another state": '{"state": "odd", "rounds": 1, "error": ""}',
            "of odd types": '{"state": "failed", "rounds": [], "error": {}}',
            "deeply nested": NESTED,
            "binary": bytes(range(256)),
            "a FIFO": fifo,
            "a folder": folder,
            "of escape sequences": '{"state": "failed", "rounds": 1, "error": "\\u001b[2J[/b]"}',
        }.items()
    ),
    *(
        Case(
            f"runs: study {name}",
            ["runs", "logs2"],
            None,
            {"logs2/a/seed_0/config.yaml": "a: 1\n", "logs2/a/seed_0/metrics.csv": ROW, "logs2/study.json": record},
        )
        for name, record in {"null": "null", "command": '{"command": 1}', "nested": NESTED, "a FIFO": fifo}.items()
    ),
    *(
        report(f"study {name}", ROW, "study.json is not the record of a study", record)
        for name, record in {"nested": NESTED, "a list": "[1]", "null": "null", "bytes": b"\xff", "FIFO": fifo}.items()
    ),
    report("a FIFO for a table", fifo, "no NAME/seed_K"),
]  # fmt: skip

# --- families: each parameter with each of these ---------------------------------------------------------------------

VALUES = (".nan", "nan", ".inf", "-.inf", "-1", "0", "1e308", "1e-320", str(10**30), "abc", "[]", "{}", "null", "true")

PARTIAL, SLOW = (f"--federation.stragglers fedlit.federated.{name}" for name in ("PartialWork", "FixedSlow"))
ADAM = "--model.client_optimizer torch.optim.Adam"
FEDADAM = "--model.server_optimizer fedlit.optim.FedAdam"
SERVER = "--model.server_optimizer torch.optim.SGD"


def algorithm(name: str) -> str:
    return f"--federation.algorithm fedlit.algorithms.{name}"


#: By words that come before: the parameters that then take a number.
PARAMETERS = {
    "": (
        "data.num_clients data.batch_size data.eval_batch_size data.seed data.client_holdout data.validation_clients "
        "data.test_fraction data.mean data.std federation.clients_per_round federation.local_epochs federation.seed "
        "federation.max_rejected federation.tune_allocator model.mu model.net.hidden model.net.image_size "
        "seed_everything trainer.devices trainer.num_nodes trainer.precision trainer.check_val_every_n_epoch "
        "trainer.log_every_n_steps trainer.num_sanity_val_steps trainer.enable_progress_bar"
    ),
    DIRICHLET: "data.partition.alpha data.partition.min_samples",
    SKEW: "data.partition.sigma",
    SHARDS: "data.partition.classes_per_client",
    PARTIAL: "federation.stragglers.fraction federation.stragglers.drop",
    SLOW: "federation.stragglers.share",
    "--federation.diagnostics fedlit.federated.Diagnostics": "federation.diagnostics.every",
    algorithm("AttentiveAggregation"): "federation.algorithm.temperature",
    algorithm("TrimmedMean"): "federation.algorithm.fraction",
    algorithm("ClippedMean"): "federation.algorithm.norm",
    algorithm("Krum"): "federation.algorithm.attackers federation.algorithm.multi",
    MU: "model.mu.start model.mu.step model.mu.patience model.mu.least model.mu.most",
    OPT.rpartition(" ")[
        0
    ]: "model.client_optimizer.lr model.client_optimizer.momentum model.client_optimizer.weight_decay",
    SERVER: "model.server_optimizer.lr model.server_optimizer.momentum",
    FEDADAM: "model.server_optimizer.lr model.server_optimizer.tau model.server_optimizer.beta1",
    ADAM: "model.client_optimizer.lr model.client_optimizer.eps model.client_optimizer.betas",
}


def families() -> Iterator[Case]:
    """Every parameter with every value: refused, or it works."""
    for before, names in PARAMETERS.items():
        for name in names.split():
            for value in VALUES:
                kind = before.rpartition(".")[2]
                yield fit(f"{name} {kind} = {value[:8]}", [*before.split(), f"--{name}={value}"], "")
