from .accuracy.areas import AreaEstimates, estimate_areas, pixel_area_m2
from .accuracy.confusion import confusion_matrix, count_classes, count_codes, subsample
from .accuracy.points import (
    classes_at_points,
    draw_validation_points,
    open_points,
    point_labels,
)
from .accuracy.scores import classification_report, tidy_scores
from .export import (
    write_class_geotiff,
    write_class_png,
    write_flag_geotiff,
    write_float_geotiff,
    write_scene_geotiff,
)
from .figures.confusion import confusion_figure
from .figures.fronts import error_histogram, overlay_figure, series_figure
from .figures.maps import four_part_figure
from .figures.sweeps import class_figure, f1_sweep_figure, scene_figure
from .figures.training import history_figure
from .fronts.deviation import Deviation, front_error, margin_error
from .fronts.digitised import open_digitised
from .fronts.extraction import Front, extract_front
from .fronts.margins import extract_margins
from .fronts.series import FrontSeries, front_series
from .fronts.settings import FrontSettings
from .grid import same_grid, scene_transform
from .inference import classify_pixels, expand_tiles, mode_filter, predict_tiles
from .inputs import list_images
from .label_polygons import rasterize_labels
from .labels import find_labels, open_labels
from .legend import GLACIER, RIVER, ClassLegend, LegendClass, open_legend
from .metres import to_metres, with_pixel_size
from .networks.builders import build_patch_network, build_tile_network
from .networks.bundle import Network, open_network, save_network
from .networks.card import NetworkCard
from .polygons import class_polygons
from .products.landsat import open_landsat
from .products.open import open_product
from .products.sentinel2 import open_sentinel2
from .products.stac import open_stac, search_stac
from .report.page import write_report
from .result_store import open_result, write_result_zarr
from .results.collect import Results, collect_results
from .results.files import write_results
from .results.reference import collect_reference_results
from .runs.batch import plan_batch, run_batch
from .runs.compose import ComposeSettings, compose
from .runs.folder import run_jobs
from .runs.front_files import open_class_rasters, write_fronts, write_series
from .runs.jobs import prepare_jobs
from .runs.ledger import folder_status
from .runs.scene import run_job
from .runs.stack import classify_stack
from .runs.tiles import cut_images
from .runs.training import SplitSettings, train_network
from .scene import find_images, open_scene, valid_pixels, validate_scene, write_scene
from .stack import open_stack, write_stack
from .tiles.cutting import extract_tiles
from .tiles.forms import (
    export_compiled,
    export_tile_folders,
    import_compiled,
    import_tile_folders,
)
from .tiles.keys import ClassKey, open_class_key, with_class_key
from .tiles.layout import count_tiles
from .tiles.sets import add_copies, join_tiles, thin_tiles
from .tiles.split import TileSplit, split_tiles
from .tiles.store import open_tiles, write_tiles
from .training.phase_one.checkpoints import Checkpoint
from .training.phase_one.fit import fit_tile_network
from .training.phase_one.report import TrainingReport
from .training.phase_one.settings import TrainSettings
from .training.phase_two.fitting import FitSettings, fit_patch_network, fit_pixel_classifier
from .training.phase_two.sampling import draw_samples
from .vectors import front_frame, write_layers, write_lines
from .workflow import ClassifySettings, classify_scene

__version__: str

__all__ = [
    "GLACIER",
    "RIVER",
    "AreaEstimates",
    "Checkpoint",
    "ClassKey",
    "ClassLegend",
    "ClassifySettings",
    "ComposeSettings",
    "Deviation",
    "FitSettings",
    "Front",
    "FrontSeries",
    "FrontSettings",
    "LegendClass",
    "Network",
    "NetworkCard",
    "Results",
    "SplitSettings",
    "TileSplit",
    "TrainSettings",
    "TrainingReport",
    "add_copies",
    "build_patch_network",
    "build_tile_network",
    "class_figure",
    "class_polygons",
    "classes_at_points",
    "classification_report",
    "classify_pixels",
    "classify_scene",
    "classify_stack",
    "collect_reference_results",
    "collect_results",
    "compose",
    "confusion_figure",
    "confusion_matrix",
    "count_classes",
    "count_codes",
    "count_tiles",
    "cut_images",
    "draw_samples",
    "draw_validation_points",
    "error_histogram",
    "estimate_areas",
    "expand_tiles",
    "export_compiled",
    "export_tile_folders",
    "extract_front",
    "extract_margins",
    "extract_tiles",
    "f1_sweep_figure",
    "find_images",
    "find_labels",
    "fit_patch_network",
    "fit_pixel_classifier",
    "fit_tile_network",
    "folder_status",
    "four_part_figure",
    "front_error",
    "front_frame",
    "front_series",
    "history_figure",
    "import_compiled",
    "import_tile_folders",
    "join_tiles",
    "list_images",
    "margin_error",
    "mode_filter",
    "open_class_key",
    "open_class_rasters",
    "open_digitised",
    "open_labels",
    "open_landsat",
    "open_legend",
    "open_network",
    "open_points",
    "open_product",
    "open_result",
    "open_scene",
    "open_sentinel2",
    "open_stac",
    "open_stack",
    "open_tiles",
    "overlay_figure",
    "pixel_area_m2",
    "plan_batch",
    "point_labels",
    "predict_tiles",
    "prepare_jobs",
    "rasterize_labels",
    "run_batch",
    "run_job",
    "run_jobs",
    "same_grid",
    "save_network",
    "scene_figure",
    "scene_transform",
    "search_stac",
    "series_figure",
    "split_tiles",
    "subsample",
    "thin_tiles",
    "tidy_scores",
    "to_metres",
    "train_network",
    "valid_pixels",
    "validate_scene",
    "with_class_key",
    "with_pixel_size",
    "write_class_geotiff",
    "write_class_png",
    "write_flag_geotiff",
    "write_float_geotiff",
    "write_fronts",
    "write_layers",
    "write_lines",
    "write_report",
    "write_result_zarr",
    "write_results",
    "write_scene",
    "write_scene_geotiff",
    "write_series",
    "write_stack",
    "write_tiles",
]
