"""The preparation as a pipeline of Apache Beam: the same records."""

import importlib.util

import pytest

from tests.prepare_test import _config, _files, _write_video
