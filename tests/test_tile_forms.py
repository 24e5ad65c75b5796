"""Labelled tiles in the forms of other programs, there and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import rasterio
import xarray as xr
from networks_for_tests import BANDS, LEGEND, noise_scene
from rasters_for_tests import never, reading, some_pixels, write_raster
from tiles_for_tests import coloured_tiles

from csc_xr.errors import OutputError, ParameterError, TileError
from csc_xr.scene import open_scene
from csc_xr.tiles import layout
from csc_xr.tiles.cutting import extract_tiles
from csc_xr.tiles.forms import (
    export_compiled,
    export_tile_folders,
    import_compiled,
    import_tile_folders,
)
from csc_xr.tiles.layout import UNKNOWN_PLACE
from csc_xr.tiles.sets import add_copies, join_tiles
from csc_xr.tiles.split import TileSplit, split_tiles

AS: dict[str, Any] = {"bands": BANDS, "scale": 255.0, "legend": LEGEND}
PLACES = ("code", "scene", "row", "column", "variant")


@pytest.fixture(autouse=True)
def few_tiles_in_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "_CHUNK_BYTES", 3 * 6 * 6 * 4)


@pytest.fixture
def tiles() -> xr.Dataset:
    scenes = [noise_scene((24, 30), seed=seed).rename(f"s{seed}") for seed in (7, 3)]
    codes = np.repeat(np.uint8([[1, 2, 3]]), 10, axis=1).repeat(24, axis=0)
    labels = xr.DataArray(codes, dims=("y", "x"))
    return extract_tiles(scenes, [labels, labels], legend=LEGEND, tile_size=6, stride=4)


def assert_same(found: xr.Dataset, tiles: xr.Dataset) -> None:
    for name in PLACES:
        assert found[name].values.tolist() == tiles[name].values.tolist(), name
    np.testing.assert_array_equal(found["pixels"].values, tiles["pixels"].values)
    assert found["pixels"].dtype == tiles["pixels"].dtype
    assert found["band"].values.tolist() == tiles["band"].values.tolist()
    assert found.attrs["scale"] == tiles.attrs["scale"]
    assert found.attrs["legend"] == tiles.attrs["legend"]


def names(tiles: xr.Dataset) -> list[str]:
    return [entry["name"] for entry in tiles.attrs["scenes"]]


def test_folders_are_named_by_their_resolved_path(
    tiles: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_tile_folders(tiles, tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    sets = [import_tile_folders(path, **AS) for path in ("out", tmp_path / "out")]
    assert names(join_tiles(sets)) == ["s7", "s3"]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_folders_there_and_back(dtype: str, tiles: xr.Dataset, tmp_path: Path) -> None:
    tiles = add_copies(tiles.assign(pixels=tiles["pixels"].astype(dtype)), flips=True)
    export_tile_folders(tiles, tmp_path / "out")
    assert sorted(entry.name for entry in (tmp_path / "out").iterdir()) == ["C1", "C2", "C3"]
    assert (tmp_path / "out" / "C1" / "s7_0_r4_c0_v5.tif").is_file()
    with dask.config.set(scheduler=never):
        found = import_tile_folders(tmp_path / "out", **AS)
    assert found["pixels"].data.numblocks[0] > 100
    assert_same(found, tiles)
    assert found.attrs["scenes"] == [
        {"name": name, "source": str(tmp_path / "out")} for name in ("s7", "s3")
    ]


def test_files_are_images(tiles: xr.Dataset, tmp_path: Path) -> None:
    tiles = tiles.assign_coords(band=["red", "green", "nir"])
    export_tile_folders(tiles, tmp_path / "out")
    path = tmp_path / "out" / "C1" / "s7_0_r0_c0_v0.tif"
    with reading(path) as file:
        assert file.profile["interleave"] == "pixel"
        np.testing.assert_array_equal(file.read(), tiles["pixels"].values[0])
    scene = open_scene(path)
    assert scene["band"].values.tolist() == ["red", "green", "nir"]
    assert "valid" not in scene.coords


def test_folders_of_a_split(tiles: xr.Dataset, tmp_path: Path) -> None:
    split = split_tiles(tiles, by="block", block_size=14, share=0.4)
    assert set(tiles["scene"].values[split.check].tolist()) == {0, 1}
    used = np.sort(np.concatenate([split.learn, split.check]))
    assert 0 < len(used) < tiles.sizes["tile"]
    export_tile_folders(tiles, tmp_path / "out", split=split)
    for part, members in (("training", split.learn), ("validation", split.check)):
        files = list((tmp_path / "out" / part).glob("C*/*.tif"))
        assert len(files) == len(members)
        assert len(list((tmp_path / "out" / part).iterdir())) == 3
        assert_same(import_tile_folders(tmp_path / "out" / part, **AS), tiles.isel(tile=members))
    assert_same(import_tile_folders(tmp_path / "out", **AS), tiles.isel(tile=used))


def test_tiles_of_unknown_places_come_back(tmp_path: Path) -> None:
    tiles = coloured_tiles(20, size=6)
    unknown = xr.full_like(tiles["row"], UNKNOWN_PLACE)
    tiles = tiles.assign(row=unknown, column=unknown, scene=unknown * 0)
    tiles.attrs["scenes"] = [{"name": "a/b: ü", "source": ""}]
    export_tile_folders(tiles, tmp_path / "out")
    assert (tmp_path / "out" / "C1" / "a_b__ü_0_t11_v0.tif").is_file()
    assert_same(import_tile_folders(tmp_path / "out", **AS), tiles)


def test_folders_of_others(tmp_path: Path) -> None:
    """Folders make the scenes where file names tell nothing; what is no tile is passed over."""
    made = {}
    for part in ("training", "validation"):
        for code, name in ((1, "b.tif"), (1, "a.TIFF"), (3, "x.png")):
            path = tmp_path / "set" / part / f"C{code}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            made[path] = np.full((3, 5, 5), len(made), np.uint8)
            write_raster(path, made[path], driver="PNG" if name == "x.png" else "GTiff")
    for other in ("C1/notes.txt", "C1/.hidden.tif", "Cx/c.tif"):
        path = tmp_path / "set" / "training" / other
        path.parent.mkdir(exist_ok=True)
        path.write_text("no tile")
    found = import_tile_folders(tmp_path / "set", **AS)
    assert names(found) == ["training", "validation"]
    assert found["scene"].values.tolist() == [0, 0, 0, 1, 1, 1]
    assert found["code"].values.tolist() == [1, 1, 3] * 2
    assert found["pixels"].values[:, 0, 0, 0].tolist() == [1, 0, 2, 4, 3, 5]
    for name in ("row", "column"):
        assert (found[name] == UNKNOWN_PLACE).all()
    alone = import_tile_folders(tmp_path / "set" / "training", **AS)
    assert names(alone) == ["training"]
    assert alone.sizes["tile"] == 3


def test_export_is_whole_or_not_at_all(tiles: xr.Dataset, tmp_path: Path) -> None:
    def fail(_: np.ndarray) -> np.ndarray:
        raise OSError("the file is gone")

    pixels = tiles["pixels"]
    failing = pixels.data.map_blocks(fail, dtype=pixels.dtype, meta=np.empty(0, "u1"))
    broken = tiles.assign(pixels=pixels.copy(data=failing))
    with pytest.raises(OSError, match="the file is gone"):
        export_tile_folders(broken, tmp_path / "out")
    with pytest.raises(OSError, match="the file is gone"):
        export_compiled(broken, tmp_path / "out", form="uint8")
    assert list(tmp_path.iterdir()) == []
    export_tile_folders(tiles, tmp_path / "out")
    with pytest.raises(OutputError, match=r"out must not exist yet.*overwrite=True"):
        export_tile_folders(tiles, tmp_path / "out")
    export_tile_folders(tiles.isel(tile=[0]), tmp_path / "out", overwrite=True)
    assert len(list((tmp_path / "out").glob("*/*.tif"))) == 1


def test_exports_that_cannot_be(tiles: xr.Dataset, tmp_path: Path) -> None:
    half = tiles.assign(pixels=tiles["pixels"].astype(np.float16))
    with pytest.raises(TileError, match="integers and 32 or 64 bit floats, got tiles of float16"):
        export_tile_folders(half, tmp_path / "out")
    twice = tiles.isel(tile=[0, 1, 1])
    with pytest.raises(TileError, match=r"once to .* C1/s7_0_r0_c4_v0\.tif comes 2 times"):
        export_tile_folders(twice, tmp_path / "out")
    both = TileSplit(np.array([0]), np.array([1, 2]), {})
    with pytest.raises(TileError, match=r"validation/C1/s7_0_r0_c4_v0\.tif comes 2 times"):
        export_tile_folders(twice, tmp_path / "out", split=both)
    assert list(tmp_path.iterdir()) == []


def test_folders_that_cannot_be_imported(tiles: xr.Dataset, tmp_path: Path) -> None:
    for empty in (tmp_path, tmp_path / "absent"):
        with pytest.raises(TileError, match=r"in folders C1, C2, \.\.\. .*, but there are none in"):
            import_tile_folders(empty, **AS)
    folder = tmp_path / "out"
    export_tile_folders(tiles, folder)
    with pytest.raises(ParameterError, match="scale must be a positive number, got 0"):
        import_tile_folders(folder, **(AS | {"scale": 0}))
    with pytest.raises(TileError, match=r"with bands red, nir, got 3 band\(s\) of 6 x 6 .*s7_0_r0"):
        import_tile_folders(folder, **(AS | {"bands": ("red", "nir")}))
    strange = {
        "C2/z.tif": (
            (3, 6, 5),
            "uint8",
            r"one size .* got .* of 6 x 5 .*z\.tif; most are 3",
        ),
        "C3/y.tif": ((3, 6, 6), "uint16", r"got .* of uint16 in .*y\.tif; most .* of uint8"),
        "C1/x.tif": ((4, 6, 6), "uint8", r"got 4 band\(s\) .*x\.tif; .*\. Take the file away"),
        "C9/w.tif": ((3, 6, 6), "uint8", r"codes of legend 'test', 1, 2, 3, got 9 in .*out"),
        "C300/w.tif": ((3, 6, 6), "uint8", "codes of legend 'test', 1, 2, 3, got 300"),
    }
    for name, (shape, dtype, message) in strange.items():
        (folder / name).parent.mkdir(exist_ok=True)
        write_raster(folder / name, some_pixels(*shape, dtype=dtype))
        with pytest.raises(TileError, match=message):
            import_tile_folders(folder, **AS)
        (folder / name).unlink()
    (folder / "C1" / "v.tif").write_text("no image")
    with pytest.raises(TileError, match=r"Every file of a class folder must be a tile\. .*v\.tif"):
        import_tile_folders(folder, **AS)


def test_damaged_images_are_named(tmp_path: Path) -> None:
    path = tmp_path / "C1" / "a.tif"
    path.parent.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (3, 64, 64), dtype=np.uint8)
    write_raster(path, pixels, compress="deflate")
    found = import_tile_folders(tmp_path, **AS)
    whole = path.read_bytes()
    path.write_bytes(whole[:200] + bytes(len(whole) - 200))
    with pytest.raises(TileError, match=r"a\.tif must be a whole image, but cannot be read"):
        found["pixels"].compute()
    path.unlink()
    with pytest.raises(TileError, match=r"a\.tif must be a whole image.*damaged or gone"):
        found["pixels"].compute()


@pytest.mark.parametrize("form", ["float16", "uint8"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_compiled_there_and_back(
    form: Any, dtype: str, tiles: xr.Dataset, tmp_path: Path
) -> None:  # fmt: skip
    scale = 255.0 if dtype == "uint8" else 200.0
    tiles = tiles.assign(pixels=tiles["pixels"].astype(dtype)).assign_attrs(scale=scale)
    tensor, labels = export_compiled(tiles, tmp_path / "joint", form=form)
    assert [tensor.name, labels.name] == ["joint_tiles.npy", "joint_labels.npy"]
    values, codes = np.load(tensor), np.load(labels)
    assert values.shape == (tiles.sizes["tile"], 6, 6, 3)
    assert (values.dtype, codes.dtype) == (form, "uint8")
    assert codes.tolist() == tiles["code"].values.tolist()
    plain = tiles["pixels"].values.transpose(0, 2, 3, 1) / scale
    if form == "float16":
        np.testing.assert_array_equal(values, plain.astype(np.float16))
    else:
        np.testing.assert_array_equal(values, np.rint(plain * 255).clip(0, 255))
    with dask.config.set(scheduler=never):
        found = import_compiled(tensor, labels, **(AS | {"scale": scale}))
    assert found["pixels"].data.numblocks[0] > 4
    assert names(found) == ["joint_tiles"]
    assert (found["row"] == UNKNOWN_PLACE).all()
    expected = tiles["pixels"].values
    if dtype == form == "uint8":
        assert found["pixels"].dtype == np.uint8
        np.testing.assert_array_equal(found["pixels"], expected)
    else:
        assert found["pixels"].dtype == np.float32
        most = 255 if form == "float16" else scale  # 8 bits end at the scale
        step = scale / 255 / 2 if form == "uint8" else 255 * 2**-11
        assert np.abs(found["pixels"].values - expected.clip(0, most)).max() <= step * 1.001


def test_compiled_files_are_replaced_only_when_asked(tiles: xr.Dataset, tmp_path: Path) -> None:
    export_compiled(tiles, tmp_path / "joint", form="uint8")
    with pytest.raises(OutputError, match=r"joint_tiles\.npy must not exist yet"):
        export_compiled(tiles, tmp_path / "joint", form="float16")
    (tmp_path / "joint_tiles.npy").unlink()
    with pytest.raises(OutputError, match=r"joint_labels\.npy must not exist yet"):
        export_compiled(tiles, tmp_path / "joint", form="float16")
    assert [path.name for path in tmp_path.iterdir()] == ["joint_labels.npy"]
    export_compiled(tiles, tmp_path / "joint", form="float16", overwrite=True)
    assert np.load(tmp_path / "joint_tiles.npy").dtype == np.float16


def test_compiled_exports_that_cannot_be(tiles: xr.Dataset, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="form must be float16 or uint8, got 'float32'"):
        export_compiled(tiles, tmp_path / "joint", form="float32")  # type: ignore[arg-type]
    large = tiles.assign(pixels=tiles["pixels"].astype(np.int32) * 1000).assign_attrs(scale=2.0)
    with pytest.raises(TileError, match="up to 65504 times the scale, 2, but the tiles have great"):
        export_compiled(large, tmp_path / "joint", form="float16")
    assert list(tmp_path.iterdir()) == []


def test_missing_numbers_are_compiled(tiles: xr.Dataset, tmp_path: Path) -> None:
    pixels = tiles["pixels"].astype(np.float32)
    tiles = tiles.assign(pixels=pixels.where(pixels > 100))
    for form, missing in (("float16", np.nan), ("uint8", 0)):
        tensor, _ = export_compiled(tiles, tmp_path / form, form=form)  # type: ignore[arg-type]
        empty = np.isnan(tiles["pixels"].values.transpose(0, 2, 3, 1))
        np.testing.assert_array_equal(np.load(tensor)[empty], missing)


def saved(folder: Path, **arrays: Any) -> tuple[Path, Path]:
    """Save a tensor and labels, good ones where none are given."""
    given = {"tensor": np.zeros((4, 6, 6, 3), np.float32), "labels": np.array([1, 2, 3, 1])}
    for name, array in (given | arrays).items():
        np.save(folder / f"{name}.npy", array, allow_pickle=True)
    return folder / "tensor.npy", folder / "labels.npy"


@pytest.mark.parametrize(
    "labels",
    [
        np.array([1, 2, 3, 1], np.int64),
        np.array([[1], [2], [3], [1]], np.uint16),
        np.array([1, 2, 3, 1], np.float32),
        np.eye(4)[[1, 2, 3, 1]],
        np.eye(8, dtype=np.bool_)[[1, 2, 3, 1]],
    ],
)
def test_labels_of_other_programs(labels: np.ndarray, tmp_path: Path) -> None:
    found = import_compiled(*saved(tmp_path, labels=labels), **AS)
    assert found["code"].values.tolist() == [1, 2, 3, 1]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_floats_are_scaled(dtype: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((4, 6, 6, 3)).astype(dtype)
    paths = saved(tmp_path, tensor=np.asfortranarray(values))
    pixels = import_compiled(*paths, **(AS | {"scale": 8192.0}))["pixels"]
    assert pixels.dtype == pixels.values.dtype == np.float32
    np.testing.assert_array_equal(pixels, values.transpose(0, 3, 1, 2).astype(np.float32) * 8192)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"tensor": np.zeros((4, 6, 6))}, r"\(n, side, side, 3\) .* got \(4, 6, 6\) in .*tensor"),
        ({"tensor": np.zeros((4, 6, 6, 4))}, r"for bands red, green, blue, got \(4, 6, 6, 4\)"),
        ({"tensor": np.zeros((4, 6, 5, 3))}, r"got \(4, 6, 5, 3\) .* Name the bands it holds, or"),
        ({"tensor": np.zeros((4, 6, 6, 3), "u2")}, "floats, .*, or uint8, got uint16 in .*tensor"),
        ({"labels": np.ones(5)}, r"of 4 tiles must be .* \(4,\) .* got float64 of shape \(5,\)"),
        ({"labels": np.ones((4, 2, 2))}, r"labels of 4 tiles .* of shape \(4, 2, 2\) in .*labels"),
        ({"labels": np.array(1)}, r"labels of 4 tiles .* of shape \(\) in .*labels"),
        ({"labels": np.array(list("abcd"))}, "labels of 4 tiles must be numbers .* got <U1"),
        ({"labels": np.array([1, 2, 3, 4])}, "codes of legend 'test', 1, 2, 3, got 4 in .*labels"),
        ({"labels": np.array([0, 2, 300, -1])}, "1, 2, 3, got -1, 0, 300"),
        ({"labels": np.eye(6)[[1, 2, 3, 5]]}, "1, 2, 3, got 5 in .*labels"),
        ({"labels": np.array([1, 2, 3, 1.5])}, "Labels must be whole numbers, got others in"),
        ({"labels": np.array([1, 2, 3, np.nan])}, "Labels must be whole numbers, got others in"),
        ({"labels": np.full((4, 3), 0.3)}, "must be 1 for one of them and 0 for the others"),
        ({"labels": np.ones((4, 3))}, "must be 1 for one of them and 0 for the others"),
        ({"labels": np.zeros((4, 3))}, "must be 1 for one of them and 0 for the others"),
    ],
)
def test_arrays_that_do_not_fit(arrays: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(TileError, match=message):
        import_compiled(*saved(tmp_path, **arrays), **AS)


class Harmful:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("name", ["tensor", "labels"])
def test_objects_are_never_loaded(name: str, tmp_path: Path) -> None:
    harm = tmp_path / "harm"
    array = np.array([Harmful(harm)] * 4, dtype=object)
    with pytest.raises(TileError, match=rf"{name}\.npy must be .* Python objects are refused"):
        import_compiled(*saved(tmp_path, **{name: array}), **AS)
    (tmp_path / f"{name}.npy").write_bytes(array.dumps())  # nothing but a pickle
    with pytest.raises(TileError, match=rf"{name}\.npy must be .* Python objects are refused"):
        import_compiled(tmp_path / "tensor.npy", tmp_path / "labels.npy", **AS)
    assert not harm.exists()


def test_other_files_are_refused(tmp_path: Path) -> None:
    tensor, labels = saved(tmp_path)
    with pytest.raises(TileError, match=r"absent\.npy must be an \.npy file of numbers, but"):
        import_compiled(tmp_path / "absent.npy", labels, **AS)
    with pytest.raises(ParameterError, match="scale must be a positive number, got -1"):
        import_compiled(tensor, labels, **(AS | {"scale": -1}))
    tensor.write_bytes(tensor.read_bytes()[:300])
    with pytest.raises(TileError, match=r"tensor\.npy must be an \.npy file of numbers"):
        import_compiled(tensor, labels, **AS)
    tensor.write_bytes(b"")
    with pytest.raises(TileError, match=r"tensor\.npy must be an \.npy file of numbers"):
        import_compiled(tensor, labels, **AS)
    np.savez(tmp_path / "several.npz", a=np.zeros(3))
    with pytest.raises(TileError, match=r"several\.npz must be an \.npy file of one array, got an"):
        import_compiled(tmp_path / "several.npz", labels, **AS)


def test_rasterio_would_warn() -> None:
    """What the export keeps quiet about."""
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.MemoryFile() as memory,
        memory.open(driver="GTiff", count=1, height=2, width=2, dtype="uint8") as file,
    ):
        file.write(np.zeros((1, 2, 2), np.uint8))
