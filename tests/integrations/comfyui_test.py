"""The node for ComfyUI, with stand-ins for ComfyUI's published interface."""

import asyncio
import importlib.util
import json
import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest
from painter import Painter

from vitexco_jax import FrameServer, UserError

FOLDER = Path(__file__).resolve().parents[2] / 'integrations/comfyui'
SIZE, CUT, COUNT = (48, 64), 8, 16  # Whole blocks compile one program.


class _Tensor(np.ndarray):
  """What the node uses of a tensor of PyTorch."""

  def cpu(self):
    return self

  def numpy(self):
    return np.asarray(self)


def _tensor(array):
  return np.asarray(array).view(_Tensor)


class _Put:
  """An input or output: its kind, id, and options."""

  def __init__(self, kind, id=None, optional=False, **options):
    self.kind, self.id, self.optional = kind, id, optional
    self.options = options


def _kind(name, *, widget=False):
  def make(id=None, **options):
    known = {'display_name', 'optional', 'tooltip', 'default', 'multiline'}
    assert set(options) <= (known if widget else known - {'default'})
    return _Put(name, id, **options)

  return types.SimpleNamespace(Input=make, Output=make)


class _Schema:
  def __init__(
    self, node_id, display_name, category, description, inputs, outputs
  ):
    self.node_id, self.inputs, self.outputs = node_id, inputs, outputs
    ids = [x.id for x in inputs + outputs]
    assert len(set(ids)) == len(ids)


class _Output:
  def __init__(self, *args):
    self.args = args


class _Bar:
  """ComfyUI's progress bar."""

  steps: list[tuple[int, int]] = []

  def __init__(self, total):
    self._total = total

  def update(self, value):
    self.steps.append((value, self._total))


