// What stands around the map: its buttons, the lists of layers and classes, the readout, the keys.

const CscPanel = (() => {
  'use strict';

  const KEYS = [
    ['Arrows', 'move; with Shift by one pixel'],
    ['+ −', 'zoom in and out'],
    ['0', 'fit the whole scene'],
    ['R', 'one to one: a pixel of the scene is one of the screen'],
    ['1 to 9', 'a layer on or off'],
    ['I', 'the image alone, and back'],
    ['N P', 'next and previous scene'],
    ['F', 'full screen'],
    ['?', 'this list'],
  ];

  /** An element. Values that are functions listen; text is only ever text, never markup. */
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (typeof value === 'function') element.addEventListener(name, value);
      else if (value === true) element.setAttribute(name, '');
      else if (value !== false && value !== null) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  function swatch(colour) {
    const element = make('span', { class: 'csc-swatch', 'aria-hidden': 'true' });
    element.style.background = colour;
    return element;
  }

  function button(label, sign, click) {
    return make('button', { type: 'button', 'aria-label': label, title: label, click }, sign);
  }

  function group(title, ...children) {
    return make('fieldset', {}, make('legend', {}, title), ...children);
  }

  /** Map with its buttons, and an empty panel beside it. */
  function frame(actions) {
    const parts = {
      canvas: make('canvas', { 'aria-hidden': 'true' }),
      scale: make('div', { class: 'csc-scale', hidden: true }),
      zoom: make('div', { class: 'csc-zoom' }),
      choice: make('div'),
      panel: make('div'),
      place: make('div', { class: 'csc-place', role: 'group', 'aria-label': 'At the pointer' }),
      spoken: make('div', { class: 'csc-spoken', role: 'status', 'aria-live': 'polite' }),
      alone: button('Image alone (I)', 'Image alone', actions.alone),
      keys: make('details', { class: 'csc-keys' }, make('summary', {}, 'Keys'), make('dl', {},
        ...KEYS.flatMap(([key, what]) => [make('dt', {}, key), make('dd', {}, what)]))),
    };
    parts.map = make('div', {
      class: 'csc-map', tabindex: '0', role: 'application', 'aria-roledescription': 'map',
      'aria-describedby': 'csc-hint',
    }, parts.canvas, make('div', { class: 'csc-cross', 'aria-hidden': 'true' }));
    const full = button('Full screen (F)', 'Full', actions.fullScreen);
    full.hidden = !document.fullscreenEnabled;
    parts.alone.setAttribute('aria-pressed', 'false');
    const tools = make('div', { class: 'csc-tools', role: 'group', 'aria-label': 'Zoom and view' },
      button('Zoom in (+)', '+', () => actions.zoom(2)),
      button('Zoom out (−)', '−', () => actions.zoom(0.5)),
      button('Fit the whole scene (0)', 'Fit', actions.fit),
      button('One to one (R)', '1:1', actions.real),
      full);
    const foot = make('div', { class: 'csc-foot' }, parts.scale, parts.zoom);
    const hint = make('p', { class: 'csc-hint', id: 'csc-hint' },
      'Drag or use the arrows to move, the wheel or + and − to zoom, 1 to 9 for layers, ? for all keys.');
    parts.all = make('div', { class: 'csc-layout' },
      make('div', { class: 'csc-stage' }, parts.map, tools, foot), parts.place,
      make('div', { class: 'csc-panel' }, parts.choice, parts.panel),
      make('div', { class: 'csc-help' }, hint, parts.keys, parts.spoken));
    return parts;
  }

  /** One layer: on or off, how opaque, and what its colours mean. */
  function layerRow(layer, number, choice, changed) {
    const box = make('input', {
      type: 'checkbox',
      change: () => { choice.on = box.checked; changed(); },
    });
    const slider = make('input', {
      type: 'range', min: '0', max: '100', 'aria-label': `Opacity of ${layer.title}`,
      input: () => { choice.opacity = slider.valueAsNumber / 100; changed(); },
    });
    const percent = make('span', { class: 'csc-percent', 'aria-hidden': 'true' });
    const key = number < 10 ? make('kbd', { 'aria-hidden': 'true' }, String(number)) : '';
    const row = make('li', {}, make('label', {}, box, make('span', {}, layer.title), key),
      make('div', { class: 'csc-opacity' }, slider, percent));
    if (layer.kind === 'scalar') row.append(rampKey(layer));
    if (layer.kind === 'mask') row.firstChild.insertBefore(swatch(CscTiles.MASK_CSS), box.nextSibling);
    return {
      row,
      refresh() {
        box.checked = choice.on;
        slider.value = Math.round(100 * choice.opacity);
        percent.textContent = `${slider.value} %`;
        slider.setAttribute('aria-valuetext', percent.textContent);
        row.classList.toggle('csc-off', !choice.on);
      },
    };
  }

  function rampKey(layer) {
    const bar = make('span', { class: 'csc-ramp' });
    bar.style.backgroundImage = CscTiles.RAMP_CSS;
    const text = (value) => String(Number(value.toPrecision(3)));
    const unit = layer.unit ? ` ${layer.unit}` : '';
    return make('div', { class: 'csc-ramp-key' }, text(layer.low), bar, text(layer.high) + unit);
  }

  /** Classes of a scene, each on or off in all its layers. */
  function legend(scene, hidden, changed) {
    const boxes = scene.classes.map(({ code }) => {
      const box = make('input', {
        type: 'checkbox',
        change: () => { hidden[box.checked ? 'delete' : 'add'](code); changed(); },
      });
      return box;
    });
    const all = (shown) => () => {
      for (const { code } of scene.classes) hidden[shown ? 'delete' : 'add'](code);
      changed();
    };
    const rows = scene.classes.map(({ name, colour }, i) => (
      make('li', {}, make('label', {}, boxes[i], swatch(colour), make('span', {}, name)))));
    const element = group('Classes', make('ul', { class: 'csc-classes' }, ...rows),
      make('div', { class: 'csc-all' },
        make('button', { type: 'button', click: all(true) }, 'All'),
        make('button', { type: 'button', click: all(false) }, 'None')));
    const refresh = () => boxes.forEach((box, i) => { box.checked = !hidden.has(scene.classes[i].code); });
    return { element, refresh };
  }

  /** Cells of the readout; their number stays, so that nothing below them jumps. */
  function readout(names) {
    const values = names.map(() => make('dd', {}, '–'));
    const cells = names.map((name, i) => make('div', {}, make('dt', {}, name), values[i]));
    return {
      element: make('dl', { class: 'csc-readout' }, ...cells),
      show(entries) {
        values.forEach((value, i) => {
          const { text = '–', colour = null } = entries[i] ?? {};
          if (value.textContent === text) return;
          value.replaceChildren(...(colour ? [swatch(colour)] : []), text);
        });
      },
    };
  }

  /** A scene's name, with its run where scenes of many runs are here. */
  function titleOf({ name, run }) {
    return run ? `${name} (${run})` : name;
  }

  /** Choice between scenes; nothing where there is only one. */
  function sceneChoice(scenes, choose) {
    const select = make('select', { change: () => choose(select.selectedIndex) },
      ...scenes.map((scene) => make('option', {}, titleOf(scene))));
    const label = make('label', { class: 'csc-scene' }, make('span', {}, 'Scene'), select);
    label.hidden = scenes.length < 2;
    return { element: label, show: (index) => { select.selectedIndex = index; } };
  }

  return { make, group, frame, layerRow, legend, readout, sceneChoice, titleOf };
})();
