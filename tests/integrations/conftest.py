"""The packages of `integrations`, imported from their folders."""

import sys
from pathlib import Path

_FOLDER = Path(__file__).resolve().parents[2] / 'integrations'
sys.path[:0] = [str(_FOLDER / 'vsvitexco')]
