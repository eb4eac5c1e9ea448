/* SPDX-License-Identifier: Apache-2.0 */
/* The list of all frames: sorted, filtered, and by cell of the confusion matrix. */
{
  const PAGE = 24, WRONG = 'rgb(226 74 51 / .75)';
  const data = JSON.parse(document.getElementById('data').textContent);
  const at = id => document.getElementById(id);
  const element = (tag, text, parent) => parent.appendChild(Object.assign(document.createElement(tag), {textContent: text}));
  let cell = null, shown = PAGE;

  data.figures.forEach(([title], index) => Object.assign(element('option', title, at('by')), {value: index}));
  const pixelsOf = frame => {
    const cells = data.cells[frame];
    for (let i = 0; i < cells.length; i += 3) if (cells[i] === cell[0] && cells[i + 1] === cell[1]) return cells[i + 2];
    return 0;
  };
  const figure = () => data.figures[at('by').value][2];

  function chosen() {
    const values = cell ? data.names.map((_, frame) => pixelsOf(frame) || null) : figure();
    const least = at('least').value === '' ? -Infinity : +at('least').value;
    const most = at('most').value === '' ? Infinity : +at('most').value;
    const word = at('name').value.toLowerCase(), order = cell ? -1 : +at('order').value;
    return [...values.keys()]
      .filter(i => values[i] !== null && (cell || (values[i] >= least && values[i] <= most)))
      .filter(i => data.names[i].toLowerCase().includes(word))
      .sort((a, b) => order * (values[a] - values[b]) || a - b);
  }

  function draw(canvas, frame) {
    const picture = new Image();
    picture.onload = () => {
      const pen = canvas.getContext('2d'), [columns, rows] = data.grid;
      [canvas.width, canvas.height] = [picture.naturalWidth, picture.naturalHeight];
      pen.drawImage(picture, 0, 0);
      pen.fillStyle = WRONG;
      const runs = data.errors[frame], wide = canvas.width / columns, high = canvas.height / rows;
      for (let i = 0, place = 0; i < runs.length; place += runs[i + 1], i += 2) {
        const [truth, label] = [(runs[i] - 1) >> 8, (runs[i] - 1) & 255];
        if (!runs[i] || (cell && (truth !== cell[0] || label !== cell[1]))) continue;
        for (let p = place; p < place + runs[i + 1]; p++)
          pen.fillRect((p % columns) * wide, Math.floor(p / columns) * high, wide, high);
      }
      canvas.dataset.drawn = '1';
    };
    picture.src = data.pictures[frame];
  }

  function show() {
    const frames = chosen(), values = figure(), title = data.figures[at('by').value][0];
    at('list').replaceChildren();
    for (const frame of frames.slice(0, shown)) {
      const item = element('li', '', at('list'));
      if (data.pictures[frame]) {
        const canvas = element('canvas', '', item);
        canvas.setAttribute('role', 'img');
        canvas.setAttribute('aria-label', `Frame ${data.names[frame]}, errors in red`);
        draw(canvas, frame);
      }
      element('b', data.names[frame], item);
      const when = data.times.length ? ` at ${data.times[frame]} s` : '';
      element('span', cell ? `${pixelsOf(frame)} pixels` : `${title} ${values[frame]}${when}`, item);
    }
    const what = cell && `: ${data.classes[cell[0]]} predicted as ${data.classes[cell[1]] ?? 'unlabelled'}`;
    at('count').textContent = `${frames.length} of ${data.names.length} frames${what || ''}`;
    at('more').hidden = frames.length <= shown;
  }

  function byDefault() {
    at('order').value = data.figures[at('by').value][1] ? '-1' : '1';
  }
  at('controls').addEventListener('submit', event => event.preventDefault());
  at('controls').addEventListener('input', event => {
    cell = null;
    shown = PAGE;
    if (event.target.id === 'by') byDefault();
    show();
  });
  at('controls').addEventListener('reset', () => setTimeout(() => { cell = null; shown = PAGE; byDefault(); show(); }));
  at('more').addEventListener('click', () => { shown += PAGE; show(); });
  for (const button of document.querySelectorAll('.matrix button'))
    button.addEventListener('click', () => {
      cell = button.dataset.cell.split(' ').map(Number);
      shown = PAGE;
      show();
      at('frames').scrollIntoView();
    });
  byDefault();
  show();
}
