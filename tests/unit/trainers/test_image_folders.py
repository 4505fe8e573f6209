"""Folders of images: their layouts, odd files and odd folders, and the cache of decoded images."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.image_folders import noise, write_classes
from trainers import data
from trainers.api import DataConfig, DataError
from trainers.data import arrays, decode, folder
from trainers.data.decode import square

SIDE = 16


def settings(root: Path, **changes: object) -> DataConfig:
    return DataConfig(name="folder", root=str(root), cache_size=SIDE, **changes)


def problem(root: Path, tmp_path: Path) -> str:
    with pytest.raises(DataError) as caught:
        data.prepare(settings(root), str(tmp_path / "cache"))
    return str(caught.value)


# ------------------------------------------------------------------------------------------------ layouts


def test_class_folders_alone_are_split_by_class_and_seed(tmp_path: Path) -> None:
    config = settings(write_classes(tmp_path / "root", {"b": 10, "a": 20}), validation_fraction=0.2)
    info = data.prepare(config, str(tmp_path / "cache"))
    assert (info.classes, info.train_count, info.validation_count) == (("a", "b"), 24, 6)
    train, validation = data.train_and_validation(config, str(tmp_path / "cache"), "cpu")
    assert np.bincount(validation.labels[validation.indices]).tolist() == [4, 2]
    assert sorted([*train.indices.tolist(), *validation.indices.tolist()]) == list(range(30))
    assert data.prepare(replace(config, split_seed=1), str(tmp_path / "cache")).split_hash != info.split_hash
    assert not data.has_test_split(config)
    with pytest.raises(DataError, match="has no test images"):
        data.open_test_split(config, str(tmp_path / "cache"), "cpu")


@pytest.mark.parametrize("name", ["val", "validation", "valid"])
def test_a_folder_of_validation_images_is_the_validation_part(name: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for part, count in (("train", 4), (name, 3), ("test", 2)):
        write_classes(root / part, {"a": count, "b": count})
    config = settings(root)
    info = data.prepare(config, str(tmp_path / "cache"))
    assert (info.train_count, info.validation_count) == (8, 6)
    train, validation = data.train_and_validation(config, str(tmp_path / "cache"), "cpu")
    assert train.indices.tolist() == list(range(8))
    assert validation.labels[validation.indices].tolist() == [0, 0, 0, 1, 1, 1]
    expected = square(str(root / name / "b" / "0000.png"), SIDE)
    assert np.array_equal(validation.images[validation.indices[3]], expected)
    assert len(data.all_training_images(config, str(tmp_path / "cache"), "cpu")) == 14
    assert len(data.open_test_split(config, str(tmp_path / "cache"), "cpu")) == 4
    few = data.prepare(replace(config, train_limit=4, validation_limit=2), str(tmp_path / "cache"))
    assert (few.train_count, few.validation_count) == (4, 2)


def test_a_folder_named_train_with_images_in_it_is_a_class(tmp_path: Path) -> None:
    config = settings(write_classes(tmp_path / "root", {"car": 3, "train": 3}))
    assert data.prepare(config, str(tmp_path / "cache")).classes == ("car", "train")


def test_names_with_blanks_and_of_other_scripts_nested_folders_and_links_are_read(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "root", {"grüner Tee": 2, "猫 と 犬": 2})
    (root / "猫 と 犬" / "more").mkdir()
    noise(7).save(root / "猫 と 犬" / "more" / "très bon %20.JPG")
    (root / "猫 と 犬" / "round").symlink_to(root / "猫 と 犬")
    (root / "linked").symlink_to(write_classes(tmp_path / "elsewhere", {"c": 2}) / "c")
    (root / "linked" / "one more.png").symlink_to(root / "grüner Tee" / "0000.png")
    for junk in ("Thumbs.db", ".DS_Store", "._0000.png", "notes.txt"):
        (root / "grüner Tee" / junk).write_text("no image")
    info = data.prepare(settings(root), str(tmp_path / "cache"))
    assert info.classes == ("grüner Tee", "linked", "猫 と 犬")
    assert info.train_count + info.validation_count == 2 + 3 + 3


def test_a_thousand_classes_are_read(tmp_path: Path) -> None:
    config = settings(write_classes(tmp_path / "root", {f"n{number:04d}": 2 for number in range(1000)}, ".bmp"))
    info = data.prepare(config, str(tmp_path / "cache"))
    assert (info.num_classes, info.train_count, info.validation_count) == (1000, 1000, 1000)


# ---------------------------------------------------------------------------------------------- odd images


def test_the_shorter_side_is_resized_and_the_centre_is_cut_out(tmp_path: Path) -> None:
    picture = np.zeros((40, 120, 3), np.uint8)
    picture[:, 40:80] = (10, 200, 90)
    Image.fromarray(picture).save(tmp_path / "wide.png")
    pixels = square(str(tmp_path / "wide.png"), SIDE)
    assert (pixels[:, :, 3:-3] == np.array([10, 200, 90])[:, None, None]).all()
    assert np.abs(pixels[:, 5, 0].astype(int) - [10, 200, 90]).max() < 20  # interpolated with what is beside it


def test_an_image_of_the_size_of_the_cache_keeps_its_pixels(tmp_path: Path) -> None:
    noise(1, SIDE, SIDE).save(tmp_path / "same.png")
    assert np.array_equal(square(str(tmp_path / "same.png"), SIDE), np.asarray(noise(1, SIDE, SIDE)).transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr"])
def test_every_mode_of_an_image_becomes_rgb(mode: str, tmp_path: Path) -> None:
    end = "png" if mode in ("1", "L", "LA", "P", "RGBA") else "jpg"
    Image.new("RGB", (30, 30), (200, 200, 200)).convert(mode).save(tmp_path / f"image.{end}")
    pixels = square(str(tmp_path / f"image.{end}"), SIDE)
    assert (pixels.shape, pixels.dtype) == ((3, SIDE, SIDE), np.uint8)
    assert abs(float(pixels.mean()) - 200) < (60 if mode == "1" else 3)


@pytest.mark.parametrize("end", ["png", "tif", "pgm"])
def test_sixteen_bits_become_their_upper_eight(end: str, tmp_path: Path) -> None:
    Image.fromarray(np.full((20, 20), 51_400, np.uint16)).save(tmp_path / f"deep.{end}")
    assert set(square(str(tmp_path / f"deep.{end}"), SIDE).ravel()) == {51_400 >> 8}


def test_a_transparent_palette_is_read_without_a_warning(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    Image.new("RGB", (20, 20), (10, 200, 90)).quantize(4).save(tmp_path / "clear.png", transparency=bytes([255, 0]))
    assert np.abs(square(str(tmp_path / "clear.png"), SIDE)[1].astype(int) - 200).max() < 3
    assert not recwarn.list


def test_a_photograph_is_turned_as_exif_says(tmp_path: Path) -> None:
    picture = np.zeros((60, 60, 3), np.uint8)
    picture[:30] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(picture).save(tmp_path / "turned.jpg", exif=exif)
    pixels = square(str(tmp_path / "turned.jpg"), SIDE)
    assert pixels[:, -1].mean() > 250
    assert pixels[:, 0].mean() < 5


def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "lime", "blue")]
    for end in ("gif", "webp"):
        frames[0].save(tmp_path / f"moving.{end}", save_all=True, append_images=frames[1:], lossless=True)
        assert square(str(tmp_path / f"moving.{end}"), SIDE)[:, 5, 5].tolist() == [255, 0, 0]


def test_one_error_lists_ten_damaged_files_and_the_remedy(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "root", {"a": 14, "b": 3}, ".jpg")
    for index in range(9):
        (root / "a" / f"{index:04d}.jpg").write_bytes(b"")
    whole = (root / "b" / "0000.jpg").read_bytes()
    (root / "b" / "0000.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "b" / "0001.jpg").write_text("<html>404</html>")
    (root / "b" / "gone.jpg").symlink_to(root / "nowhere.jpg")
    Image.new("F", (9, 9)).save(root / "b" / "float.tif")
    text = problem(root, tmp_path)
    assert text.startswith("13 of 19 images cannot be used:\n")
    assert f"{root}/a/0000.jpg: it is empty (0 bytes)" in text
    assert f"{root}/b/0000.jpg: it cannot be read: image file is truncated" in text
    assert "and 3 more" in text
    assert len(text.splitlines()) == 13
    assert "Remedy: repair these files or delete them" in text
    assert not list((tmp_path / "cache" / "data").iterdir())
    for index in range(9):
        (root / "a" / f"{index:04d}.jpg").unlink()
    text = problem(root, tmp_path)
    assert "0001.jpg: it is not an image of a known format" in text
    assert "gone.jpg: it is a link to a file that does not exist" in text
    assert "float.tif: its pixels are floating-point numbers" in text


def test_damaged_images_of_all_parts_are_in_the_same_error(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        write_classes(tmp_path / "root" / part, {"a": 2, "b": 2})
        (tmp_path / "root" / part / "b" / "0001.png").write_bytes(b"")
    text = problem(tmp_path / "root", tmp_path)
    assert text.startswith("3 of 12 images cannot be used:\n")
    for part in ("train", "val", "test"):
        assert f"{part}/b/0001.png: it is empty" in text
    assert text.count("Remedy") == 1


def test_a_damaged_test_image_is_found_before_any_trial(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write_classes(tmp_path / "root" / part, {"a": 2, "b": 2})
    (tmp_path / "root" / "test" / "a" / "0001.png").write_bytes(b"")
    assert "test/a/0001.png: it is empty" in problem(tmp_path / "root", tmp_path)


# --------------------------------------------------------------------------------------------- odd folders


def test_a_single_class_is_refused(tmp_path: Path) -> None:
    assert "there is a single class, only" in problem(write_classes(tmp_path / "root", {"only": 5}), tmp_path)


def test_classes_without_enough_images_are_listed(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "root", {"a": 3, "empty": 0} | {f"rare{index:02d}": 1 for index in range(11)})
    text = problem(root, tmp_path)
    assert "empty has no images to train on" in text
    assert "rare08 has a single image, but training and validation need one each" in text
    assert "and 2 more" in text
    assert "Remedy: give each class at least two images" in text


def test_one_training_image_is_enough_where_validation_images_are_given(tmp_path: Path) -> None:
    write_classes(tmp_path / "root" / "train", {"a": 1, "b": 2})
    write_classes(tmp_path / "root" / "val", {"a": 1, "b": 2})
    assert data.prepare(settings(tmp_path / "root"), str(tmp_path / "cache")).train_count == 3


@pytest.mark.parametrize("part", ["val", "test"])
def test_classes_that_differ_between_the_parts_are_listed(part: str, tmp_path: Path) -> None:
    write_classes(tmp_path / "root" / "train", {"a": 2, "b": 2, "c": 2})
    write_classes(tmp_path / "root" / part, {"a": 2, "b": 2, "cc": 2})
    text = problem(tmp_path / "root", tmp_path)
    assert f"c has images to train on, but none in {part}/" in text
    assert f"cc is in {part}/, but not among the images to train on" in text


def test_a_root_that_holds_no_classes_is_refused_with_the_layout(tmp_path: Path) -> None:
    root = tmp_path / "root"
    assert f"{root} does not exist" in problem(root, tmp_path)
    root.mkdir()
    assert f"{root}/ contains no folders of images; arrange the images as" in problem(root, tmp_path)
    noise(0).save(root / "cat.png")
    assert "contains images, but no folder for each class" in problem(root, tmp_path)
    assert "is a file, not a folder; unpack it" in problem(root / "cat.png", tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    assert "is a link to nowhere" in problem(tmp_path / "link", tmp_path)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (["train", "val", "valid"], "val and valid, which mean the same"),
        (["val", "test"], "has val and test, but no folder train"),
        ([".", "test"], "has test, but no folder train"),
    ],
)
def test_folders_that_contradict_each_other_are_refused(parts: list[str], words: str, tmp_path: Path) -> None:
    for part in parts:
        write_classes(tmp_path / "root" / part, {"a": 2, "b": 2})
    assert words in problem(tmp_path / "root", tmp_path)


def test_test_images_without_labels_are_refused(tmp_path: Path) -> None:
    write_classes(tmp_path / "root" / "train", {"a": 2, "b": 2})
    write_classes(tmp_path / "root", {"test": 2})
    assert "root/test has no folders of classes, so its images have no labels" in problem(tmp_path / "root", tmp_path)


def test_a_folder_without_read_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_classes(tmp_path / "root", {"a": 2, "b": 2})
    scandir = os.scandir

    def refuse(place: str) -> object:
        if str(place).endswith("b"):
            raise PermissionError(13, "Permission denied")
        return scandir(place)

    monkeypatch.setattr(folder.os, "scandir", refuse)
    text = problem(root, tmp_path)
    assert f"data.root: {root}/b cannot be read: Permission denied; let this user read it (chmod -R u+rX" in text


# ---------------------------------------------------------------------------------------------- the cache


def test_images_are_decoded_once_and_again_after_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_classes(tmp_path / "root", {"a": 3, "b": 3})
    decoded: list[str] = []
    monkeypatch.setattr(folder, "square", lambda path, side: decoded.append(path) or square(path, side))
    data.prepare(settings(root), str(tmp_path / "cache"))
    data.prepare(settings(root), str(tmp_path / "cache"))
    assert len(decoded) == 6
    noise(99).save(root / "a" / "0001.png")
    data.prepare(settings(root), str(tmp_path / "cache"))
    assert len(decoded) == 12
    data.prepare(replace(settings(root), cache_size=SIDE + 1), str(tmp_path / "cache"))
    assert len(decoded) == 18
    (first, *_) = (tmp_path / "cache" / "data").iterdir()
    assert isinstance(np.load(first / "images.npy", mmap_mode="r"), np.memmap)


def copies(tmp_path: Path) -> set[str]:
    return {entry.name for entry in (tmp_path / "cache" / "data").iterdir()}


def prepared(config: DataConfig, tmp_path: Path) -> Path:
    """The folder of arrays of a folder of images, after what `hpo run` does with it."""
    data.prepare(config, str(tmp_path / "cache"))
    data.remove_former(config, str(tmp_path / "cache"))
    return data._folder(config, str(tmp_path / "cache"), train=True)


def test_the_former_copy_of_a_folder_that_changed_is_removed_and_no_other(tmp_path: Path) -> None:
    roots = [write_classes(tmp_path / name, {"a": 3, "b": 3}) for name in ("root", "other")]
    former = prepared(settings(roots[0]), tmp_path)
    kept = {prepared(settings(roots[1]), tmp_path), prepared(replace(settings(roots[0]), cache_size=9), tmp_path)}
    noise(99).save(roots[0] / "a" / "0001.png")
    now = prepared(settings(roots[0]), tmp_path)
    assert now != former
    assert copies(tmp_path) == {folder.name for folder in (now, *kept)}


def test_a_copy_that_a_process_has_mapped_stays_until_it_is_free(tmp_path: Path) -> None:
    """Locks belong to open files, so this process stands for another one."""
    root = write_classes(tmp_path / "root", {"a": 3, "b": 3})
    former = prepared(settings(root), tmp_path)
    images, _ = arrays.read(former)
    noise(99).save(root / "a" / "0001.png")
    now = prepared(settings(root), tmp_path)
    assert copies(tmp_path) == {former.name, now.name}
    assert images.shape == (6, 3, SIDE, SIDE)
    del images
    prepared(settings(root), tmp_path)
    assert copies(tmp_path) == {now.name}


def test_what_a_killed_process_had_begun_to_decode_is_removed(tmp_path: Path) -> None:
    (tmp_path / "cache" / "data" / ".folder-train-0123-abcd").mkdir(parents=True)
    now = prepared(settings(write_classes(tmp_path / "root", {"a": 3, "b": 3})), tmp_path)
    assert copies(tmp_path) == {now.name}


def test_only_one_of_several_processes_decodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks belong to open files, so threads stand for processes."""
    config, decoded = settings(write_classes(tmp_path / "root", {"a": 3, "b": 3})), []
    monkeypatch.setattr(folder, "square", lambda path, side: decoded.append(path) or square(path, side))
    source = folder.Folder(config)
    source.verify()
    place = tmp_path / "cache" / "part"
    threads = [threading.Thread(target=arrays.filled, args=(place, source), kwargs={"train": True}) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(decoded) == 6
    assert [entry.name for entry in place.parent.iterdir()] == ["part"]


def test_a_disk_that_is_too_small_is_found_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_classes(tmp_path / "root", {"a": 2, "b": 2})
    monkeypatch.setattr(arrays, "SPARE", 1e15)
    assert "GB are free; free some space" in problem(root, tmp_path)


def test_warnings_of_the_image_library_do_not_reach_the_person(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_classes(tmp_path / "root", {"a": 2, "b": 2})
    monkeypatch.setattr(decode.Image, "MAX_IMAGE_PIXELS", 30 * 40 - 1)
    data.prepare(settings(root), str(tmp_path / "cache"))
    assert not [entry for entry in recwarn.list if "PIL" in entry.filename or "bomb" in str(entry.message)]
