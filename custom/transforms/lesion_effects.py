"""How each group of synthetic lesions changes a head: pure functions (volume, anatomy, parameters) -> (volume, mask).

Volumes are (C, X, Y, Z) float32 in [0, 1], masks boolean (X, Y, Z). All chance sits in the parameters (place, size, strength)
and in their seed (irregular border, texture), so that an effect can be replayed. All lengths are millimetres.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from custom.transforms.head_anatomy import HeadAnatomy, distance_in_slice, smooth_noise
