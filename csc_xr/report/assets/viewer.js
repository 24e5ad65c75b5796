// The map of the report: what it draws, how it is moved, what it says of a pixel.

(() => {
  'use strict';

  const ARROW_STEP = 80; // page pixels
  const SPEAK_AFTER = 500; // milliseconds without a change
  const MEMORY_MB = 192; // decoded tiles that are kept

  class Viewer {
    constructor(root, data) {
      this.root = root;
      this.side = data.tile_side;
      this.scenes = data.scenes;
      this.view = new CscView.View();
      this.cache = new CscTiles.Cache((data.memory_mb ?? MEMORY_MB) * 2 ** 20, () => this.redraw());
      this.choices = new Map(); // layer id to on and opacity, kept from scene to scene
      this.hidden = new Map(); // legend, as text, to the codes that are off
      this.alone = false;
      this.probe = null; // page pixels of the pointer, "centre", or nothing
      this.pointers = new Map();
      this.parts = CscPanel.frame({
        zoom: (factor) => this.change(() => this.view.zoomTo(this.view.zoom * factor)),
        fit: () => this.change(() => this.view.fit()),
        real: () => this.change(() => this.view.zoomTo(1 / this.view.ratio)),
        alone: () => this.showAlone(!this.alone),
        fullScreen: () => this.toggleFullScreen(),
      });
      this.choice = CscPanel.sceneChoice(this.scenes, (index) => this.open(index));
      this.parts.choice.append(this.choice.element);
      root.replaceChildren(this.parts.all);
      this.context = this.parts.canvas.getContext('2d');
      this.open(0);
      this.listen();
    }

    // Scenes, layers and classes

    open(index) {
      const before = this.scene;
      const scene = this.scenes[index];
      this.index = index;
      this.scene = scene;
      this.view.scene = scene;
      this.choice.show(index);
      if (before?.width !== scene.width || before?.height !== scene.height) this.view.fit();
      this.chooseLayers();
      const legend = JSON.stringify(scene.classes);
      if (!this.hidden.has(legend)) this.hidden.set(legend, new Set());
      this.off = this.hidden.get(legend);
      this.parts.map.setAttribute('aria-label', `Map of ${CscPanel.titleOf(scene)}`);
      this.buildPanel();
      this.refresh();
    }

    /** At first: pictures, and the last layer of classes over them. */
    chooseLayers() {
      const { layers } = this.scene;
      const last = layers.filter((layer) => layer.kind === 'classes').at(-1);
      this.hasPicture = layers.some((layer) => layer.kind === 'picture');
      this.parts.alone.hidden = !this.hasPicture;
      this.alone &&= this.hasPicture;
      for (const layer of layers) {
        if (this.choices.has(layer.id)) continue;
        const on = layer.kind === 'picture' || layer === last || layers.length === 1;
        const opacity = layer === last && this.hasPicture ? 0.6 : 1;
        this.choices.set(layer.id, { on, opacity });
      }
    }

    buildPanel() {
      const { scene } = this;
      const changed = () => this.refresh();
      this.rows = scene.layers.map((layer, i) => (
        CscPanel.layerRow(layer, i + 1, this.choices.get(layer.id), changed)));
      this.legend = CscPanel.legend(scene, this.off, changed);
      this.probed = scene.layers.filter((layer) => layer.kind !== 'picture');
      const place = scene.transform ? [scene.crs ? `x, y (${scene.crs})` : 'x, y'] : [];
      const names = ['Row, column', ...place, ...this.probed.map((layer) => layer.title)];
      this.readout = CscPanel.readout(names);
      this.names = names;
      this.trouble = CscPanel.make('p', { class: 'csc-trouble', role: 'alert' });
      const list = CscPanel.make('ol', { class: 'csc-layers' }, ...this.rows.map(({ row }) => row));
      const none = CscPanel.make('p', { class: 'csc-hint' }, 'This scene has no layers to show.');
      const hasClasses = scene.classes.length && scene.layers.some(({ kind }) => kind === 'classes');
      this.parts.panel.replaceChildren(
        ...(scene.note ? [CscPanel.make('p', { class: 'csc-hint' }, scene.note)] : []),
        scene.layers.length ? CscPanel.group('Layers', list, this.parts.alone) : none,
        ...(hasClasses ? [this.legend.element] : []), this.trouble,
      );
      this.parts.place.replaceChildren(this.readout.element);
    }

    /** What the panel says and the colours of classes follow the choices; then draw. */
    refresh() {
      for (const row of [...this.rows, this.legend]) row.refresh();
      this.parts.alone.setAttribute('aria-pressed', String(this.alone));
      this.palettes = new Map(this.scene.layers.map((layer) => (
        [layer.id, CscTiles.paletteOf(layer, this.scene.classes, this.off)])));
      this.redraw();
    }

    showAlone(alone) {
      this.alone = alone && this.hasPicture;
      this.refresh();
    }

    toggleLayer(number) {
      const layer = this.scene.layers[number - 1];
      if (!layer) return;
      const choice = this.choices.get(layer.id);
      choice.on = !choice.on;
      this.refresh();
      this.say(`${layer.title} ${choice.on ? 'on' : 'off'}`);
    }

    toggleFullScreen() {
      if (!document.fullscreenEnabled) return;
      if (document.fullscreenElement) document.exitFullscreen();
      else this.root.requestFullscreen().catch(({ message }) => this.say(`No full screen: ${message}`));
    }

    // Drawing

    change(act) {
      act();
      this.redraw();
    }

    redraw() {
      this.parts.map.setAttribute('aria-busy', 'true');
      this.request ??= requestAnimationFrame(() => {
        this.request = null;
        this.drawFrame();
      });
    }

    /** Level whose pixels come closest to those of the screen. */
    levelNow() {
      const level = Math.round(-Math.log2(this.view.zoom * this.view.ratio * this.scene.scale));
      return Math.min(Math.max(level, 0), this.scene.levels - 1);
    }

    drawFrame() {
      const { context, scene, view, parts } = this;
      const wanted = [];
      context.clearRect(0, 0, parts.canvas.width, parts.canvas.height);
      context.save();
      context.beginPath(); // a level's last pixel may reach beyond the scene
      const [left, top] = [view.screenX(0), view.screenY(0)];
      context.rect(left, top, view.screenX(scene.width) - left, view.screenY(scene.height) - top);
      context.clip();
      const level = this.levelNow();
      for (const layer of scene.layers) {
        const { on, opacity } = this.choices.get(layer.id);
        const shown = this.alone ? layer.kind === 'picture' : on && opacity > 0;
        if (!shown) continue;
        context.globalAlpha = this.alone ? 1 : opacity;
        context.imageSmoothingEnabled = ['picture', 'scalar'].includes(layer.kind)
          && view.zoom * view.ratio * scene.scale < 1;
        this.drawLayer(layer, level, wanted);
      }
      context.restore();
      this.showPlace(wanted);
      this.showScale();
      this.cache.endFrame(wanted.sort((one, other) => other.urgency - one.urgency));
      this.showTrouble();
      parts.map.setAttribute('aria-busy', String(this.cache.loading.size > 0));
    }

    tileName(layer, level, row, column) {
      return `t/${layer.tiles ?? `${this.scene.id}/${layer.id}`}/${level}/${row}/${column}`;
    }

    drawLayer(layer, level, wanted) {
      const { scene, view, side } = this;
      const size = scene.scale * 2 ** level; // scene pixels a pixel of this level is wide
      const [width, height] = [Math.ceil(scene.width / size), Math.ceil(scene.height / size)];
      const [left, top] = view.sceneAt(0, 0).map((place) => Math.floor(place / size / side));
      const [right, bottom] = view.sceneAt(view.width, view.height)
        .map((place) => Math.floor(place / size / side));
      this.find(layer, scene.levels - 1, 0, 0, wanted, 2); // stands in for all that is not here yet
      for (let row = Math.max(top, 0); row <= bottom && row * side < height; row += 1) {
        for (let column = Math.max(left, 0); column <= right && column * side < width; column += 1) {
          const found = this.finest(layer, level, row, column, wanted);
          if (!found) continue;
          const { tile, times } = found;
          const [x, y] = [column * side, row * side];
          const [across, down] = [Math.min(side, width - x), Math.min(side, height - y)];
          const [x0, y0] = [view.screenX(x * size), view.screenY(y * size)];
          const [x1, y1] = [view.screenX((x + across) * size), view.screenY((y + down) * size)];
          this.context.drawImage(this.cache.pictureOf(tile, this.palettes.get(layer.id)),
            (x / times) % side, (y / times) % side, across / times, down / times,
            x0, y0, x1 - x0, y1 - y0);
        }
      }
    }

    /** The tile of that place, or else of the next coarser level that is here. */
    finest(layer, level, row, column, wanted) {
      for (let up = 0; level + up < this.scene.levels; up += 1) {
        const tile = this.find(layer, level + up, row >> up, column >> up, wanted, up ? -1 : 1);
        if (tile === 'absent') return null;
        if (tile.picture || tile.codes) return { tile, times: 2 ** up };
      }
      return null;
    }

    /** Tile from the cache; one that waits is wanted, unless its urgency is negative. */
    find(layer, level, row, column, wanted, urgency) {
      const name = this.tileName(layer, level, row, column);
      const tile = this.cache.find(name);
      if (tile === 'waiting' && urgency >= 0) wanted.push({ name, layer, urgency });
      return tile;
    }

    // What the map says

    /** Row and column of the scene under the pointer or the cross, or nothing. */
    pixelNow() {
      if (!this.probe) return null;
      const { view, scene } = this;
      const [left, top] = this.probe === 'centre' ? [view.width / 2, view.height / 2] : this.probe;
      const [column, row] = view.sceneAt(left, top).map(Math.floor);
      const inside = row >= 0 && column >= 0 && row < scene.height && column < scene.width;
      return inside ? [row, column] : null;
    }

    /** What a layer has at a pixel, from its finest level, whatever is drawn. */
    valueAt(layer, row, column, wanted) {
      const { side } = this;
      const [y, x] = [Math.floor(row / this.scene.scale), Math.floor(column / this.scene.scale)];
      const tile = this.find(layer, 0, Math.floor(y / side), Math.floor(x / side), wanted, 3);
      if (tile === 'waiting') return { text: '…' };
      if (tile === 'broken') return { text: 'cannot be read' };
      const code = tile === 'absent' ? 0 : tile.codes[(y % side) * tile.width + (x % side)];
      if (layer.kind === 'mask') return { text: code ? 'yes' : 'no' };
      if (code === 0) return { text: 'nothing' };
      if (layer.kind === 'scalar') {
        const value = layer.low + ((code - 1) / 254) * (layer.high - layer.low);
        const text = CscView.coordinate(value, layer.high - layer.low);
        return { text: `${text} ${layer.unit ?? ''}`.trim() };
      }
      const found = this.scene.classes.find((entry) => entry.code === code);
      return found ? { text: found.name, colour: found.colour } : { text: `code ${code}` };
    }

    showPlace(wanted) {
      const pixel = this.pixelNow();
      const entries = [];
      if (pixel) {
        const [row, column] = pixel;
        entries.push({ text: `${row}, ${column}` });
        if (this.scene.transform) {
          const [a, b, c, d, e, f] = this.scene.transform;
          const [across, down] = [column + 0.5, row + 0.5]; // the pixel's centre
          const x = CscView.coordinate(a * across + b * down + c, Math.hypot(a, d));
          const y = CscView.coordinate(d * across + e * down + f, Math.hypot(b, e));
          entries.push({ text: `${x}, ${y}` });
        }
        for (const layer of this.probed) entries.push(this.valueAt(layer, row, column, wanted));
      }
      this.readout.show(entries);
      this.parts.map.classList.toggle('csc-centred', this.probe === 'centre');
      if (this.probe !== 'centre') return;
      const place = entries.map(({ text }, i) => `${this.names[i]}: ${text}`).join('. ');
      if (place !== this.place) this.say(place);
      this.place = place;
    }

    /** Have a text spoken once nothing has changed for a while. */
    say(text) {
      clearTimeout(this.speaking);
      this.speaking = setTimeout(() => { this.parts.spoken.textContent = text; }, SPEAK_AFTER);
    }

    showScale() {
      const { zoom, scale } = this.parts;
      const percent = 100 * this.view.zoom * this.view.ratio;
      zoom.textContent = `${percent >= 10 ? Math.round(percent) : percent.toPrecision(2)} %`;
      scale.hidden = !this.scene.pixel_m;
      if (scale.hidden) return;
      const length = CscView.roundLength(120 * this.scene.pixel_m / this.view.zoom);
      scale.style.width = `${length / this.scene.pixel_m * this.view.zoom}px`;
      scale.textContent = length >= 1000 ? `${length / 1000} km` : `${length} m`;
    }

    showTrouble() {
      const names = [...this.cache.broken.keys()];
      if (!names.length || this.trouble.dataset.count === String(names.length)) return;
      this.trouble.dataset.count = names.length;
      const [first, more] = [names[0].slice(2), names.length - 1];
      const others = more ? ` and ${more} more` : '';
      this.trouble.textContent = `A piece of the map cannot be read (${first}${others}). What shows `
        + 'there is coarser or missing. Make the report anew.';
    }

    // Moving

    listen() {
      const { map } = this.parts;
      new ResizeObserver(() => this.resize()).observe(map);
      window.addEventListener('resize', () => { // to a screen of another density
        if (window.devicePixelRatio !== this.view.ratio) this.resize();
      });
      map.addEventListener('wheel', (event) => this.onWheel(event), { passive: false });
      map.addEventListener('dblclick', (event) => this.change(() => (
        this.view.zoomTo(this.view.zoom * (event.shiftKey ? 0.5 : 2), ...this.placeOf(event)))));
      map.addEventListener('pointerdown', (event) => this.onDown(event));
      map.addEventListener('pointermove', (event) => this.onMove(event));
      for (const name of ['pointerup', 'pointercancel']) {
        map.addEventListener(name, (event) => this.pointers.delete(event.pointerId));
      }
      map.addEventListener('pointerleave', ({ pointerType }) => {
        if (pointerType === 'mouse') this.change(() => { this.probe = null; });
      });
      map.addEventListener('keydown', (event) => this.onKey(event));
      map.addEventListener('focus', () => {
        if (map.matches(':focus-visible')) this.change(() => { this.probe = 'centre'; });
      });
      map.addEventListener('blur', () => this.change(() => { this.probe = null; }));
    }

    /** Give the canvas as many pixels as the screen has there, no more and no fewer. */
    resize() {
      const { view, parts: { canvas, map } } = this;
      view.ratio = window.devicePixelRatio;
      view.width = Math.max(map.clientWidth, 1);
      view.height = Math.max(map.clientHeight, 1);
      canvas.width = Math.round(view.width * view.ratio);
      canvas.height = Math.round(view.height * view.ratio);
      canvas.style.width = `${canvas.width / view.ratio}px`;
      canvas.style.height = `${canvas.height / view.ratio}px`;
      if (view.fitted) view.fit();
      this.drawFrame(); // now: a new size has cleared the canvas
    }

    placeOf({ clientX, clientY }) {
      const { left, top } = this.parts.canvas.getBoundingClientRect();
      return [clientX - left, clientY - top];
    }

    onWheel(event) {
      event.preventDefault();
      const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
      const speed = event.ctrlKey ? 60 : 240; // two fingers on a touchpad come with Ctrl, in small steps
      const turn = Math.min(Math.max(event.deltaY * lines / speed, -1), 1);
      this.change(() => this.view.zoomTo(this.view.zoom * 2 ** -turn, ...this.placeOf(event)));
    }

    onDown(event) {
      if (event.button > 0) return;
      this.parts.map.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, this.placeOf(event));
      this.change(() => { this.probe = this.placeOf(event); });
    }

    /** One pointer that is down drags; two drag by their middle and zoom by their distance. */
    onMove(event) {
      const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
      const middle = (places) => [0, 1].map((i) => mean(places.map((place) => place[i])));
      const apart = ([one, other]) => (other ? Math.hypot(one[0] - other[0], one[1] - other[1]) : 1);
      this.probe = this.placeOf(event);
      if (this.pointers.has(event.pointerId)) {
        const before = [...this.pointers.values()];
        this.pointers.set(event.pointerId, this.probe);
        const after = [...this.pointers.values()];
        const [[x0, y0], [x1, y1]] = [middle(before), middle(after)];
        this.view.move(x0 - x1, y0 - y1);
        if (after.length === 2) this.view.zoomTo(this.view.zoom * apart(after) / apart(before), x1, y1);
      }
      this.redraw();
    }

    onKey(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const { view } = this;
      const step = event.shiftKey ? Math.max(view.zoom, 1) : ARROW_STEP;
      const turn = (by) => this.open((this.index + by + this.scenes.length) % this.scenes.length);
      const acts = {
        ArrowLeft: () => view.move(-step, 0),
        ArrowRight: () => view.move(step, 0),
        ArrowUp: () => view.move(0, -step),
        ArrowDown: () => view.move(0, step),
        '+': () => view.zoomTo(view.zoom * 2),
        '=': () => view.zoomTo(view.zoom * 2),
        '-': () => view.zoomTo(view.zoom / 2),
        0: () => view.fit(),
        r: () => view.zoomTo(1 / view.ratio),
        i: () => this.showAlone(!this.alone),
        n: () => turn(1),
        p: () => turn(-1),
        f: () => this.toggleFullScreen(),
        '?': () => { this.parts.keys.open = !this.parts.keys.open; },
      };
      const act = acts[event.key.toLowerCase()] ?? acts[event.key]
        ?? (/^[1-9]$/.test(event.key) ? () => this.toggleLayer(Number(event.key)) : null);
      if (!act) return;
      event.preventDefault();
      if (!this.probe || event.key.startsWith('Arrow')) this.probe = 'centre';
      this.change(act);
    }
  }

  function start() {
    const root = document.getElementById('csc-viewer');
    const source = document.getElementById('csc-viewer-data');
    if (!root) return;
    if (!source) {
      root.textContent = 'This page has no data for its map. Make the report anew.';
      return;
    }
    if (!window.DecompressionStream || !window.OffscreenCanvas) {
      root.textContent = 'The map needs a newer browser.';
      return;
    }
    const data = JSON.parse(source.textContent);
    if (data.scenes.length) new Viewer(root, data);
    else root.textContent = 'There is no scene to show on a map.';
  }

  start();
})();
