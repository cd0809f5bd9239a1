'use strict';
// The whole scene in a corner, with what is in sight framed; a click or a drag goes there.
{
  const { element } = sgpage.dom;
  const MOST = { width: 150, height: 190 }, LEAST_WIDTH = 26;

  class Minimap {
    constructor(camera) {
      this.camera = camera;
      this.canvas = element('canvas', { class: 'minimap', 'aria-hidden': 'true' });
      const go = (event) => { if (event.buttons & 1) this.go(event); };
      this.canvas.addEventListener('pointerdown', (event) => { this.canvas.setPointerCapture(event.pointerId); go(event); });
      this.canvas.addEventListener('pointermove', go);
    }

    /** Take a scene; what it looks like is kept as a picture of its own. */
    take(scene) {
      this.scene = scene;
      this.ratio = Math.min(MOST.width / Math.max(scene.width, 1), MOST.height / Math.max(scene.height, 1));
      const width = Math.max(LEAST_WIDTH, scene.width * this.ratio), height = Math.max(LEAST_WIDTH, scene.height * this.ratio);
      Object.assign(this.canvas, { width: Math.ceil(width) * 2, height: Math.ceil(height) * 2 });
      this.canvas.style.width = `${Math.ceil(width)}px`;
      this.canvas.style.height = `${Math.ceil(height)}px`;
      this.paint();
    }

    colour(name) { return getComputedStyle(this.canvas).getPropertyValue(name).trim(); }

    paint() {
      if (!this.scene) return;
      const image = this.image = document.createElement('canvas');
      Object.assign(image, { width: this.canvas.width, height: this.canvas.height });
      const context = image.getContext('2d'), ratio = 2 * this.ratio;
      for (const item of this.scene.items) {
        const name = item.group ? (item.open ? '--panel' : '--line') : item.mark.part === 'backward' ? '--backward'
          : item.mark.part === 'update' ? '--update' : '--forward';
        context.fillStyle = this.colour(name);
        context.fillRect(item.x * ratio, item.y * ratio, Math.max(item.width * ratio, 1), Math.max(item.height * ratio, 1));
      }
      this.moved();
    }

    moved() {
      if (!this.image) return;
      const context = this.canvas.getContext('2d'), { camera, ratio } = this, frame = camera.box();
      context.clearRect(0, 0, this.canvas.width, this.canvas.height);
      context.drawImage(this.image, 0, 0);
      const [x, y] = [-camera.x / camera.scale * ratio, -camera.y / camera.scale * ratio];
      const [width, height] = [frame.width / camera.scale * ratio, frame.height / camera.scale * ratio];
      context.strokeStyle = this.colour('--accent');
      context.lineWidth = 3;
      context.strokeRect(Math.max(2 * x, 1.5), Math.max(2 * y, 1.5), Math.min(2 * width, this.canvas.width - 3), Math.min(2 * height, this.canvas.height - 3));
      this.canvas.hidden = x <= 0 && y <= 0 && x + width >= this.scene.width * ratio && y + height >= this.scene.height * ratio;
    }

    go(event) {
      const at = this.canvas.getBoundingClientRect(), frame = this.camera.box(), { scale } = this.camera;
      this.camera.x = frame.width / 2 - (event.clientX - at.x) / this.ratio * scale;
      this.camera.y = frame.height / 2 - (event.clientY - at.y) / this.ratio * scale;
      this.camera.apply();
    }
  }

  sgpage.Minimap = Minimap;
}
