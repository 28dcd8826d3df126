// The page of --mode=serve. It requests /state once a second and shows it. Each
// action of the user goes to the server, and the next state shows its effect.
'use strict';

const $ = (id) => document.getElementById(id);
let state = null;
let left = false;  // Whether the user has left the session: no more requests.
let shots = [];  // From /shots; empty until the shots are found.
const GONE = 'The server does not respond; it may have been stopped.';
let shown = {};  // What was drawn last, by name: redrawn only if it differs.

// --- Requests ---

// Returns the JSON of the response; shows an error, and returns null then.
async function ask(method, path, body) {
  try {
    const answer = await fetch(path, {method, body});
    const content = await answer.json();
    if (answer.ok) return content;
    showError(content.error);
  } catch {
    showError(GONE);
  }
  return null;
}

async function act(method, path, body) {
  showError('');
  const done = await ask(method, path, body);
  await refresh();
  return done;
}

async function refresh() {
  if (left) return;
  const newState = await ask('GET', '/state');
  if (!newState) return;
  if ($('error').textContent === GONE) showError('');
  state = newState;
  if (!state.planned) shots = [];
  else if (!shots.length) shots = (await ask('GET', '/shots')) || [];
  draw();
}

async function poll() {
  await refresh();
  setTimeout(poll, 1000);
}

// Uploads a file with a progress bar, which fetch does not support.
function send(kind, file, bar) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    request.upload.onprogress = (event) => {
      bar.max = event.total;
      bar.value = event.loaded;
    };
    request.upload.onload = () => bar.removeAttribute('value');
    request.onload = () => {
      if (request.status !== 200) showError(JSON.parse(request.response).error);
      resolve(request.status === 200);
    };
    request.onerror = () => {
      showError(`${file.name} was not uploaded: the connection was lost.`);
      resolve(false);
    };
    request.open('PUT', `/${kind}?name=${encodeURIComponent(file.name)}`);
    request.send(file);
  });
}

