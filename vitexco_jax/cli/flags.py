"""The flags of the command line; `modes` says which mode has which.

A help text starts with a lower-case word, since the names of the modes come first.
"""

from absl import flags

from vitexco_jax import config as configs
from vitexco_jax import files

PAPER = str(files.shipped(configs.PAPER))

CONFIG = flags.DEFINE_string(
  'config',
  PAPER,
  'FILE[:VARIANT] of the config; :VARIANT selects a variant of '
  'configs/vitexco.py. --config.NAME=VALUE changes a value.',
)
MODE = flags.DEFINE_string('mode', 'train', 'what to do.')
WORKDIR = flags.DEFINE_string(
  'workdir', 'runs/vitexco', 'folder of a training run.'
)
COORDINATOR = flags.DEFINE_string(
  'coordinator',
  None,
  'on several hosts: HOST:PORT of host 0, or auto to ask the cluster.',
)
HOSTS = flags.DEFINE_integer(
  'hosts', None, 'on several hosts: number of hosts.'
)
HOST = flags.DEFINE_integer(
  'host',
  None,
  'on several hosts: index of this host, from 0.',
)
CHECKPOINT = flags.DEFINE_string(
  'checkpoint',
  'small',
  'weights to use: small, an export, or the workdir of a run.',
)
VIDEOS = flags.DEFINE_string(
  'videos', None, 'a folder of videos, or a text file that lists them.'
)
IMAGES = flags.DEFINE_string(
  'images',
  None,
  'a folder of pictures, or the name of a TFDS data set; for prepare, a folder '
  'of additional pictures for training.',
)
GALLERY = flags.DEFINE_string(
  'gallery',
  None,
  'folder of a gallery of references.',
)
QUERY = flags.DEFINE_string(
  'query', None, 'an image, a video, or a folder of frames.'
)
BEAM = flags.DEFINE_string(
  'beam',
  None,
  'options of an Apache Beam pipeline, such as --runner=FlinkRunner, '
  'that prepares the files or colorizes the stretches of a film.',
)
VIDEO = flags.DEFINE_string(
  'video',
  None,
  'a video, a folder of frames, or an image.',
)
REFERENCE = flags.DEFINE_multi_string(
  'reference',
  None,
  'a color image, or first-frame, for all shots (repeat the flag '
  'for several); auto: the best of --gallery for each shot; none: the colors '
  'that the network expects.',
)
REFERENCES = flags.DEFINE_string(
  'references',
  None,
  'a folder of color images, or a list of them (text, or CSV '
  'with file,frame or file,time); each shot uses the most similar ones. A CSV with '
  'enabled,end,reference gives each stretch its reference.',
)
PLAN = flags.DEFINE_string(
  'plan', None, 'a plan from --mode=plan, possibly edited.'
)
OUTPUT = flags.DEFINE_string('output', None, 'output file or folder.')
OVERWRITE = flags.DEFINE_bool('overwrite', False, 'replace an existing output.')
FRAMES = flags.DEFINE_string(
  'frames',
  None,
  'colorize only a part: START:STOP in frames from 0, such as 100:240, or '
  'START-STOP in times, such as 0:04:00-0:05:10; STOP is not included.',
)
PREVIEW = flags.DEFINE_bool(
  'preview',
  False,
  'colorize only one frame of each shot, into a contact sheet: --output is an '
  'image.',
)
COUNT = flags.DEFINE_integer(
  'count', 2, 'most stills of each shot.', lower_bound=1, upper_bound=16
)
FINISHED = flags.DEFINE_string(
  'finished',
  None,
  'a finished output with its segments, OUTPUT.work: stills of only the frames '
  'that need another reference.',
)
KEEP_WORK = flags.DEFINE_bool(
  'keep-work',
  None,
  'keep the segments of the finished film in OUTPUT.work, so that the next '
  'run with --overwrite recolors only what has changed. By default they are '
  'kept if as much of the disk stays free as they take; not for one image.',
)
CODEC = flags.DEFINE_string(
  'codec',
  'h264',
  'h264, hevc, ffv1 (lossless), prores, prores4444, or dnxhr; for a folder png, '
  'tiff, dpx, or exr, by default png.',
)
BITS = flags.DEFINE_integer(
  'bits',
  None,
  '8, 10, or 16 bits per channel, if supported by the codec.',
)
QUALITY = flags.DEFINE_integer(
  'quality',
  None,
  'crf of h264 and hevc, 0 (best) to 51; profile of prores, 0 (proxy) '
  'to 3 (HQ).',
)
WORKING_SIZE = flags.DEFINE_string(
  'working-size',
  None,
  'HEIGHTxWIDTH within which colors are predicted; by default '
  'that of the weights, or less if the machine has little memory.',
)
SATURATION = flags.DEFINE_float(
  'saturation', 1.0, 'factor applied to the colors.'
)
SMOOTHING = flags.DEFINE_float(
  'smoothing',
  0.0,
  'strength of the edge-aware filter of the colors; a typical value is 500.',
)
COMPARE = flags.DEFINE_string(
  'compare', None, 'also write a side-by-side video to this path.'
)
CONFIDENCE = flags.DEFINE_string(
  'confidence',
  None,
  'also write a video of the matching confidence to this path.',
)
AUDIO = flags.DEFINE_string(
  'audio', 'auto', 'auto copies the audio; none omits it.'
)
FRAME_RATE = flags.DEFINE_string(
  'frame-rate',
  None,
  'frames per second of a folder of frames, such as 24 or '
  '24000/1001; 25 by default.',
)
DEINTERLACE = flags.DEFINE_bool(
  'deinterlace',
  False,
  'deinterlace the video, at the same frame rate.',
)
ADDRESS = flags.DEFINE_string(
  'address',
  '127.0.0.1:7860',
  'HOST:PORT of the page; 0.0.0.0 opens it to other machines.',
)
UPLOAD_LIMIT = flags.DEFINE_integer(
  'upload-limit', 2000, 'maximum size of a video, in MB.', lower_bound=1
)
DISK_LIMIT = flags.DEFINE_integer(
  'disk-limit',
  20_000,
  'maximum size of the files of all sessions together, in MB.',
  lower_bound=1,
)
DATA = flags.DEFINE_string(
  'data',
  None,
  'a folder of videos or of folders of frames, a single one, records, '
  'or the name of a TFDS data set.',
)
PREDICTIONS = flags.DEFINE_multi_string(
  'predictions',
  None,
  "another method's results for the same clips, instead of the network: PATH, or "
  'LABEL=PATH; repeat the flag to compare several.',
)
PROTOCOLS = flags.DEFINE_list(
  'protocols',
  ['first-frame'],
  'any of first-frame, far-frame, retrieved, multi, none, aged, edited-still, '
  'entering, separated by commas.',
)
DEVC = flags.DEFINE_string(
  'devc',
  None,
  "a clone of DEVC's repository: only compares its speed with that of "
  'weights/small.',
)
PROFILE = flags.DEFINE_string(
  'profile',
  None,
  'only records a profile of coloring a video, into this folder; open its trace '
  'on ui.perfetto.dev.',
)
LEADERBOARD = flags.DEFINE_string(
  'leaderboard',
  None,
  'a CSV file to which the means of all methods are added.',
)
BASELINES = flags.DEFINE_list(
  'baselines',
  ['gray', 'flow'],
  'any of gray, flow, transfer, vgg16, separated by commas.',
)
