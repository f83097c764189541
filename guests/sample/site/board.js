// A board that is shared through one channel. What is shown is only what came through the channel, so all see the same.

import { connect } from '/_live/client.js';

const CHANNEL = 'board:main';
const COLOURS = ['#5b4bdb', '#12a594', '#f0a020', '#d6409f', '#3e8ed0', '#8bb72b'];
// Older ones make room: a board that is left open must not grow for ever.
const STROKES_MAX = 2_000;
const POINTS_MAX = 400; // of a stroke; a longer one goes on as another
const MESSAGES_MAX = 200;
const SEEN_MAX = 10_000;

const $ = (id) => document.getElementById(id);
const name = new URLSearchParams(location.search).get('name') || `guest-${Math.random().toString(36).slice(2, 6)}`;
const strokes = [];
const drafts = new Set(); // drawn here, not back from the channel yet
const seen = []; // all that came, in order: {position, data}

function keep(list, item, max) {
  list.push(item);
  if (list.length > max) list.shift();
}

function colourOf(who) {
  let sum = 0;
  for (const char of String(who)) sum = (sum * 31 + char.codePointAt(0)) % 65_521;
  return COLOURS[sum % COLOURS.length];
}

// --- The connection ------------------------------------------------------------------------------------------------

const live = connect(`/board?${new URLSearchParams({ room: 'main', name })}`);

live.onState = (state, { reason }) => {
  $('state').textContent = state;
  $('state').dataset.state = state;
  if (state === 'closed') $('problem').textContent = `The server ended it: ${reason}.`;
};

live.subscribe(CHANNEL, {
  onMessage(data, position) {
    keep(seen, { position, data }, SEEN_MAX);
    if (data?.say) showMessage(data.say);
    if (isStroke(data?.stroke)) showStroke(data.stroke);
  },
  onPresence: ({ members }) => $('members').replaceChildren(...[...members].sort().map((who) => coloured('li', who))),
  onRecovered(recovered) {
    if (!recovered) {
      strokes.length = 0;
      $('messages').replaceChildren();
      draw();
    }
    $('recovered').dataset.recovered = recovered;
    $('recovered').textContent = recovered ? 'Back, and nothing was missed.' : 'Some was lost: the board starts anew.';
  },
  onError: (error) => ($('problem').textContent = `${error.message}.`),
});

/** Resolves to whether it was taken; the page says why not. */
async function publish(data) {
  $('problem').textContent = '';
  try {
    await live.publish(CHANNEL, data);
    return true;
  } catch (error) {
    $('problem').textContent = `That did not get through: ${error.message}.`;
    return false;
  }
}

// --- Messages ------------------------------------------------------------------------------------------------------

function coloured(tag, who) {
  const element = document.createElement(tag);
  element.textContent = who;
  element.style.setProperty('--colour', colourOf(who));
  return element;
}

function showMessage({ from, text }) {
  const item = document.createElement('li');
  item.append(coloured('b', from), ` ${text}`);
  $('messages').append(item);
  while ($('messages').childElementCount > MESSAGES_MAX) $('messages').firstChild.remove();
  $('messages').scrollTop = $('messages').scrollHeight;
}

$('talk').addEventListener('submit', async (event) => {
  event.preventDefault();
  const text = $('say').value.trim();
  if (!text) return;
  $('say').value = '';
  const isTaken = await publish({ say: { from: name, text } });
  if (!isTaken && !$('say').value) $('say').value = text;
});

// --- Strokes -------------------------------------------------------------------------------------------------------

function isStroke(stroke) {
  const isPoint = (point) => Array.isArray(point) && point.length === 2 && point.every(Number.isFinite);
  return Array.isArray(stroke?.points) && stroke.points.length > 0 && stroke.points.every(isPoint);
}

function showStroke(stroke) {
  keep(strokes, stroke, STROKES_MAX);
  draw();
}

let isDue = false;
function draw() {
  $('strokes').textContent = strokes.length;
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    const pen = $('canvas').getContext('2d');
    pen.clearRect(0, 0, $('canvas').width, $('canvas').height);
    Object.assign(pen, { lineWidth: 4, lineCap: 'round', lineJoin: 'round' });
    for (const { from, points } of [...strokes, ...drafts]) {
      pen.strokeStyle = colourOf(from);
      pen.beginPath();
      pen.moveTo(...points[0]);
      for (const point of points) pen.lineTo(...point);
      pen.stroke();
    }
  });
}

/** The pointer's place in the canvas' own units: the same for all, whatever the size of their windows. */
function placeOf({ clientX, clientY }) {
  const canvas = $('canvas');
  const { left, top, width, height } = canvas.getBoundingClientRect();
  return [((clientX - left) / width) * canvas.width, ((clientY - top) / height) * canvas.height].map(Math.round);
}

const drawing = new Map(); // by pointer: two fingers draw two strokes

function begin(pointerId, point) {
  const draft = { from: name, points: [point] };
  drawing.set(pointerId, draft);
  drafts.add(draft);
  draw();
}

async function finish(pointerId) {
  const draft = drawing.get(pointerId);
  if (!draft) return;
  drawing.delete(pointerId);
  await publish({ stroke: draft });
  drafts.delete(draft);
  draw();
}

$('canvas').addEventListener('pointerdown', (event) => {
  if (event.button !== 0) return;
  $('canvas').setPointerCapture(event.pointerId);
  begin(event.pointerId, placeOf(event));
});
$('canvas').addEventListener('pointermove', (event) => {
  const draft = drawing.get(event.pointerId);
  if (!draft) return;
  const point = placeOf(event);
  draft.points.push(point);
  if (draft.points.length === POINTS_MAX) {
    finish(event.pointerId);
    begin(event.pointerId, point);
  }
  draw();
});
for (const end of ['pointerup', 'pointercancel']) $('canvas').addEventListener(end, (event) => finish(event.pointerId));

// --- For whoever looks in from outside -----------------------------------------------------------------------------

$('name').textContent = name;
window.board = { seen, live };
