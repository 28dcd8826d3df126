"""Vitexco: the paper's experiment, top to bottom.

  python launch.py --config=configs/vitexco.py                 the paper's size
  python launch.py --config=configs/vitexco.py:small           for CPUs, included
  python launch.py --config=configs/vitexco.py:tiny            :small, for tests
  python launch.py --config=configs/vitexco.py:paper_tiny      paper's, for tests

Every value is defined once, in pipeline order. "Sec." is a section of the paper.
Values that the paper does not state come from the work it builds on, Deep
Exemplar-based Video Colorization ("DEVC", Zhang et al., CVPR 2019), as marked.
`vitexco_jax/schema.py` has the bounds of each value.

Cost and result, PSNR on DAVIS:

  paper    100,000 updates of four two-frame clips on two GPUs. Published: 28.88 dB
           (Table I, protocol unstated). Not run here: there was no GPU.
  :small   36 minutes on two CPU cores, 1,746 updates of the prior, and 100 minutes of
           the mixture on one core (weights/small). Measured: 32.35 dB, ten sequences
           with their first frame as the reference, which does not count
           (docs/results.md).
"""

import ml_collections


def get_config(variant: str = 'paper') -> ml_collections.ConfigDict:
  """Returns the config of a variant: one of `_VARIANTS`."""
  config = ml_collections.ConfigDict()
  config.variant = variant
  config.seed = 0

  # Data, Sec. IV.
  config.data = ml_collections.ConfigDict()
  config.data.records = 'data/records'  # Written by --mode=prepare.
  config.data.size = (224, 384)  # DEVC's 216x384, to a multiple of 16.
  config.data.frame_step = 2  # "every 2 frames"
  config.data.run_length = 64  # Maximum number of frames in a run.
  config.data.min_frames = 4  # Shorter shots are skipped.
  # Quality bounds; see vitexco_jax/media/quality.py. 0 disables a bound.
  config.data.quality = ml_collections.ConfigDict()
  config.data.quality.min_chroma = 1.8  # "black-and-white"
  config.data.quality.min_motion = 4.0
  config.data.quality.max_blockiness = 1.5  # "low-quality"
  config.data.quality.max_blur = 0.66
  config.data.flow = 'deepflow'  # Or 'dis', 25 times faster.
  # Share of samples with a retrieved reference (DEVC). The others use a frame of the
  # same video. Shares of these: the first frame of the clip, the most frequent case
  # in use; the last frame, smoothly warped; a frame at most five frames away. The
  # rest: any frame.
  config.data.retrieved_share = 0.7
  config.data.first_frame_share = 0.3
  config.data.warped_share = 0.0
  config.data.nearby_share = 0.0
  config.data.threads = 4  # Reading and decoding in this process ...
  config.data.workers = 0  # ... or in this many others.

  # Retrieval of references, Sec. IV.
  config.retrieval = ml_collections.ConfigDict()
  # "extract embeddings ... using the ViT": its class token. Use
  # 'efficientnet_lite0' if there are no pretrained ViT weights.
  config.retrieval.network = 'vit'
  # Weights of this ViT: a file as `train.vit_weights`, or an export or checkpoint as
  # `train.init`. '': those with which training starts.
  config.retrieval.weights = ''
  config.retrieval.gray = True  # Pictures are compared without colors.
  config.retrieval.index = 'exact'  # Or 'ivf', approximate and faster.
  config.retrieval.count = 5  # "the five most similar images"
  config.retrieval.near_duplicate = (
    0.95  # Maximum cosine of two results; 2: any.
  )

  # Augmentation. The last four degrade the L that the networks see; blur, flicker,
  # and grain are maxima, of which a clip has half on average. With the values for
  # old film, 224x384 clips resemble three restored films of the 1940s and 1950s;
  # worn prints would need more.
  config.augment = ml_collections.ConfigDict()
  config.augment.flip = 0.5  # Probability.
  config.augment.crop = 1.0  # Minimum share of each side; e.g. 0.7.
  config.augment.blur = 0.0  # Sigma in pixels; old film: 0.8.
  config.augment.flicker = 0.0  # Relative change of L; old film: 0.02.
  config.augment.grain = 0.0  # Standard deviation in L; old film: 1.0.
  config.augment.luminance_noise = 2.0  # Standard deviation in L (DEVC).

  # Networks, Sec. III.
  config.model = ml_collections.ConfigDict()
  config.model.dtype = 'float32'  # Or 'bfloat16', for the convolutions.
  config.model.stem = ''  # None; or 'efficientnet_lite0': a hybrid ViT.
  config.model.vit = ml_collections.ConfigDict()
  config.model.vit.variant = 'Ti/16'  # "tiny version of ViT"
  config.model.vit.taps = (8, 9, 10, 11, 12)  # Blocks, counted from 1.
  config.model.vit.gelu = 'tanh'  # For AugReg weights; timm weights need 'erf'.
  # Side of the grid of position embeddings; 0: that of 224x224 pixels. Initial
  # weights override it.
  config.model.vit.pos_grid = 0
  config.model.feature_transform = ml_collections.ConfigDict()
  config.model.feature_transform.kind = 'bilinear'  # Or 'subpixel'.
  config.model.feature_transform.width = 1.0
  config.model.feature_transform.dropout = 0.3
  config.model.correspondence = ml_collections.ConfigDict()
  config.model.correspondence.levels = (1, 2, 3, 4, 5)  # DEVC: 2 to 5.
  config.model.correspondence.width = 1.0
  config.model.correspondence.temperature = 0.01  # DEVC
  config.model.correspondence.block = 432  # Rows of the matching per block.
  config.model.colorizer = ml_collections.ConfigDict()
  config.model.colorizer.kind = 'u_net'  # Or 'mixture': see `_small`.
  config.model.colorizer.width = 1.0
  config.model.colorizer.residual = ''  # Or 'warped'.
  # The other colorizer; not the paper's. Its rules trust the previous frame and an
  # anchor (by `use.anchor`) less as their lightness differs: 1/e at this tolerance.
  config.model.mixture = ml_collections.ConfigDict()
  config.model.mixture.channels = 24  # Of its network; 0: fixed rules.
  config.model.mixture.context = 0  # Of what surrounds a position; 0: nothing.
  config.model.mixture.smooth = 0  # Radius of smoothing; 0: there is none.
  config.model.mixture.previous_weight = 0.982  # 0 to 1.
  config.model.mixture.previous_tolerance = 10.0  # In L.
  config.model.mixture.anchor_tolerance = 5.0
  config.model.prior = ml_collections.ConfigDict()
  config.model.prior.width = 0.0  # Not the paper's; see `_small`.
  config.model.prior.unsure_spread = 20.0  # Where its confidence is 1/e, in ab.
  config.model.prior.same_cosine = 0.7  # Of positions that show the same.
  # Colors that follow optical flow; not the paper's. The likeness of a frame to the
  # previous one, and to an anchor, falls to 1/e at these differences of cosines.
  config.model.motion = ml_collections.ConfigDict()
  config.model.motion.previous_tolerance = 0.1
  config.model.motion.anchor_tolerance = 0.2
  config.model.motion.flow_alpha = (
    10.0  # Smoothing of DIS; OpenCV's default: 20.
  )
  config.model.discriminator = ml_collections.ConfigDict()
  config.model.discriminator.width = 1.0

  # Losses, Sec. III-D, with the weights of Sec. IV. For the definition of each loss
  # see vitexco_jax/training/losses.py.
  config.loss = ml_collections.ConfigDict()
  config.loss.weights = ml_collections.ConfigDict()
  config.loss.weights.l1 = 2.0
  config.loss.weights.adversarial = 0.2  # 0: no discriminator.
  config.loss.weights.perceptual = 0.005
  config.loss.weights.contextual = 0.5
  config.loss.weights.temporal = 0.02
  config.loss.weights.smoothness = 5.0
  config.loss.weights.warped = 0.0  # Not the paper's; see `_small`.
  config.loss.weights.error = 0.0  # Not the paper's; only for a mixture.
  config.loss.features = 'feature_transform'  # Or 'vgg16', as in DEVC.
  config.loss.l1_same_video_only = False  # DEVC: True.

  # Pretraining, not in the paper; see vitexco_jax/training/pretrain.py.
  config.pretrain = ml_collections.ConfigDict()
  config.pretrain.size = (224, 224)  # Of the crops; usual for ViTs.
  config.pretrain.crop = 0.5  # Minimum side relative to the largest crop.
  config.pretrain.gray = 0.5  # Share of the crops that are shown in gray.
  config.pretrain.updates = 50_000
  config.pretrain.batch_size = 64  # Crops of one optimizer update ...
  config.pretrain.accumulation = 1  # ... in this many micro-steps.
  config.pretrain.learning_rate = ml_collections.ConfigDict()
  # Barely tuned: 400 updates of 8 small crops explained 5.5 % of the maps, and
  # 3.7 % with 5e-4 for ViT and decoders and 4e-3 for heads.
  config.pretrain.learning_rate.vit = 1e-4
  config.pretrain.learning_rate.feature_transform = 1e-3
  config.pretrain.learning_rate.prior = 1e-3
  # Single layers, discarded after pretraining.
  config.pretrain.learning_rate.heads = 1e-2
  config.pretrain.first_block = 1  # First ViT block that is trained.
  config.pretrain.warmup = 0.05  # Share of the updates; then a cosine to 0.
  config.pretrain.weight_decay = 0.05
  config.pretrain.gradient_norm = 1.0  # Gradients are clipped to it.
  config.pretrain.taught = 1.0  # Share of the crops that train the class token.
  config.pretrain.average = 0.0  # Decay of the average of parameters; 0: none.
  # Additional pictures for the validation curve.
  config.pretrain.validation = ''
  config.pretrain.weights = ml_collections.ConfigDict()
  config.pretrain.weights.maps = 1.0  # Mean of the five levels.
  config.pretrain.weights.class_token = 1.0  # If the ViT is trained.
  config.pretrain.weights.color = 0.0  # Of the prior, if there is one.
  config.pretrain.weights.spread = 0.0
  config.pretrain.log_every = 50
  config.pretrain.checkpoint_every = 1000

  # Training, Sec. IV.
  config.train = ml_collections.ConfigDict()
  config.train.updates = 100_000
  config.train.batch_size = 4  # Clips of one optimizer update ...
  config.train.accumulation = 2  # ... in this many micro-steps.
  config.train.clip_length = 2  # Frames of a clip ("two consecutive frames").
  config.train.learning_rate = ml_collections.ConfigDict()
  config.train.learning_rate.stem = 0.0  # 0: frozen.
  config.train.learning_rate.vit = 0.0
  config.train.learning_rate.feature_transform = 1e-5
  config.train.learning_rate.correspondence = 1e-5
  config.train.learning_rate.colorizer = 1e-5
  config.train.learning_rate.discriminator = 1e-5
  config.train.learning_rate.prior = 0.0  # No loss of training reaches it.
  config.train.schedule_power = 0.0  # Polynomial decay to 0; 0: constant.
  config.train.b1 = 0.5
  config.train.b2 = 0.999
  config.train.weight_decay = 0.01
  config.train.unroll = 0  # Frames a scan unrolls; 0: all on CPU, 1 on GPU.
  config.train.vit_weights = ''  # AugReg .npz, timm .safetensors or .pth.
  config.train.init = ''  # An export or checkpoint to start from.
  config.train.log_every = 50
  config.train.strip_every = 1000
  config.train.checkpoint_every = 1000

  # Training of the mixture, not in the paper; see vitexco_jax/training/mix.py.
  config.mix = ml_collections.ConfigDict()
  config.mix.windows = 750  # Clips of 16 frames; 11 MB each at 224x384.
  config.mix.run = 5  # Frames through which a gradient flows.
  config.mix.updates = 2500
  config.mix.batch_size = 4  # Windows of an update: a step for each run.
  config.mix.learning_rate = 3e-3  # After a warmup, a cosine to 0.
  config.mix.candidate_weight = 0.2  # Of the loss of predicted errors.
  config.mix.validation = ''  # Other videos, for the validation curve.
  config.mix.log_every = 20
  config.mix.checkpoint_every = 200

  # Use.
  config.use = ml_collections.ConfigDict()
  config.use.size = (224, 384)  # Working size, a bound: aspect is kept.
  config.use.temperature = 0.01  # 0: only the best match.
  # Colors of a reference that is a frame of the video are also propagated by the
  # optical flow to it: their maximum weight, 0 to 1.
  config.use.anchor = 0.0
  # Frames larger than the working size are matched at that size, but colors follow
  # motion at up to this multiple of it.
  config.use.refine = 1
  # Optical flow in use: 'dis' of OpenCV on the host, 'jax' on the device, or 'auto':
  # 'dis' if the device is a CPU, otherwise 'jax', so that the device need not wait.
  config.use.flow = 'auto'
  # References are encoded at the working size and, above 1, also at this multiple of
  # it, to match objects that come closer.
  config.use.enlarge = 1
  # Number of principal components of the features for matching; 0: all features.
  config.use.components = 0
  # Each tile of 4x4 positions is matched with so many cells of 4x4 positions of the
  # references, those most similar on average; 0: with all positions.
  config.use.matched_cells = 64
  # The networks see frames with even exposure: a change from frame to frame by at
  # least `flicker_least` is corrected, and the correction decays by
  # `flicker_memory` per frame, so that slow changes remain; 0: off. Grain with at
  # least this standard deviation in L is filtered, by its multiple `grain_filter`;
  # 0: off. Results keep the L of the film. Choices: docs/results.md, "Old film".
  config.use.flicker_memory = 0.98
  config.use.flicker_least = 0.01
  config.use.grain_filter = 3.0
  config.use.grain_least = 1.0
  # A still that is a frame of the film gets the lightness of that frame: aligned if
  # that helps, with the histogram of its L. Below this share of places with the
  # frame's structure, a warning says so: of stills that an editor made brighter,
  # sharper, and up to 6 % larger, 0.82 to 1.0 agree; with a foreign object on a sixth
  # of the picture, 0.65 to 0.82; another frame of a moving shot has 0.02 to 0.6.
  config.use.fit_stills = True
  config.use.still_agreement = 0.82
  # `--mode=stills` compares so many frames of each shot. A frame is used if its
  # sharpness is at least this share of the median of the shot, and if its cosine to
  # those that were chosen is below `still_duplicate`.
  config.use.still_candidates = 16
  config.use.still_sharpness = 0.5
  config.use.still_duplicate = 0.98
  # Of a folder or a gallery, so many of the most similar references are tried on each
  # shot. A position is covered if the confidence of its match is above this.
  config.use.tried = 3
  config.use.covered_confidence = 0.5
  # Between two references that are frames of the film, colors come from both. Each
  # counts e times as much if it is more confident by this.
  config.use.mix_tolerance = 0.1
  # A warning names the places where another reference is needed: so many frames in
  # a row with less confidence. With weights/small, 17 clips outside the training
  # data have 0.62 to 0.81 with their first frame, and 0.32 to 0.45 with an unrelated
  # picture; three old films with stills that people chose have 0.45 to 0.62.
  config.use.unsure_confidence = 0.47
  config.use.unsure_frames = 12

  if variant not in _VARIANTS:
    raise ValueError(
      f'unknown variant {variant!r} of configs/vitexco.py: '
      f'{", ".join(_VARIANTS)} are known'
    )
  _VARIANTS[variant](config)
  return config.lock()


