// Where the map looks. Lengths are in pixels of the scene (at full size), of the page (CSS) or of
// the screen, which has `ratio` pixels for one of the page.

const CscView = (() => {
  'use strict';

  const ZOOM_MOST = 64; // page pixels for one of the scene

  class View {
    x = 0; // the point of the scene at the centre of the map

    y = 0;

    zoom = 1; // page pixels for one of the scene

    width = 1; // page pixels

    height = 1;

    ratio = 1;

    fitted = true; // the whole scene stays in view when the map changes its size

    fitZoom() {
      return Math.min(this.width / this.scene.width, this.height / this.scene.height, ZOOM_MOST);
    }

    fit() {
      this.x = this.scene.width / 2;
      this.y = this.scene.height / 2;
      this.zoom = this.fitZoom();
      this.fitted = true;
    }

    /** Point of the scene under a point of the map. */
    sceneAt(left, top) {
      return [
        this.x + (left - this.width / 2) / this.zoom,
        this.y + (top - this.height / 2) / this.zoom,
      ];
    }

    /** Screen pixel at which a place of the scene begins: whole, so that tiles meet without seams. */
    screenX(x) { return Math.round(this.ratio * ((x - this.x) * this.zoom + this.width / 2)); }

    screenY(y) { return Math.round(this.ratio * ((y - this.y) * this.zoom + this.height / 2)); }

    /** Move by page pixels; the centre stays in the scene. */
    move(right, down) {
      this.fitted = false;
      this.x = Math.min(Math.max(this.x + right / this.zoom, 0), this.scene.width);
      this.y = Math.min(Math.max(this.y + down / this.zoom, 0), this.scene.height);
    }

    /** Zoom so that the point of the scene under (left, top) stays there. */
    zoomTo(zoom, left = this.width / 2, top = this.height / 2) {
      const [x, y] = this.sceneAt(left, top);
      const least = Math.min(this.fitZoom(), 1 / this.ratio) / 2;
      this.zoom = Math.min(Math.max(zoom, least), ZOOM_MOST);
      const [newX, newY] = this.sceneAt(left, top);
      this.move((x - newX) * this.zoom, (y - newY) * this.zoom);
    }
  }

  /** Text of a coordinate, to about a tenth of a step between pixels. */
  function coordinate(value, step) {
    const digits = Math.ceil(-Math.log10(step || 1)) + 2;
    return value.toFixed(Math.min(Math.max(digits, 0), 10));
  }

  /** Length for the scale bar: 1, 2 or 5 times a power of ten, at most `most` metres. */
  function roundLength(most) {
    const power = 10 ** Math.floor(Math.log10(most));
    return [5, 2, 1].map((digit) => digit * power).find((length) => length <= most) ?? power;
  }

  return { View, coordinate, roundLength };
})();
