"""Figures from histories, parameters and activations.

Each function returns a matplotlib Figure, which notebooks show and `.savefig(path)` saves; nothing needs
closing. `curves`, `scatter` and `decision_boundary` take formulas between dollar signs in titles, labels and legends
("$\\lambda = 0.1$"), as matplotlib does; in other figures, whose names are mostly data, all text is drawn as it is.
"""

from jann.plots.boundaries import decision_boundary
from jann.plots.confusion import confusion_matrix
from jann.plots.distributions import histogram
from jann.plots.forecasts import forecasts, importances
from jann.plots.grids import feature_maps, filters, images
from jann.plots.learning_curves import curves
from jann.plots.motions import motion
from jann.plots.networks import network
from jann.plots.objects import boxes
from jann.plots.scatters import scatter
from jann.plots.sound import piano_rolls, spectrograms

__all__ = [
    "boxes",
    "confusion_matrix",
    "curves",
    "decision_boundary",
    "feature_maps",
    "filters",
    "forecasts",
    "histogram",
    "images",
    "importances",
    "motion",
    "network",
    "piano_rolls",
    "scatter",
    "spectrograms",
]