def _small(config: ml_collections.ConfigDict) -> None:
  """Full ViT-Ti/16, all other networks narrow; trains the ViT from scratch."""
  config.data.records = 'data/records_small'
  config.data.size = (112, 192)
  config.data.frame_step = 1
  config.data.flow = 'dis'
  config.data.warped_share = 0.1
  config.data.nearby_share = 0.2
  config.retrieval.network = 'efficientnet_lite0'  # The ViT has no classes.
  # Pretrained ViTs are not available without a hub, and a CPU cannot train one. A
  # hybrid with a small pretrained network matches better without training than the
  # ViT after hours of training (docs/results.md).
  config.model.stem = 'efficientnet_lite0'
  config.model.feature_transform.width = 0.25
  config.model.feature_transform.dropout = 0.0
  config.model.correspondence.levels = (3, 4, 5)
  config.model.correspondence.width = 0.5
  # 0.13 dB better than 0.01 for the stem's maps (docs/results.md).
  config.model.correspondence.temperature = 0.02
  # No U-Net: InstanceNorms remove the strength of colors, and learning to restore it
  # takes far longer than a CPU can train (docs/results.md). A mixture of colors that
  # are nearly right learns within an hour.
  config.model.colorizer.kind = 'mixture'
  config.model.mixture.context = 16
  config.model.mixture.smooth = 2
  config.model.discriminator.width = 0.25
  config.loss.features = 'vgg16'
  # With L1 for references from other videos, colors become pale.
  config.loss.l1_same_video_only = True
  # Without a pretrained ViT the matching must be trained too: by the error of the
  # warped colors if the reference is from the same video.
  config.loss.weights.warped = 1.0
  # As for `weights/small`: DEVC's sum of three levels.
  config.loss.weights.contextual = 0.5 * 14
  # ViT and Feature Transform learn color, with a prior that colorizes frames
  # without a reference. Stills of all kinds count more than updates. VGG16's maps
  # are left out: at five times the cost of all else they teach no color.
  config.model.prior.width = 1.0
  config.loss.weights.error = 0.1  # The mixture learns which error to expect.
  config.pretrain.size = (128, 128)
  config.pretrain.gray = 1.0
  config.pretrain.updates = 80_000
  config.pretrain.batch_size = 16
  config.pretrain.weights.maps = 0.0
  config.pretrain.weights.class_token = 0.2
  config.pretrain.weights.color = 1.0
  config.pretrain.weights.spread = 0.1
  config.pretrain.learning_rate.vit = 2e-4
  config.pretrain.learning_rate.feature_transform = 5e-4
  # At first; 1, later, learns the whole ViT at twice the cost of an update.
  config.pretrain.first_block = 9
  config.pretrain.warmup = 0.004
  config.pretrain.weight_decay = 0.02
  config.pretrain.average = 0.999
  config.pretrain.taught = 1 / 8
  config.train.updates = 10_000
  config.train.accumulation = 1
  for group in config.train.learning_rate:
    config.train.learning_rate[group] = 2e-4
  config.train.learning_rate.stem = 0.0
  config.train.learning_rate.prior = 0.0
  config.train.schedule_power = 1.0
  config.use.temperature = config.model.correspondence.temperature
  config.use.anchor = 0.7
  config.use.refine = 2
  config.use.enlarge = 2
  config.use.components = 128


