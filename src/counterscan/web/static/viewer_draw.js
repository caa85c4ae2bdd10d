// Pictures from numbers: window, colours, outlines, and panels that share one zoom.
const LINE = { mask: "#ffb000", truth: "#00ced1" };

// A block of the viewer: uint32 length, JSON, then the planes that it describes.
export function parse(buffer) {
  const length = new DataView(buffer).getUint32(0, true), head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  let start = 4 + length;
  const planes = {};
  for (const { name, kind, shape, low, high } of head.planes) {
    const count = shape.reduce((product, side) => product * side, 1);
    const data = kind === "u8" ? new Uint8Array(buffer, start, count) : new Uint16Array(buffer, start, count);
    start += data.byteLength + data.byteLength % 2;
    planes[name] = { data, low, high, channels: shape[0], height: shape[1], width: shape[2] };
  }
  return { head, planes };
}

// What all panels share: where one looks, and what is black and white (shares of the stored window).
export class Look {
  constructor(draw) { this.changed = draw; this.smooth = true; this.outlines = false; this.reset(); }
  reset() { this.zoom = 1; this.x = this.y = 0.5; this.low = 0; this.high = 1; this.changed(); }
  whole() { this.zoom = 1; this.x = this.y = 0.5; this.changed(); }
  move(x, y) { this.x = hold(this.x + x, this.zoom); this.y = hold(this.y + y, this.zoom); this.changed(); }
  scale(by, x = this.x, y = this.y) {  // about a point, in shares of the image
    const zoom = Math.max(1, Math.min(32, this.zoom * by)), ratio = this.zoom / zoom;
    this.x = hold(x + (this.x - x) * ratio, zoom);
    this.y = hold(y + (this.y - y) * ratio, zoom);
    this.zoom = zoom;
    this.changed();
  }
  window(level, width) {
    const w = Math.max(0.01, Math.min(1, width)), l = Math.max(0, Math.min(1, level));
    this.low = l - w / 2; this.high = l + w / 2;
    this.changed();
  }
  get level() { return (this.low + this.high) / 2; }
  get width() { return this.high - this.low; }
}

function hold(place, zoom) { const edge = 0.5 / zoom; return Math.max(edge, Math.min(1 - edge, place)); }

// A picture that is painted again when the window moves.
class Painting {
  constructor(plane, paint, windowed = true) {
    this.canvas = document.createElement("canvas");
    this.canvas.width = plane.width; this.canvas.height = plane.height;
    this.pen = this.canvas.getContext("2d");
    this.pixels = this.pen.createImageData(plane.width, plane.height);
    this.paint = paint; this.windowed = windowed; this.painted = "";
  }
  at(look) {
    const key = this.windowed ? `${look.low} ${look.high}` : "once";
    if (key !== this.painted) {
      this.painted = key;
      this.paint(this.pixels.data, look);
      this.pen.putImageData(this.pixels, 0, 0);
    }
    return this.canvas;
  }
}

export function grey(plane) {
  const { data, channels } = plane, area = plane.width * plane.height, colour = channels === 3;
  return new Painting(plane, (out, look) => {
    const gain = 255 / (look.high - look.low) / 65535, shift = -255 * look.low / (look.high - look.low);
    for (let i = 0, o = 0; i < area; i++, o += 4) {
      const red = data[i] * gain + shift;  // the array clamps
      out[o] = red;
      out[o + 1] = colour ? data[area + i] * gain + shift : red;
      out[o + 2] = colour ? data[2 * area + i] * gain + shift : red;
      out[o + 3] = 255;
    }
  });
}

export function change(after, before, limit, table) {
  const area = after.width * after.height, channels = after.channels, shades = spread(table);
  return new Painting(after, out => {
    for (let i = 0, o = 0; i < area; i++, o += 4) {
      let moved = 0;
      for (let c = 0; c < channels; c++) moved += after.data[c * area + i] - before.data[c * area + i];
      const share = moved / channels / 65535 / limit / 2 + 0.5;  // stored values span the window
      put(out, o, shades, Math.max(0, Math.min(1, share)));
    }
  }, false);
}

export function heat(map, image, limit, table) {
  const below = grey(image), area = map.width * map.height, shades = spread(table);
  const gain = (map.high - map.low) / 65535 / limit;
  return new Painting(map, (out, look) => {
    below.at(look);
    out.set(below.pixels.data);
    for (let i = 0, o = 0; i < area; i++, o += 4) {
      const level = Math.min(1, map.data[i] * gain), opacity = Math.min(0.85, level * 1.6), place = Math.round(level * 255) * 3;
      for (let c = 0; c < 3; c++) out[o + c] = out[o + c] * (1 - opacity) + shades[place + c] * opacity;
    }
  });
}

function put(out, o, shades, share) {
  const place = Math.round(share * 255) * 3;
  out[o] = shades[place]; out[o + 1] = shades[place + 1]; out[o + 2] = shades[place + 2]; out[o + 3] = 255;
}