async function upload(zone, files) {
  const kind = zone.dataset.kind;
  const limit = state.limits[kind];
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

function showError(sentence) {
  $('error').textContent = sentence;
  $('error').hidden = !sentence;
}

function element(name, properties = {}, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}

// Redraws a part of the page if its content has changed.
function redraw(id, facts, children) {
  const text = JSON.stringify(facts);
  if (shown[id] === text) return;
  shown[id] = text;
  $(id).replaceChildren(...children());
}

function draw() {
  $('video-text').textContent = state.video ||
    `Drop a video here, or choose a file (up to ${state.limits.video} MB)`;
  $('facts').textContent = describe(state.facts);
  document.title = title(state.job);
  drawPoster();
  for (const input of document.querySelectorAll('.drop input'))
    input.disabled = state.busy;
  redraw('pictures', [state.references, state.busy], drawPictures);
  $('find').disabled =
    state.busy || !state.video || state.planned ||
    !(state.references.length || state.prior);
  $('no-picture').hidden = !state.prior;
  $('no-shots').hidden = state.planned;
  $('how').hidden = !state.planned;
  redraw('shots', [shots, state.busy], drawShots);
  $('color').disabled = state.busy || !state.planned;
  $('stop').hidden = !state.busy;
  $('stop').disabled = Boolean(state.job && state.job.stopping);
  drawJob(state.job);
  redraw('warnings', state.warnings,
    () => state.warnings.map((x) => element('li', {textContent: x})));
  const result = state.result;
  $('download').hidden = !result;
  if (shown.result === result) return;
  shown.result = result;
  $('download').download = result || '';
  $('result').hidden = !result || !result.endsWith('.mp4');
  if ($('result').hidden) $('result').removeAttribute('src');
  else $('result').src = `/result?${Date.now()}`;
}

// The picture of the first shot, once the video has been read.
function drawPoster() {
  const poster = $('poster');
  if (state.planned && poster.hidden) poster.src = `/thumbnail/0?${Date.now()}`;
  poster.hidden = !state.planned;
}

function drawPictures() {
  return state.references.map(({number, name}) => element('li', {title: name},
    element('img', {src: `/reference/${number}`, alt: name}),
    element('button', {
      textContent: '×',
      title: `remove ${name}`,
      disabled: state.busy,
      onclick: () => act('DELETE', `/reference/${number}`),
    }),
    element('span', {className: 'name', textContent: name})));
}

function drawShots() {
  return shots.map((shot, index) => element('li', {},
    element('div', {className: 'shot'},
      element('img', {
        src: `/thumbnail/${index}?${shot.start}`,
        alt: `shot ${index + 1}`,
        loading: 'lazy',
      }),
      element('span', {
        className: 'name',
        textContent:
          `${index + 1} · ${shot.from} · ${shot.stop - shot.start} frames`,
      }),
      drawSkip(shot, index)),
    element('div', {className: 'choices'},
      ...state.references.map((reference, place) =>
        drawChoice(shot, index, reference, place)))));
}

function drawChoice(shot, index, {number, name, frame}, place) {
  const bound = frame !== null && shot.start <= frame && frame < shot.stop;
  const chosen = shot.references.includes(number);
  const button = element('button', {
    title: name,
    disabled: state.busy,
    onclick: () => choose(shot, index, number),
  },
    element('img', {src: `/reference/${number}`, alt: name, loading: 'lazy'}),
    bound ? `frame ${frame}` : judge(shot, place));
  button.setAttribute('aria-pressed', chosen);
  return button;
}

// The most similar references were tried on the shot.
function judge(shot, place) {
  const verdict = shot.verdicts[place];
  if (!verdict) return 'not tried: less similar';
  return `${verdict} (${Math.round(100 * shot.coverages[place])} %)`;
}

function drawSkip(shot, index) {
  const button = element('button', {
    className: 'skip',
    textContent: 'leave as it is',
    disabled: state.busy,
    onclick: () => setReferences(shot, index, shot.skipped
      ? state.references.slice(0, 1).map((x) => x.number) : 'skip'),
  });
  button.setAttribute('aria-pressed', shot.skipped);
  return button;
}

async function setReferences(shot, index, references) {
  const body = JSON.stringify({references});
  if (await act('PUT', `/shots/${index}`, body)) {
    shot.skipped = references === 'skip';
    shot.references = shot.skipped ? [] : references;
    draw();
  }
}

// A click adds or removes a reference; a shot keeps its last reference unless
// there is a color prior.
async function choose(shot, index, number) {
  const others = shot.references.filter((x) => x !== number);
  const references =
    others.length < shot.references.length ? others : [...others, number];
  if (!references.length && !state.prior) {
    showError('A shot needs at least one reference: choose another one first.');
    return;
  }
  await setReferences(shot, index, references);
}

function drawJob(job) {
  $('job').hidden = !job;
  $('compare').hidden = !job || job.frame === null;
  if (!job) return;
  const bar = $('bar');
  bar.hidden = !state.busy;
  if (job.total) {
    bar.max = job.total;
    bar.value = job.done;
  } else {
    bar.removeAttribute('value');
  }
  $('status').textContent = sentence(job);
  if (job.frame === null || shown.frame === `${job.frame} ${job.state}`) return;
  shown.frame = `${job.frame} ${job.state}`;
  for (const which of ['before', 'after']) $(which).src = `/${which}?${Date.now()}`;
  document.querySelector('figcaption').textContent =
    `Frame ${job.frame}, before and after: drag the line`;
}

function sentence(job) {
  if (job.state === 'failed') return `Failed: ${job.message}.`;
  if (job.state === 'stopped') return 'Stopped; the result was discarded.';
  if (job.state === 'done')
    return job.kind === 'shots' ? '' : 'Done.';
  if (job.stopping) return 'Stopping …';
  if (job.state === 'waiting') {
    return `Waiting: ${job.ahead} ${job.ahead === 1 ? 'job is' : 'jobs are'} ` +
      'ahead of yours.';
  }
  const what = job.kind === 'shots' ? 'Finding shots' : 'Colorizing';
  if (!job.done) return `${what}: preparing …`;
  if (job.kind === 'shots' && job.done === job.total)
    return 'Trying the pictures on the shots …';
  let text = `${what}: ${job.done}`;
  if (job.total) text += ` of ${job.total}`;
  text += ' frames';
  if (job.rate) {
    text += `, ${job.rate.toFixed(1)} per second`;
    if (job.total) text += `, ${clock((job.total - job.done) / job.rate)} left`;
  }
  return text;
}

// The progress, which is also visible while another tab is open.
function title(job) {
  if (!job) return 'Vitexco';
  if (state.busy && job.total)
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

function clock(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const two = (x) => String(x).padStart(2, '0');
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  return (hours ? `${hours}:${two(minutes)}` : minutes) + `:${two(whole % 60)}`;
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
$('find').onclick = () => act('POST', '/shots');
$('color').onclick = () => act('POST', '/color');
$('stop').onclick = () => act('POST', '/stop');
$('leave').onclick = async () => {
  if (confirm('Remove your files and all results?')) {
    left = true;
    await ask('POST', '/leave');
    location.reload();
  }
};
$('slider').oninput = () =>
  $('compare').style.setProperty('--x', `${$('slider').value}%`);

poll();