def _tiny(config: ml_collections.ConfigDict) -> None:
  """`:small` in seconds; its results are meaningless."""
  _small(config)
  _narrow(config)
  config.data.records = 'data/records_tiny'
  config.model.stem = ''
  config.loss.features = 'feature_transform'
  config.train.batch_size = 2


def _paper_tiny(config: ml_collections.ConfigDict) -> None:
  """The paper's structure in seconds; its results are meaningless.

  As in the paper, the ViT is frozen: set its weights with
  --config.train.vit_weights.
  """
  _narrow(config)
  config.data.records = 'data/records_paper_tiny'


def _narrow(config: ml_collections.ConfigDict) -> None:
  """Sets sizes and lengths for tests; keeps the structure."""
  config.data.size = (32, 48)
  config.data.run_length = 8
  config.data.threads = 1
  config.model.vit.variant = 'test/16'
  config.model.vit.taps = (1, 1, 2, 2, 2)
  config.model.feature_transform.width = 1 / 16
  config.model.feature_transform.dropout = 0.3
  config.model.correspondence.width = 1 / 16
  config.model.correspondence.block = 40
  config.model.colorizer.width = 1 / 16
  config.model.mixture.channels = 4
  config.model.mixture.context = 2
  config.model.mixture.smooth = 1
  config.model.prior.width = 1 / 16
  config.model.discriminator.width = 1 / 16
  config.pretrain.size = (32, 48)
  config.pretrain.gray = 0.5
  config.pretrain.first_block = 2
  config.pretrain.taught = 1.0
  config.pretrain.weights.maps = 1.0
  config.pretrain.updates = 4
  config.pretrain.batch_size = 2
  config.pretrain.log_every = 1
  config.pretrain.checkpoint_every = 2
  config.mix.windows = 4
  config.mix.updates = 4
  config.mix.batch_size = 2
  config.mix.log_every = 1
  config.mix.checkpoint_every = 2
  config.train.updates = 4
  config.train.log_every = 1
  config.train.strip_every = 2
  config.train.checkpoint_every = 2
  config.use.size = (64, 96)
  config.use.refine = 1
  config.use.enlarge = 1
  config.use.components = 0


_VARIANTS = {
  'paper': lambda config: None,
  'small': _small,
  'tiny': _tiny,
  'paper_tiny': _paper_tiny,
}
