"""Vitexco for VapourSynth: colorizes clips with color pictures of their frames."""

from vsvitexco.filters import vs_recolor as vs_recolor
from vsvitexco.filters import vs_vitexco as vs_vitexco
