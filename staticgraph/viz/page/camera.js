'use strict';
// A picture that can be moved: drag, wheel, pinch, buttons and keys. One transform on one element; nothing is drawn anew.
{
  const LEAST = 0.02, MOST = 4, STEP = 1.25, FAR = 5, READABLE = 0.6;

  class Camera {
    /** `frame` is the svg element, `inner` the group inside of it that moves. */
    constructor(frame, inner, moved = () => {}) {
      Object.assign(this, { frame, inner, moved, x: 0, y: 0, scale: 1, size: { width: 1, height: 1 } });
      this.pointers = new Map();
      frame.addEventListener('wheel', (event) => this.wheel(event), { passive: false });
      frame.addEventListener('pointerdown', (event) => this.press(event));
      frame.addEventListener('pointermove', (event) => this.drag(event));
      for (const name of ['pointerup', 'pointercancel']) frame.addEventListener(name, (event) => this.release(event));
      frame.addEventListener('keydown', (event) => this.key(event));
      // What follows a drag is no click.
      frame.addEventListener('click', (event) => { if (this.dragged) event.stopPropagation(); }, { capture: true });
    }

    apply() {
      this.inner.setAttribute('transform', `translate(${this.x.toFixed(2)} ${this.y.toFixed(2)}) scale(${this.scale.toFixed(4)})`);
      // Styles look at the scale in steps, since a change of them costs a pass over all elements.
      const level = this.scale < 0.14 ? 'tiny' : this.scale < 0.4 ? 'far' : 'near';
      if (this.frame.dataset.level !== level) this.frame.dataset.level = level;
      const step = Math.round(Math.log(this.scale) / Math.log(1.3));
      if (this.step !== step) this.inner.style.setProperty('--scale', Math.pow(1.3, this.step = step).toFixed(3));
      this.moved();
    }

    box() { return this.frame.getBoundingClientRect(); }

    zoom(factor, x = this.box().width / 2, y = this.box().height / 2) {
      const scale = Math.min(MOST, Math.max(LEAST, this.scale * factor)), ratio = scale / this.scale;
      Object.assign(this, { x: x - (x - this.x) * ratio, y: y - (y - this.y) * ratio, scale });
      this.apply();
    }

    move(dx, dy) { this.x += dx; this.y += dy; this.apply(); }

    /** Show all of it. */
    fit(size = this.size) {
      this.size = size;
      const { width, height } = this.box(), margin = 24;
      this.scale = Math.max(LEAST, this.whole());
      this.x = (width - size.width * this.scale) / 2;
      this.y = Math.max((height - size.height * this.scale) / 2, margin);
      this.apply();
    }

    whole() {
      const { width, height } = this.box(), margin = 24;
      return Math.min((width - 2 * margin) / Math.max(this.size.width, 1), (height - 2 * margin) / Math.max(this.size.height, 1), 1.4);
    }

    /** Show all of it where that can be read, else its upper end around `middle`. */
    start(size, middle) {
      this.size = size;
      if (this.whole() >= READABLE) return this.fit(size);
      const { width } = this.box(), across = width / READABLE;
      this.scale = READABLE;
      const left = size.width <= across ? (size.width - across) / 2 : Math.max(-40, Math.min(middle - across / 2, size.width + 40 - across));
      this.x = -left * READABLE;
      this.y = 24;
      this.apply();
    }

    /** Bring a box into the middle, large enough to read. */
    show(box) {
      const { width, height } = this.box();
      const least = Math.min(1, 0.8 * width / Math.max(box.width, 1), 0.8 * height / Math.max(box.height, 1));
      this.scale = Math.max(this.scale, Math.min(0.8, least));
      if (this.scale * box.width > width || this.scale * box.height > height) this.scale = Math.max(least, LEAST);
      this.x = width / 2 - (box.x + box.width / 2) * this.scale;
      this.y = height / 2 - (box.y + box.height / 2) * this.scale;
      this.apply();
    }

    isVisible(box) {
      const { width, height } = this.box(), x = box.x * this.scale + this.x, y = box.y * this.scale + this.y;
      return x >= 0 && y >= 0 && x + box.width * this.scale <= width && y + box.height * this.scale <= height;
    }

    wheel(event) {
      event.preventDefault();
      const frame = this.box(), unit = event.deltaMode === 1 ? 16 : 1;
      if (event.shiftKey) this.move(-event.deltaY * unit, 0);
      else this.zoom(Math.exp(-event.deltaY * unit * (event.ctrlKey ? 0.01 : 0.0015)), event.clientX - frame.x, event.clientY - frame.y);
    }

    press(event) {
      if (event.pointerType === 'mouse' && event.button !== 0) return;
      if (!this.pointers.size) this.dragged = false;
      this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, from: [event.clientX, event.clientY] });
    }

    drag(event) {
      const pointer = this.pointers.get(event.pointerId);
      if (!pointer) return;
      const before = [...this.pointers.values()].map(({ x, y }) => ({ x, y }));
      const dx = event.clientX - pointer.x, dy = event.clientY - pointer.y;
      if (!this.dragged && Math.hypot(event.clientX - pointer.from[0], event.clientY - pointer.from[1]) < FAR) return;
      if (!this.dragged) this.frame.setPointerCapture(event.pointerId);
      this.dragged = true;
      Object.assign(pointer, { x: event.clientX, y: event.clientY });
      if (this.pointers.size === 1) return void this.move(dx, dy);
      const [a, b] = this.pointers.values(), [c, d] = before, frame = this.box();
      const apart = (p, q) => Math.max(Math.hypot(p.x - q.x, p.y - q.y), 1);
      this.x += ((a.x + b.x) - (c.x + d.x)) / 2;
      this.y += ((a.y + b.y) - (c.y + d.y)) / 2;
      this.zoom(apart(a, b) / apart(c, d), (a.x + b.x) / 2 - frame.x, (a.y + b.y) / 2 - frame.y);
    }

    release(event) {
      this.pointers.delete(event.pointerId);
    }

    key(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const far = event.shiftKey ? 240 : 60;
      const moves = { ArrowLeft: [far, 0], ArrowRight: [-far, 0], ArrowUp: [0, far], ArrowDown: [0, -far] };
      if (moves[event.key]) this.move(...moves[event.key]);
      else if (event.key === '+' || event.key === '=') this.zoom(STEP);
      else if (event.key === '-') this.zoom(1 / STEP);
      else if (event.key === '0') this.fit();
      else return;
      event.preventDefault();
    }

    /** Buttons that do what the keys do. */
    controls() {
      const { element, button } = sgpage.dom;
      return element('div', { class: 'zoom', role: 'group', 'aria-label': 'zoom' },
        button('+', 'zoom in (+)', () => this.zoom(STEP)), button('−', 'zoom out (-)', () => this.zoom(1 / STEP)),
        button('fit', 'show all of it (0)', () => this.fit()));
    }
  }

  sgpage.Camera = Camera;
}
