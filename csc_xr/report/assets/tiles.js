// Tiles of the map: read from the page, decoded, coloured, and kept within a bound of memory.

const CscTiles = (() => {
  'use strict';

  const AT_ONCE = 4; // tiles that are decoded side by side
  const MASK_COLOUR = [217, 27, 140];
  const UNKNOWN_COLOUR = [128, 128, 128]; // a code that the legend does not have
  const RAMP = [ // viridis: even steps look even, also in grey and to the colour-blind
    [68, 1, 84], [71, 45, 123], [59, 82, 139], [44, 114, 142], [33, 145, 140],
    [40, 174, 128], [94, 201, 98], [173, 220, 48], [253, 231, 37],
  ];

  const css = ([red, green, blue]) => `rgb(${red}, ${green}, ${blue})`;

  /** Colour of a place on the ramp, 0 to 1. */
  function rampColour(place) {
    const at = Math.min(Math.max(place, 0), 1) * (RAMP.length - 1);
    const low = Math.min(Math.floor(at), RAMP.length - 2);
    return RAMP[low].map((value, i) => Math.round(value + (RAMP[low + 1][i] - value) * (at - low)));
  }

  const palettes = new Map();

  /** The palette of a layer; the same object for the same colours, so that nothing is done twice. */
  function paletteOf(layer, classes, hidden) {
    const key = JSON.stringify([layer.kind, layer.kind === 'classes' && [classes, [...hidden].sort()]]);
    if (!palettes.has(key)) palettes.set(key, makePalette(layer, classes, hidden));
    return palettes.get(key);
  }

  /** Colours of the codes 0 to 255 of a layer; code 0 and the classes in `hidden` are clear. */
  function makePalette(layer, classes, hidden) {
    const palette = new Uint32Array(256);
    const colours = new Uint8ClampedArray(palette.buffer);
    const put = (code, colour) => colours.set([...colour, 255], 4 * code);
    for (let code = 1; code < 256; code += 1) {
      if (layer.kind === 'scalar') put(code, rampColour((code - 1) / 254));
      else put(code, layer.kind === 'mask' ? MASK_COLOUR : UNKNOWN_COLOUR);
    }
    if (layer.kind === 'classes') {
      for (const { code, colour } of classes) {
        const number = parseInt(colour.slice(1), 16);
        put(code, [number >> 16, (number >> 8) & 255, number & 255]);
        if (hidden.has(code)) palette[code] = 0;
      }
    }
    return palette;
  }

  function bytesOf(base64) {
    const text = atob(base64);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
    return bytes;
  }

  /**
   * Codes of an 8-bit greyscale PNG. They are read from the file itself: a canvas may manage their
   * colours, and some browsers change what is read back from one.
   */
  async function readCodes(bytes) {
    const view = new DataView(bytes.buffer);
    const [width, height, format] = [view.getUint32(16), view.getUint32(20), view.getUint32(24)];
    // Depth 8, greyscale, the one compression there is, the one set of filters.
    if (format !== 0x08000000 || bytes[28] !== 0) throw new Error('it is no 8-bit greyscale PNG');
    const packed = [];
    for (let at = 8; at + 8 < bytes.length; at += view.getUint32(at) + 12) {
      const isData = view.getUint32(at + 4) === 0x49444154; // "IDAT"
      if (isData) packed.push(bytes.subarray(at + 8, at + 8 + view.getUint32(at)));
    }
    const stream = new Blob(packed).stream().pipeThrough(new DecompressionStream('deflate'));
    const rows = new Uint8Array(await new Response(stream).arrayBuffer());
    if (rows.length !== (width + 1) * height) throw new Error('its pixels are not complete');
    return { width, height, codes: withoutFilters(rows, width, height) };
  }

  /** Undo what PNG does to each row to make it smaller (PNG specification, section 9). */
  function withoutFilters(rows, width, height) {
    const codes = new Uint8Array(width * height);
    for (let row = 0; row < height; row += 1) {
      const filter = rows[row * (width + 1)];
      const from = row * (width + 1) + 1;
      const to = row * width;
      for (let column = 0; column < width; column += 1) {
        const left = column ? codes[to + column - 1] : 0;
        const up = row ? codes[to + column - width] : 0;
        const corner = row && column ? codes[to + column - width - 1] : 0;
        let guess = 0;
        if (filter === 1) guess = left;
        else if (filter === 2) guess = up;
        else if (filter === 3) guess = (left + up) >> 1;
        else if (filter === 4) guess = paeth(left, up, corner);
        codes[to + column] = rows[from + column] + guess;
      }
    }
    return codes;
  }

  function paeth(left, up, corner) {
    const [a, b, c] = [Math.abs(up - corner), Math.abs(left - corner), Math.abs(left + up - 2 * corner)];
    if (a <= b && a <= c) return left;
    return b <= c ? up : corner;
  }

  /** Decoded tiles, those used last kept longest. A tile is absent, waiting, broken or here. */
  class Cache {
    constructor(limit, onChange) {
      this.limit = limit;
      this.onChange = onChange;
      this.tiles = new Map(); // in order of use
      this.broken = new Map(); // name to reason
      this.loading = new Set();
      this.bytes = 0;
      this.frame = 0;
      this.canvas = new OffscreenCanvas(1, 1);
    }

    /** Tile of that name if it is decoded, else "absent", "broken" or "waiting". */
    find(name) {
      const tile = this.tiles.get(name);
      if (tile) {
        tile.frame = this.frame;
        this.tiles.delete(name);
        this.tiles.set(name, tile);
        return tile;
      }
      if (this.broken.has(name)) return 'broken';
      return document.getElementById(name) ? 'waiting' : 'absent';
    }

    /** End a frame: begin with the tiles it lacked, first things first, and drop what is too much. */
    endFrame(wanted) {
      for (const { name, layer } of wanted) {
        if (this.loading.size >= AT_ONCE) break;
        if (!this.loading.has(name)) this.load(name, layer);
      }
      for (const [name, tile] of this.tiles) {
        if (this.bytes <= this.limit || tile.frame === this.frame) break;
        this.tiles.delete(name);
        this.bytes -= tile.bytes;
        tile.picture?.close();
      }
      this.frame += 1;
    }

    async load(name, layer) {
      this.loading.add(name);
      try {
        const bytes = bytesOf(document.getElementById(name).textContent);
        const tile = layer.kind === 'picture'
          ? { picture: await createImageBitmap(new Blob([bytes], { type: layer.mime })) }
          : await readCodes(bytes);
        const { width, height } = tile.picture ?? tile;
        Object.assign(tile, { width, height, bytes: width * height * (tile.codes ? 5 : 4) });
        tile.frame = this.frame;
        this.bytes += tile.bytes;
        this.tiles.set(name, tile);
      } catch (error) {
        this.broken.set(name, error.message);
        console.warn(`A piece of the map cannot be read: ${name}: ${error.message}`);
      }
      this.loading.delete(name);
      this.onChange();
    }

    /** Picture of a tile; codes are coloured anew where the palette has changed. */
    pictureOf(tile, palette) {
      if (!tile.codes || tile.palette === palette) return tile.picture;
      const pixels = new ImageData(tile.width, tile.height);
      const colours = new Uint32Array(pixels.data.buffer);
      for (let i = 0; i < colours.length; i += 1) colours[i] = palette[tile.codes[i]];
      tile.picture?.close();
      this.canvas.width = tile.width;
      this.canvas.height = tile.height;
      this.canvas.getContext('2d').putImageData(pixels, 0, 0);
      tile.picture = this.canvas.transferToImageBitmap();
      tile.palette = palette;
      return tile.picture;
    }
  }

  const RAMP_CSS = `linear-gradient(to right, ${RAMP.map(css).join(', ')})`;
  return { Cache, paletteOf, RAMP_CSS, MASK_CSS: css(MASK_COLOUR) };
})();
