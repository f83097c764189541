// Asks the platform things, and shows what comes back. Nothing here leaves this origin.

const $ = (id) => document.getElementById(id);
const TICKS = 80;
const PAUSE_MS = 60;
const COLOURS = ['#5b4bdb', '#12a594', '#f0a020', '#d6409f', '#3e8ed0', '#8bb72b'];

// --- Watch a swap -------------------------------------------------------------------------------------------------

const swap = { running: true, answers: 0, failed: 0, swaps: 0, last: null, times: [], slowest: 0, colours: new Map() };

function colourOf(answer) {
  if (!swap.colours.has(answer)) swap.colours.set(answer, COLOURS[swap.colours.size % COLOURS.length]);
  return swap.colours.get(answer);
}

function tick(colour, ms) {
  const bar = document.createElement('i');
  bar.style.background = colour;
  // A logarithm, because a slow answer would flatten all others.
  bar.style.height = `${Math.min(100, 18 + 22 * Math.log2(1 + ms))}%`;
  bar.title = `${ms.toFixed(1)} ms`;
  const ticks = $('swap-ticks');
  ticks.append(bar);
  while (ticks.childElementCount > TICKS) ticks.firstChild.remove();
}

function showFigures() {
  const sorted = [...swap.times].sort((a, b) => a - b);
  $('swap-answers').textContent = swap.answers.toLocaleString('en');
  $('swap-failed').textContent = swap.failed;
  $('swap-failed').classList.toggle('bad', swap.failed > 0);
  $('swap-swaps').textContent = swap.swaps;
  if (sorted.length) {
    $('swap-median').textContent = `${sorted[sorted.length >> 1].toFixed(1)} ms`;
    $('swap-slowest').textContent = `${swap.slowest.toFixed(1)} ms`;
  }
}

async function askHello() {
  const started = performance.now();
  try {
    const response = await fetch('/hello', { cache: 'no-store' });
    if (!response.ok) throw new Error(`status ${response.status}`);
    const { greeting, version } = await response.json();
    const ms = performance.now() - started;
    const answer = `${greeting}, version ${version}`;
    swap.answers += 1;
    if (swap.last !== null && swap.last !== answer) swap.swaps += 1;
    swap.last = answer;
    swap.times.push(ms);
    if (swap.times.length > 200) swap.times.shift();
    // The first ones open the connection.
    if (swap.answers > 3) swap.slowest = Math.max(swap.slowest, ms);
    tick(colourOf(answer), ms);
    const shown = $('swap-answer');
    shown.textContent = answer;
    shown.style.color = colourOf(answer);
  } catch (error) {
    swap.failed += 1;
    tick('var(--bad)', 30);
    $('swap-answer').textContent = String(error.message ?? error);
  }
  showFigures();
}

async function watch() {
  while (swap.running) {
    await askHello();
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}

$('swap-toggle').addEventListener('click', () => {
  swap.running = !swap.running;
  $('swap-toggle').textContent = swap.running ? 'Pause' : 'Go on';
  if (swap.running) watch();
});

// --- The other cards ----------------------------------------------------------------------------------------------

/** Runs a task while its button is off; a fault is shown where the answer would be. */
function onClick(button, shown, task) {
  button.addEventListener('click', async () => {
    button.disabled = true;
    try {
      await task();
    } catch (error) {
      shown.textContent = `failed: ${error.message ?? error}`;
    }
    button.disabled = false;
  });
}

onClick($('decisions-try'), $('decisions').rows[0].cells[2], async () => {
  for (const row of $('decisions').rows) {
    const started = performance.now();
    const response = await fetch(row.dataset.path, { cache: 'no-store', redirect: 'manual' });
    await response.arrayBuffer();
    // A redirect that is not followed has no status for scripts to see.
    row.cells[2].textContent = response.type === 'opaqueredirect' ? '301' : response.status;
    row.cells[3].textContent = `${(performance.now() - started).toFixed(1)} ms`;
  }
});

onClick($('stream-start'), $('stream-lines'), async () => {
  const screen = $('stream-lines');
  screen.textContent = '';
  const started = performance.now();
  const response = await fetch('/api/stream');
  if (!response.ok) throw new Error(`status ${response.status}`);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    screen.textContent += `${String(Math.round(performance.now() - started)).padStart(5)} ms  ${value}`;
  }
});

onClick($('upload-start'), $('upload-answer'), async () => {
  const bytes = 16 << 20;
  const started = performance.now();
  const response = await fetch('/api/count', { method: 'POST', body: new Uint8Array(bytes) });
  if (!response.ok) throw new Error(`status ${response.status}`);
  const seen = await response.json();
  const seconds = (performance.now() - started) / 1000;
  $('upload-answer').textContent =
    `${seen.bytes.toLocaleString('en')} bytes in ${seen.pieces} pieces, ${Math.round(bytes / seconds / (1 << 20))} MiB/s`;
});

$('echo').addEventListener('submit', async (event) => {
  event.preventDefault();
  try {
    const response = await fetch('/api/echo', { method: 'POST', body: $('echo-text').value });
    $('echo-answer').textContent = response.ok ? await response.text() : `failed: status ${response.status}`;
  } catch (error) {
    $('echo-answer').textContent = `failed: ${error.message ?? error}`;
  }
});

async function who() {
  const response = await fetch('/whoami', { cache: 'no-store' });
  if (!response.ok) return;
  const facts = await response.json();
  $('who').replaceChildren(...Object.entries(facts).flatMap(([name, value]) => {
    const term = document.createElement('dt');
    const text = document.createElement('dd');
    term.textContent = name;
    text.textContent = value;
    return [term, text];
  }));
}

watch();
who().catch(() => {});
