/** What a server sends, checked: only what this page can show gets through. A message may come from anybody. */

const MAX_DETECTIONS = 300;
const MAX_NAME = 64;
const MAX_IMAGE = 8_000_000;
const BASE64 = /^[A-Za-z0-9+/]+={0,2}$/;

const text = (value) => (typeof value === "string" ? value.slice(0, MAX_NAME) : "");
const number = (value, most = 1e12) => (Number.isFinite(value) ? Math.min(Math.max(value, 0), most) : 0);

function detection(value) {
  const box = value?.bbox;
  if (!Array.isArray(box) || box.length !== 4 || !box.every(Number.isFinite)) return null;
  return { box, name: text(value.category_name) || "object", kind: number(value.category_id), score: number(value.score, 1) };
}

/** The detections of a message, those with the highest scores: {box: [left, top, width, height], name, kind, score}. */
export function detections(values) {
  if (!Array.isArray(values)) return [];
  const read = values.slice(0, 10_000).map(detection).filter(Boolean);
  return read.sort((a, b) => b.score - a.score).slice(0, MAX_DETECTIONS);
}

/** A JPEG picture in base64 as the address of an image, or null. */
export function jpegAddress(base64) {
  const good = typeof base64 === "string" && base64.length < MAX_IMAGE && BASE64.test(base64);
  return good ? `data:image/jpeg;base64,${base64}` : null;
}

/** A message of the WebSocket as {type, ...}, or null if it is not one that this page knows. */
export function readMessage(data) {
  let value;
  try {
    value = JSON.parse(data);
  } catch {
    return null;
  }
  if (value === null || typeof value !== "object") return null;
  const source = text(value.source);
  switch (value.type) {
    case "hello":
      return { type: "hello", detector: text(value.detector), attacker: text(value.attacker), token: value.token === true };
    case "frame":
      if (!source || !(number(value.width) >= 1) || !(number(value.height) >= 1)) return null;
      return {
        type: "frame",
        source,
        frame: number(value.frame),
        width: number(value.width, 65_535),
        height: number(value.height, 65_535),
        detections: detections(value.detections),
        qp: number(value.qp, 99),
        bytes: number(value.bytes),
        bitsPerSecond: number(value.bits_per_second),
        framesPerSecond: number(value.frames_per_second),
        latency: number(value.latency_ms),
        refused: number(value.refused),
      };
    case "interceptor": {
      const address = jpegAddress(value.jpeg);
      return source && address ? { type: "interceptor", source, frame: number(value.frame), address } : null;
    }
    case "gone":
      return source ? { type: "gone", source } : null;
    default:
      return null;
  }
}

/** The answer to a picture, or null if it is not one. */
export function readPicture(value) {
  if (value === null || typeof value !== "object" || !(number(value.width) >= 1) || !(number(value.height) >= 1)) return null;
  const prefix = "data:image/jpeg;base64,";
  const picture = text(value.reconstruction) && value.reconstruction.startsWith(prefix);
  return {
    width: number(value.width, 65_535),
    height: number(value.height, 65_535),
    detections: detections(value.detections),
    qp: number(value.qp, 99),
    bytes: number(value.bytes),
    pictureBytes: number(value.picture_bytes),
    encode: number(value.ms?.encode),
    decode: number(value.ms?.decode),
    attacker: text(value.attacker),
    reconstruction: picture ? jpegAddress(value.reconstruction.slice(prefix.length)) : null,
  };
}

/** Why the server refused, in one line: its own words if it has some. */
export async function refusal(response) {
  try {
    const said = (await response.json()).detail;
    if (typeof said === "string" && said) return said.slice(0, 300);
  } catch {
    // Not JSON: another server, or a proxy before it.
  }
  return `the server answered with status ${response.status}`;
}