@pytest.fixture(scope='module')
def package():
  """The package, loaded from its folder as ComfyUI does."""
  io = types.SimpleNamespace(
    ComfyNode=object,
    Schema=_Schema,
    NodeOutput=_Output,
    Image=_kind('IMAGE'),
    Mask=_kind('MASK'),
    String=_kind('STRING', widget=True),
    Boolean=_kind('BOOLEAN', widget=True),
  )
  api = types.ModuleType('comfy_api.latest')
  api.io, api.ComfyExtension = io, object
  parent = types.ModuleType('comfy_api')
  parent.latest = api
  comfy, utils = types.ModuleType('comfy'), types.ModuleType('comfy.utils')
  comfy.utils, utils.ProgressBar = utils, _Bar
  torch = types.ModuleType('torch')
  torch.Tensor, torch.from_numpy = _Tensor, _tensor
  spec = importlib.util.spec_from_file_location(
    'a_node_pack',
    FOLDER / '__init__.py',
    submodule_search_locations=[str(FOLDER)],
  )
  module = importlib.util.module_from_spec(spec)
  modules = (api, parent, comfy, utils, torch)
  with pytest.MonkeyPatch.context() as patch:
    for stand_in in modules:
      patch.setitem(sys.modules, stand_in.__name__, stand_in)
    patch.setitem(sys.modules, 'a_node_pack', module)
    patch.setenv('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop('a_node_pack.nodes')


@pytest.fixture(scope='module')
def node(package):
  extension = asyncio.run(package.comfy_entrypoint())
  (node,) = asyncio.run(extension.get_node_list())
  return node


def _picture(seed):
  small = np.random.default_rng(seed).uniform(0.2, 0.8, (6, 8, 3))
  large = cv2.resize(small, SIZE[::-1], interpolation=cv2.INTER_LINEAR)
  return np.float32(large)


def _gray(number):
  rgb = np.roll(_picture(number >= CUT), number // 2, 1)
  return np.repeat(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[..., None], 3, -1)


GRAYS = np.stack([_gray(number) for number in range(COUNT)])


def _deep(pictures):
  return [np.round(x * 65535).astype(np.uint16) for x in pictures]


def test_gives_the_frames_of_the_engine(node, package, tiny_weights):
  _Bar.steps.clear()
  pictures = [_picture(seed) for seed in (7, 8, 9)]
  output = node.execute(
    video_frames=_tensor(GRAYS),
    reference_images=_tensor(np.stack(pictures)),
    reference_frames=f'0, any, {CUT}',
    weights=str(tiny_weights),
  )
  images, confidence = output.args
  assert images.shape == (COUNT, *SIZE, 3) and images.dtype == np.float32
  assert confidence.shape == (COUNT, *SIZE) and confidence.dtype == np.float32
  assert 0 <= confidence.min() < confidence.max() <= 1
  assert _Bar.steps == [(1, COUNT)] * COUNT
  first, other, second = _deep(pictures)
  frames = _deep(GRAYS)
  colorizer = package.nodes._load(str(tiny_weights))
  server = FrameServer(colorizer, frames, {0: first, CUT: second}, [other])
  for number in (0, CUT - 1, COUNT - 1):
    expected = server.colors(number).join(frames[number])
    np.testing.assert_allclose(images[number], expected / 65535, atol=1e-6)
    assert np.ptp(images[number], -1).max() > 0.1  # In color.


def test_shots_and_references_are_optional(node, package, monkeypatch):
  painter = Painter()
  monkeypatch.setattr(painter, 'on', lambda device: painter, raising=False)
  monkeypatch.setattr(package.nodes, '_load', lambda weights: painter)
  transparent = np.concatenate([GRAYS, np.ones_like(GRAYS[..., :1])], -1)
  whole, _ = node.execute(_tensor(transparent), detect_cuts=False).args
  assert painter.references[-1] == (0, False)  # The prior.
  shots, _ = node.execute(_tensor(GRAYS)).args
  # `Painter` counts the frames of a shot.
  np.testing.assert_array_equal(whole[:CUT], shots[:CUT])
  assert np.abs(whole[CUT:] - shots[CUT:]).max() > 0.01


@pytest.mark.parametrize(
  'text, message',
  [
    ('0, one', "has 'one'"),
    ('-1', "has '-1'"),
    ('3 3', 'frame 3 twice'),
    ('0', '1 entries for 2 reference images'),
    ('0, 16', 'frame 16, but there are 16 frames'),
  ],
)
def test_wrong_numbers_are_explained(node, tiny_weights, text, message):
  references = _tensor(np.stack([_picture(7), _picture(8)]))
  with pytest.raises(UserError, match=message):
    node.execute(_tensor(GRAYS), references, text, weights=str(tiny_weights))
  early = node.validate_inputs(reference_frames=text)
  assert early is True or message in early


def test_numbers_are_checked_before_the_graph_runs(node):
  assert node.validate_inputs(reference_frames='0, 120, any') is True
  assert node.validate_inputs(reference_frames=None) is True
  assert 'one' in node.validate_inputs(reference_frames='one')


def test_the_example_workflow_fits_the_node(node):
  (path,) = (FOLDER / 'example_workflows').iterdir()
  workflow = json.loads(path.read_text())
  nodes = {x['id']: x for x in workflow['nodes']}
  for number, source, slot, target, place, kind in workflow['links']:
    output = nodes[source]['outputs'][slot]
    wanted = nodes[target]['inputs'][place]
    assert number in output['links'] and number == wanted['link']
    assert output['type'] == wanted['type'] == kind
  schema = node.define_schema()
  (own,) = (x for x in nodes.values() if x['type'] == schema.node_id)
  sockets = [x for x in schema.inputs if x.kind in ('IMAGE', 'MASK')]
  widgets = [x for x in schema.inputs if x not in sockets]
  assert [(x['name'], x['type']) for x in own['inputs']] == [
    (x.id, x.kind) for x in sockets
  ]
  assert [(x['name'], x['type']) for x in own['outputs']] == [
    (x.id, x.kind) for x in schema.outputs
  ]
  for value, widget in zip(own['widgets_values'], widgets, strict=True):
    assert type(value) is type(widget.options['default'])
  assert node.validate_inputs(own['widgets_values'][0]) is True
