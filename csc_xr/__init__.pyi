from .accuracy import classification_report, confusion_matrix
from .export import (
    open_result,
    write_class_geotiff,
    write_class_png,
    write_float_geotiff,
    write_result_zarr,
)
from .figures import four_part_figure
from .grid import same_grid, scene_transform
from .inference import classify_pixels, expand_tiles, mode_filter, predict_tiles
from .inputs import list_images
from .labels import find_labels, open_labels
from .legend import GLACIER, RIVER, ClassLegend, LegendClass, open_legend
from .networks.builders import build_patch_network, build_tile_network
from .networks.bundle import Network, open_network, save_network
from .networks.card import NetworkCard
from .runs.folder import run_jobs
from .runs.jobs import prepare_jobs
from .runs.ledger import folder_status
from .runs.scene import run_job
from .runs.stack import classify_stack
from .scene import find_images, open_scene, valid_pixels, validate_scene, write_scene
from .stack import open_stack, write_stack
from .training.fitting import FitSettings, fit_patch_network, fit_pixel_classifier
from .training.sampling import draw_samples
from .workflow import ClassifySettings, classify_scene

__version__: str

__all__ = [
    "GLACIER",
    "RIVER",
    "ClassLegend",
    "ClassifySettings",
    "FitSettings",
    "LegendClass",
    "Network",
    "NetworkCard",
    "build_patch_network",
    "build_tile_network",
    "classification_report",
    "classify_pixels",
    "classify_scene",
    "classify_stack",
    "confusion_matrix",
    "draw_samples",
    "expand_tiles",
    "find_images",
    "find_labels",
    "fit_patch_network",
    "fit_pixel_classifier",
    "folder_status",
    "four_part_figure",
    "list_images",
    "mode_filter",
    "open_labels",
    "open_legend",
    "open_network",
    "open_result",
    "open_scene",
    "open_stack",
    "predict_tiles",
    "prepare_jobs",
    "run_job",
    "run_jobs",
    "same_grid",
    "save_network",
    "scene_transform",
    "valid_pixels",
    "validate_scene",
    "write_class_geotiff",
    "write_class_png",
    "write_float_geotiff",
    "write_result_zarr",
    "write_scene",
    "write_stack",
]
