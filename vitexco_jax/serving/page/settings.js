// The settings of the result, which the server checks.

import {$, element} from './elements.js';
import {act} from './session.js';

const NAMES = {h264: 'H.264', hevc: 'HEVC', ffv1: 'FFV1, lossless',
  prores: 'ProRes 422', prores4444: 'ProRes 4444', dnxhr: 'DNxHR HQX'};
const form = $('settings');
const field = (name) => form.elements[name];

export function drawSettings({settings, busy}) {
  const {values, most, qualities, working_sizes: sizes} = settings;
  if (!field('codec').length) {
    field('codec').append(...Object.keys(qualities).map((value) =>
      element('option', {value, textContent: NAMES[value] || value})));
    field('working_size').append(...sizes.map((text, index) => element('option', {
      value: index ? text : '',
      textContent: index ? text : `${text}, usual`,
    })));
    for (const [name, value] of Object.entries(most)) field(name).max = value;
  }
  const [usual, worst] = qualities[values.codec];
  field('quality').max = worst;
  field('quality').placeholder = usual ?? '';
  $('quality-hint').textContent = usual === null ? 'this codec has one quality'
    : values.codec === 'prores' ? '0 to 3, 3 is best'
      : `0 to ${worst}, lower is better; ${usual} shows no loss`;
  for (const input of form.elements) {
    input.disabled = busy || input.name === 'quality' && usual === null;
    // What is being typed stays.
    if (input !== document.activeElement) input.value = values[input.name] ?? '';
  }
}

form.onsubmit = (event) => event.preventDefault();
form.onchange = async (event) => {
  const number = (name) =>
    field(name).value === '' ? null : Number(field(name).value);
  const other = event.target.name === 'codec';  // Its scale of quality differs.
  const done = await act('PUT', '/settings', {
    saturation: number('saturation'),
    smoothing: number('smoothing'),
    codec: field('codec').value,
    quality: other ? null : number('quality'),
    working_size: field('working_size').value || null,
  });
  if (!done) event.target.value = '';
};