function spread(table) {  // 256 colours from the stops
  const shades = new Uint8ClampedArray(256 * 3), last = table.length - 1;
  for (let i = 0; i < 256; i++) {
    const place = i / 255 * last, below = Math.min(last - 1, Math.floor(place)), part = place - below;
    for (let c = 0; c < 3; c++) shades[i * 3 + c] = table[below][c] * (1 - part) + table[below + 1][c] * part;
  }
  return shades;
}

// The border of a mask as a path in pixels of the image: where the mean of three by three passes one half.
export function border(plane) {
  const { width, height, data } = plane, w = width + 2, path = new Path2D(), field = new Float32Array(w * (height + 2));
  let any = false;
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
    if (!data[y * width + x]) continue;
    any = true;
    for (let v = 0; v < 3; v++) for (let u = 0; u < 3; u++) field[(y + v) * w + x + u] += 1 / 9;
  }
  if (!any) return null;
  for (let y = 0; y <= height; y++) for (let x = 0; x <= width; x++) cell(path, field, w, x, y);
  return path;
}

function cell(path, field, w, x, y) {  // marching squares, the corners being centres of pixels
  const a = field[y * w + x], b = field[y * w + x + 1], c = field[(y + 1) * w + x + 1], d = field[(y + 1) * w + x];
  const inside = [a, b, c, d].map(value => value > 0.4999);
  if (inside.every(one => one === inside[0])) return;
  const between = (p, q) => (0.4999 - p) / (q - p), left = x - 0.5, top = y - 0.5, points = [];
  if (inside[0] !== inside[1]) points.push([left + between(a, b), top]);
  if (inside[1] !== inside[2]) points.push([left + 1, top + between(b, c)]);
  if (inside[3] !== inside[2]) points.push([left + between(d, c), top + 1]);
  if (inside[0] !== inside[3]) points.push([left, top + between(a, d)]);
  for (let i = 0; i + 1 < points.length; i += 2) { path.moveTo(...points[i]); path.lineTo(...points[i + 1]); }
}

// One picture on the screen. `second` and `share` are for the swipe: right of the share stands the second.
export class Panel {
  constructor(look, name) {
    this.look = look;
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", name);
    this.picture = this.second = null;
    this.share = 0.5;
    this.lines = {};      // mask and truth, as paths
    this.always = false;  // whether they are drawn whatever the toggle says
    this.watch = new ResizeObserver(() => this.draw());
    this.watch.observe(this.canvas);
  }
  leave() { this.watch.disconnect(); }

  geometry() {
    const { clientWidth: wide, clientHeight: high } = this.canvas, { width, height } = this.picture.canvas, { zoom, x, y } = this.look;
    const scale = Math.min(wide / width, high / height) * zoom;
    return { wide, high, scale, left: wide / 2 - x * width * scale, top: high / 2 - y * height * scale };
  }

  place(event) {  // of a pointer, in shares of the image
    const box = this.canvas.getBoundingClientRect(), { scale, left, top } = this.geometry(), { width, height } = this.picture.canvas;
    return [(event.clientX - box.left - left) / scale / width, (event.clientY - box.top - top) / scale / height];
  }

  draw() {
    if (!this.picture || !this.canvas.clientWidth) return;
    const ratio = devicePixelRatio, { wide, high, scale, left, top } = this.geometry();
    const [w, h] = [Math.round(wide * ratio), Math.round(high * ratio)];
    if (this.canvas.width !== w || this.canvas.height !== h) { this.canvas.width = w; this.canvas.height = h; }
    const pen = this.canvas.getContext("2d");
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, w, h);
    pen.imageSmoothingEnabled = this.look.smooth;
    pen.imageSmoothingQuality = "high";
    pen.setTransform(scale * ratio, 0, 0, scale * ratio, left * ratio, top * ratio);
    pen.drawImage(this.picture.at(this.look), 0, 0);
    if (this.second) this.right(pen, wide, high, scale, left, top);
    if (this.always || this.look.outlines) this.outline(pen, scale);
  }

  right(pen, wide, high, scale, left, top) {
    const from = (this.share * wide - left) / scale;
    pen.save();
    pen.beginPath();
    pen.rect(from, -top / scale, wide / scale, high / scale);
    pen.clip();
    pen.drawImage(this.second.at(this.look), 0, 0);
    pen.restore();
  }

  outline(pen, scale) {
    pen.lineJoin = pen.lineCap = "round";
    pen.lineWidth = 2 / scale;
    for (const kind of ["truth", "mask"]) {
      if (!this.lines[kind]) continue;
      pen.strokeStyle = LINE[kind];
      pen.setLineDash(kind === "truth" ? [6 / scale, 4 / scale] : []);
      pen.stroke(this.lines[kind]);
    }
    pen.setLineDash([]);
  }
}
