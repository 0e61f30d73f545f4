/** What is drawn on canvases: boxes with class names, and a line of the last minute. */

const COLOURS = 8;
const LABEL = 12;

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Make the canvas as fine as the screen, and empty. Returns its context and its size in CSS pixels, or null. */
function prepared(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  if (!width || !height) return null;
  const fine = Math.min(devicePixelRatio || 1, 3);
  const [columns, rows] = [Math.round(width * fine), Math.round(height * fine)];
  if (canvas.width !== columns || canvas.height !== rows) [canvas.width, canvas.height] = [columns, rows];
  const context = canvas.getContext("2d");
  context.setTransform(fine, 0, 0, fine, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

/** Draw detections; `size` is {width, height} of the picture that their boxes are in. Large boxes lie below small ones. */
export function drawBoxes(canvas, size, detections, { filled = true } = {}) {
  const ready = prepared(canvas);
  if (!ready) return;
  const { context, width, height } = ready;
  const [across, down] = [width / size.width, height / size.height];
  const ink = style("--label-ink");
  context.lineWidth = 2;
  context.lineJoin = "round";
  context.font = `600 ${LABEL}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  const sorted = [...detections].sort((a, b) => b.box[2] * b.box[3] - a.box[2] * a.box[3]);
  const placed = sorted.map(({ box, name, kind }) => {
    const colour = style(`--class-${kind % COLOURS}`);
    const [left, top] = [box[0] * across, box[1] * down];
    const [wide, high] = [box[2] * across, box[3] * down];
    context.strokeStyle = context.fillStyle = colour;
    context.beginPath();
    context.roundRect(left + 1, top + 1, Math.max(wide - 2, 1), Math.max(high - 2, 1), 3);
    if (filled) {
      context.globalAlpha = 0.14;
      context.fill();
      context.globalAlpha = 1;
    }
    context.stroke();
    return { left, top, wide, high, name, colour };
  });
  drawLabels(context, width, placed.reverse(), ink);
}

/** Labels of the smallest boxes first; one that would cover another, or is much wider than its box, is left out. */
function drawLabels(context, width, placed, ink) {
  const taken = [];
  for (const { left, top, wide, high, name, colour } of placed) {
    const long = context.measureText(name).width + 8;
    if (wide < 14 || high < 14 || long > 2.6 * wide) continue;
    const x = Math.min(Math.max(left, 0), Math.max(width - long, 0));
    const y = top >= LABEL + 6 ? top - LABEL - 5 : Math.max(top, 0);
    const label = { x, y, long, tall: LABEL + 6 };
    const free = taken.every((other) => x + long < other.x || other.x + other.long < x || y + label.tall < other.y || other.y + other.tall < y);
    if (!free) continue;
    taken.push(label);
    context.fillStyle = colour;
    context.beginPath();
    context.roundRect(x, y, long, label.tall, 3);
    context.fill();
    context.fillStyle = ink;
    context.fillText(name, x + 4, y + label.tall / 2 + 0.5);
  }
}

/** Draw values of moments, [[seconds, value], ...], as a line over the last `span` seconds. */
export function drawHistory(canvas, points, now, span) {
  const ready = prepared(canvas);
  if (!ready || points.length < 2) return;
  const { context, width, height } = ready;
  const most = 1.15 * Math.max(...points.map(([, value]) => value), 1);
  const place = ([moment, value]) => [width * (1 - (now - moment) / span), height - 1 - (height - 3) * (value / most)];
  const line = points.map(place);
  context.beginPath();
  line.forEach(([x, y], index) => (index ? context.lineTo(x, y) : context.moveTo(x, y)));
  context.strokeStyle = context.fillStyle = style("--stream");
  context.lineWidth = 1.5;
  context.stroke();
  context.lineTo(line.at(-1)[0], height);
  context.lineTo(line[0][0], height);
  context.globalAlpha = 0.12;
  context.fill();
  context.globalAlpha = 1;
}
