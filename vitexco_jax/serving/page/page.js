// The page of --mode=serve: files, progress, and the result.

import {$, clock, drawList, element} from './elements.js';
import {
  act, follow, leave, poll, refresh, send, session, showError,
} from './session.js';
import {drawSettings} from './settings.js';
import {drawShots} from './shots.js';
import {drawViewer, followJob} from './viewer.js';

let shownResult = null;

async function upload(zone, files) {
  const kind = zone.dataset.kind;
  const limit = session.state.limits[kind];
  const bar = zone.querySelector('progress');
  showError('');
  bar.hidden = false;
  for (const file of kind === 'video' ? files.slice(0, 1) : files) {
    if (file.size > limit * 1e6) {
      showError(`${file.name} is too large: at most ${limit} MB are allowed.`);
      break;
    }
    if (!await send(kind, file, bar)) break;
    await refresh();
  }
  bar.hidden = true;
}

// --- Display ---

function draw(state) {
  $('video-text').textContent = state.video ||
    `Drop a video here, or choose a file (up to ${state.limits.video} MB)`;
  $('facts').textContent = describe(state.facts);
  document.title = title(state);
  drawPoster(state);
  $('sample').hidden = !state.sample || Boolean(state.video);
  $('try-sample').disabled = state.busy;
  for (const input of document.querySelectorAll('.drop input'))
    input.disabled = state.busy;
  drawList($('pictures'), state.references,
    (reference) => [reference, state.busy], drawPicture);
  $('find').textContent = state.planned
    ? 'Propose references again' : 'Find shots and propose references';
  $('find').disabled =
    state.busy || !state.video || !(state.references.length || state.prior);
  $('no-picture').hidden = !state.prior;
  $('color').textContent = coloring(state);
  $('color').disabled = state.busy || !state.planned;
  drawJob(state);
  drawList($('warnings'), state.warnings, (x) => x,
    (x) => element('li', {textContent: x}));
  drawResult(state.result);
}

function coloring({kept, result}) {
  if (result) return 'Colorize what has changed';
  return kept ? 'Continue' : 'Colorize the video';
}

function drawResult(result) {
  $('download').hidden = !result;
  if (shownResult === result) return;
  shownResult = result;
  $('download').download = result || '';
  // Not all browsers play other codecs; see `onerror`.
  $('result').hidden = !result || !result.endsWith('.mp4');
  if ($('result').hidden) $('result').removeAttribute('src');
  else $('result').src = `/result?${Date.now()}`;
}

// The picture of the first shot, once the video has been read.
function drawPoster(state) {
  const poster = $('poster');
  if (state.planned && poster.hidden) poster.src = `/thumbnail/0?${Date.now()}`;
  poster.hidden = !state.planned;
}

function drawPicture({number, name}) {
  return element('li', {title: name},
    element('img', {src: `/reference/${number}`, alt: name}),
    element('button', {
      id: `remove-${number}`,
      textContent: '×',
      title: `remove ${name}`,
      ariaLabel: `remove ${name}`,
      disabled: session.state.busy,
      onclick: () => act('DELETE', `/reference/${number}`),
    }),
    element('span', {className: 'name', textContent: name}));
}

function drawJob({job, busy, kept}) {
  const text = job ? sentence(job, kept) : '';
  $('job').hidden = !text;
  $('stop').hidden = !busy;
  $('bar').hidden = !busy;
  if (!job) return;
  $('stop').disabled = job.stopping;
  if (job.total) {
    $('bar').max = job.total;
    $('bar').value = job.done;
  } else {
    $('bar').removeAttribute('value');
  }
  if ($('status').textContent !== text) $('status').textContent = text;
}

const WORK = {shots: 'Finding shots', trial: 'Trying', colors: 'Colorizing'};

function sentence(job, kept) {
  const rest = kept && job.kind === 'colors'
    ? ` ${kept} frames are kept; you can continue.` : '';
  if (job.state === 'failed') return `Failed: ${job.message}.${rest}`;
  if (job.state === 'stopped') return `Stopped.${rest}`;
  if (job.state === 'done') return job.kind === 'colors' ? 'Done.' : '';
  if (job.stopping) return 'Stopping …';
  if (job.state === 'waiting') {
    return `Waiting: ${job.ahead} ${job.ahead === 1 ? 'job is' : 'jobs are'} ` +
      'ahead of yours.';
  }
  if (job.phase === 'trials') {
    return job.kind === 'trial'
      ? `Trying: ${job.done} of ${job.total} frames`
      : `Trying the pictures: ${job.done} of ${job.total} shots`;
  }
  if (!job.done) return `${WORK[job.kind]}: preparing …`;
  let text = `${WORK[job.kind]}: ${job.done}`;
  if (job.total) text += ` of ${job.total}`;
  text += ' frames';
  if (job.rate) {
    text += `, ${job.rate.toFixed(1)} per second`;
    if (job.total) text += `, ${clock((job.total - job.done) / job.rate)} left`;
  }
  return text;
}

// The progress, which is also visible while another tab is open.
function title({job, busy}) {
  if (!job) return 'Vitexco';
  if (busy && job.total)
    return `${Math.floor(100 * job.done / job.total)} % · Vitexco`;
  const words = {waiting: 'Waiting', running: 'Working', failed: 'Failed',
    stopped: 'Stopped', done: 'Done'};
  return `${words[job.state]} · Vitexco`;
}

function describe(facts) {
  if (!facts) return '';
  const {width, height, frames, rate} = facts;
  const parts = [`${width}x${height} pixels`, `${+rate.toFixed(3)} frames per second`];
  if (frames) parts.push(`${frames} frames`, clock(frames / rate));
  return parts.join(' · ');
}

// --- User actions ---

for (const zone of document.querySelectorAll('.drop')) {
  const input = zone.querySelector('input');
  input.onchange = async () => {
    await upload(zone, [...input.files]);
    input.value = '';
  };
  zone.ondragover = (event) => {
    event.preventDefault();
    zone.classList.add('over');
  };
  zone.ondragleave = () => zone.classList.remove('over');
  zone.ondrop = (event) => {
    event.preventDefault();
    zone.classList.remove('over');
    if (!input.disabled) upload(zone, [...event.dataTransfer.files]);
  };
}
$('try-sample').onclick = async () => {
  $('try-sample').textContent = 'Making the sample …';
  await act('POST', '/sample');
  $('try-sample').textContent = 'Try a sample';
};
$('find').onclick = () => act('POST', '/shots');
$('color').onclick = () => {
  followJob();
  act('POST', '/color');
};
$('result').onerror = () => { $('result').hidden = true; };
$('stop').onclick = () => act('POST', '/stop');
$('leave').onclick = () => {
  if (confirm('Remove your files and all results?')) leave();
};

follow(draw);
follow(drawShots);
follow(drawViewer);
follow(drawSettings);
poll();
