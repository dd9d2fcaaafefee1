"""EMNIST: images are upright, labels start at 0, and broken files are named."""

from __future__ import annotations

import string
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from lightning.pytorch import Trainer

from fedlit.core.errors import InputError
from fedlit.data import EMNIST, MNIST5k
from fedlit.data.emnist import default_root

#: The classes of each split as Cohen et al. 2017, section II, lists them.
CLASSES = {
    "byclass": string.digits + string.ascii_uppercase + string.ascii_lowercase,
    "bymerge": string.digits + string.ascii_uppercase + "abdefghnqrt",
    "balanced": string.digits + string.ascii_uppercase + "abdefghnqrt",
    "letters": string.ascii_lowercase,
    "digits": string.digits,
    "mnist": string.digits,
}

DOWNLOAD = "torchvision.datasets.mnist.download_and_extract_archive"


def write_idx(path: Path, array: np.ndarray) -> None:
    """The format of the MNIST files: 0x0800 + dimensions, each dimension, big-endian; then the bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = np.array([0x0800 + array.ndim, *array.shape], dtype=">i4")
    path.write_bytes(header.tobytes() + array.astype(np.uint8).tobytes())


def image_file(root: Path, split: str, part: str) -> Path:
    return root / "EMNIST" / "raw" / f"emnist-{split}-{part}-images-idx3-ubyte"


def label_file(root: Path, split: str, part: str) -> Path:
    return root / "EMNIST" / "raw" / f"emnist-{split}-{part}-labels-idx1-ubyte"


def write_split(root: Path, split: str, first_label: int = 0) -> np.ndarray:
    """12 training and 4 test images of random pixels, labels counting up. Returns the training images."""
    images = np.random.default_rng(0).integers(0, 256, (16, 28, 28))
    for part, rows in (("train", slice(0, 12)), ("test", slice(12, 16))):
        write_idx(image_file(root, split, part), images[rows])
        write_idx(label_file(root, split, part), first_label + np.arange(16)[rows] % 10)
    return images[:12]


def loaded(root: Path, split: str, **kwargs) -> EMNIST:
    data = EMNIST(str(root), split, num_clients=4, **kwargs)
    data.prepare_data()
    data.setup()
    return data


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args, **kwargs) -> None:
        raise URLError("no network")

    monkeypatch.setattr(DOWNLOAD, refuse)


@pytest.mark.parametrize(("split", "classes"), CLASSES.items())
def test_class_names_are_those_of_the_paper(split: str, classes: str) -> None:
    data = EMNIST("nowhere", split)
    assert data.class_names == list(classes)
    assert (data.num_classes, data.in_channels) == (len(classes), 1)


def test_images_are_turned_upright_and_kept_as_uint8(tmp_path: Path) -> None:
    stored = write_split(tmp_path, "mnist")
    train = loaded(tmp_path, "mnist").train
    assert train.inputs.dtype == torch.uint8
    assert train.inputs.is_contiguous()
    np.testing.assert_array_equal(train.inputs, stored.transpose(0, 2, 1)[:, None])
    assert train.targets.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]


def test_letters_count_from_zero(tmp_path: Path) -> None:
    write_split(tmp_path, "letters", first_label=1)
    assert loaded(tmp_path, "letters").train.targets.min() == 0


@pytest.mark.parametrize(("split", "sizes"), [("balanced", (32_900, 4_700)), ("letters", (6_240, 1_560))])
def test_real_files_are_torchvisions_images_transposed(real_data: Path, split: str, sizes: tuple[int, int]) -> None:
    data = loaded(real_data, split, download=False)
    assert (len(data.train), len(data.test)) == sizes
    reference = torchvision.datasets.EMNIST(str(real_data), split, train=False)
    assert torch.equal(data.test.inputs[:, 0].mT, reference.data)
    names = [reference.classes[target] for target in reference.targets]
    assert [data.class_names[target] for target in data.test.targets] == names
    assert data.train.targets.unique().tolist() == list(range(data.num_classes))
    assert abs(data.transform(data.test.inputs).mean()) < 0.01
    assert abs(data.transform(data.test.inputs).std() - 1) < 0.01


def test_real_digits_look_like_mnists_only_when_upright(real_data: Path) -> None:
    """Independent of torchvision: class means correlate with those of MNIST, whose images are upright.

    Far from 1 where MNIST centres a digit elsewhere (by mass, EMNIST by its box): 6, 7 and 9.
    """
    emnist, mnist = loaded(real_data, "balanced", download=False), MNIST5k(num_clients=1)
    mnist.setup()
    upright, transposed = [], []
    for digit in range(10):
        ours = emnist.train.inputs[emnist.train.targets == digit].double().mean(0)[0]
        theirs = mnist.train.inputs[mnist.train.targets == digit].double().mean(0)[0]
        upright.append(torch.corrcoef(torch.stack((ours.flatten(), theirs.flatten())))[0, 1])
        transposed.append(torch.corrcoef(torch.stack((ours.T.flatten(), theirs.flatten())))[0, 1])
    assert (torch.stack(upright) > torch.stack(transposed)).all()
    assert torch.stack(upright).mean() > torch.stack(transposed).mean() + 0.3


def test_no_download_is_tried_where_the_files_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args, **kwargs) -> None:
        raise AssertionError("downloaded")

    monkeypatch.setattr(DOWNLOAD, refuse)
    write_split(tmp_path, "digits")
    assert len(loaded(tmp_path, "digits").test) == 4


def test_missing_files_are_downloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def download(url: str, download_root: str, md5: str) -> None:
        calls.append((url, md5))
        write_split(tmp_path, "digits")
        (Path(download_root) / "gzip").mkdir()

    monkeypatch.setattr(DOWNLOAD, download)
    assert len(loaded(tmp_path, "digits").train) == 12
    assert len(calls) == 1
    assert calls[0][1] == torchvision.datasets.EMNIST.md5


def test_lightning_downloads_on_one_process_a_machine(tmp_path: Path) -> None:
    """Trainer calls ``prepare_data`` on local rank 0 alone; nothing else of ours downloads."""
    assert EMNIST(str(tmp_path)).prepare_data_per_node
    with pytest.raises(InputError, match=r"prepare_data\(\) was not called"):
        EMNIST(str(tmp_path)).setup()


@pytest.mark.usefixtures("no_network")
def test_without_network_the_error_names_folder_files_and_the_bundled_data(tmp_path: Path) -> None:
    write_split(tmp_path, "mnist")
    label_file(tmp_path, "mnist", "test").unlink()
    with pytest.raises(InputError) as raised:
        EMNIST(str(tmp_path), "mnist").prepare_data()
    message = str(raised.value)
    assert str(tmp_path / "EMNIST" / "raw") in message
    assert "emnist-mnist-test-labels-idx1-ubyte" in message
    assert "emnist-mnist-train-images-idx3-ubyte" not in message  # it is there
    assert "no network" in message
    assert "--data fedlit.data.MNIST5k" in message
    assert "\n" not in message


@pytest.mark.usefixtures("no_network")
def test_a_trainer_run_without_network_ends_in_the_same_error(tmp_path: Path) -> None:
    from lightning.pytorch.demos.boring_classes import BoringModel

    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    with pytest.raises(InputError, match="MNIST5k"):
        trainer.test(BoringModel(), EMNIST(str(tmp_path)))


def test_with_download_off_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"emnist-letters-train-images-idx3-ubyte.*download is off"):
        loaded(tmp_path, "letters", download=False)


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("which", [image_file, label_file])
@pytest.mark.parametrize("keep", [0, 3, 9, 11, -1])
def test_a_truncated_file_is_named(tmp_path: Path, part: str, which, keep: int) -> None:
    write_split(tmp_path, "mnist")
    path = which(tmp_path, "mnist", part)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=f"{path.name} is truncated or corrupt.*delete it"):
        loaded(tmp_path, "mnist")


def test_a_file_with_extra_bytes_is_named(tmp_path: Path) -> None:
    write_split(tmp_path, "mnist")
    path = image_file(tmp_path, "mnist", "train")
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(InputError, match=f"{path.name}.*9425 bytes, but the header requires 9424"):  # 16 + 12 * 784
        loaded(tmp_path, "mnist")


def test_a_file_with_another_magic_number_is_named(tmp_path: Path) -> None:
    write_split(tmp_path, "mnist")
    path = label_file(tmp_path, "mnist", "train")
    path.write_bytes(b"\x1f\x8b\x08\x08" + path.read_bytes()[4:])  # the start of a gzip file
    with pytest.raises(InputError, match=f"{path.name}.*magic number 529205256, not 2049"):
        loaded(tmp_path, "mnist")


def test_labels_that_are_not_as_many_as_the_images_are_named(tmp_path: Path) -> None:
    write_split(tmp_path, "mnist")
    path = label_file(tmp_path, "mnist", "train")
    write_idx(path, np.zeros(11))
    with pytest.raises(InputError, match=f"{path.name}.*11 labels for 12 images"):
        loaded(tmp_path, "mnist")


@pytest.mark.parametrize(("split", "label"), [("mnist", 10), ("letters", 27), ("letters", 0)])
def test_labels_out_of_range_are_named(tmp_path: Path, split: str, label: int) -> None:
    write_split(tmp_path, split, first_label=1 if split == "letters" else 0)
    path = label_file(tmp_path, split, "test")
    write_idx(path, np.full(4, label))
    with pytest.raises(InputError, match=rf"{path.name}.*labels {label}\.\.{label}, not in"):
        loaded(tmp_path, split)


def test_images_of_another_size_are_named(tmp_path: Path) -> None:
    write_split(tmp_path, "mnist")
    path = image_file(tmp_path, "mnist", "test")
    write_idx(path, np.zeros((4, 14, 56)))
    with pytest.raises(InputError, match=f"{path.name}.*14 x 56 pixels, not 28 x 28"):
        loaded(tmp_path, "mnist")


def test_an_unknown_split_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"split must be one of byclass, .*mnist, got fashion"):
        EMNIST(split="fashion")


def test_the_folder_is_fedlit_data_or_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDLIT_DATA", "/data/sets")
    assert default_root() == Path("/data/sets")
    monkeypatch.delenv("FEDLIT_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert default_root() == Path("/cache/fedlit")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert default_root() == Path("/home/someone/.cache/fedlit")
    assert EMNIST("~/sets").root == Path("/home/someone/sets")
