/** Numbers and counts as people read them. */

const plain = (digits) => new Intl.NumberFormat("en", { maximumFractionDigits: digits, minimumFractionDigits: digits });
const whole = plain(0);
const tenths = plain(1);
const hundredths = plain(2);

/** Bits per second: "412 kbit/s", "1.24 Mbit/s". */
export function bitRate(bits) {
  if (bits >= 999_500) return `${hundredths.format(bits / 1e6)} Mbit/s`;
  return bits >= 9_950 ? `${whole.format(bits / 1e3)} kbit/s` : `${tenths.format(bits / 1e3)} kbit/s`;
}

/** Bytes: "940 bytes", "8.9 kB", "1.24 MB". */
export function size(bytes) {
  if (bytes < 1_000) return `${whole.format(bytes)} bytes`;
  if (bytes < 999_500) return `${(bytes < 99_500 ? tenths : whole).format(bytes / 1e3)} kB`;
  return `${hundredths.format(bytes / 1e6)} MB`;
}

export const milliseconds = (value) => `${whole.format(value)} ms`;
export const oneDigit = (value) => tenths.format(value);
export const twoDigits = (value) => hundredths.format(value);
export const count = (value) => whole.format(value);

/** "14 objects", "1 object". */
export const objects = (number) => (number === 1 ? "1 object" : `${whole.format(number)} objects`);

/** What was found, the most frequent class first: "8 × car, 3 × pedestrian". */
export function summary(detections) {
  const counts = new Map();
  for (const { name } of detections) counts.set(name, (counts.get(name) ?? 0) + 1);
  const sorted = [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  return sorted.map(([name, number]) => `${number} × ${name}`).join(", ");
}
