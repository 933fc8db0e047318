/** Blosc (format of c-blosc 1) with LZ4 and bit shuffle, as the chunks of betas are packed. */

const HEADER = 16;
const MEMCPYED = 2;
const BITSHUFFLE = 4;
const NOT_SPLIT = 16;
const LZ4 = 1;
const MOST_SPLITS = 16;
const LEAST_ELEMENTS = 128;

export function bloscDecode(data: Uint8Array): Uint8Array {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const flags = data[2]!;
  const width = data[3]!;
  const size = view.getUint32(4, true);
  const blockSize = view.getUint32(8, true);
  if (view.getUint32(12, true) !== data.length) throw new Error("blosc: another size than its header says");
  if (flags & MEMCPYED) return data.slice(HEADER, HEADER + size);
  if (flags >> 5 !== LZ4 || flags & 1) throw new Error("blosc: only LZ4 with bit shuffle is read");
  const found = new Uint8Array(size);
  const packed = new Uint8Array(blockSize);
  for (let start = 0, block = 0; start < size; start += blockSize, block++) {
    const length = Math.min(blockSize, size - start);
    const whole = length === blockSize;
    const split = !(flags & NOT_SPLIT) && width <= MOST_SPLITS && blockSize / width >= LEAST_ELEMENTS && whole;
    const target = flags & BITSHUFFLE ? packed.subarray(0, length) : found.subarray(start, start + length);
    readBlock(data, view, view.getUint32(HEADER + 4 * block, true), target, split ? width : 1);
    if (flags & BITSHUFFLE) unshuffle(target, found.subarray(start, start + length), width);
  }
  return found;
}

/** A block: as many streams as there are splits, each with its size before it. */
function readBlock(data: Uint8Array, view: DataView, at: number, target: Uint8Array, splits: number): void {
  const length = target.length / splits;
  for (let split = 0; split < splits; split++) {
    const size = view.getUint32(at, true);
    at += 4;
    const stream = data.subarray(at, at + size);
    const part = target.subarray(split * length, (split + 1) * length);
    if (size === length) part.set(stream);
    else lz4(stream, part);
    at += size;
  }
}

/** One LZ4 block; fills the target exactly. */
function lz4(data: Uint8Array, target: Uint8Array): void {
  let at = 0;
  let to = 0;
  const count = (first: number): number => {
    if (first < 15) return first;
    let total = first;
    let byte: number;
    do {
      byte = data[at++] ?? 0;
      total += byte;
    } while (byte === 255);
    return total;
  };
  while (at < data.length) {
    const token = data[at++]!;
    const literals = count(token >> 4);
    if (to + literals > target.length || at + literals > data.length) throw new Error("lz4: too long");
    target.set(data.subarray(at, at + literals), to);
    at += literals;
    to += literals;
    if (at >= data.length) break; // the last sequence has literals alone
    const back = data[at]! | (data[at + 1]! << 8);
    at += 2;
    const end = to + count(token & 15) + 4;
    if (back === 0 || back > to || end > target.length) throw new Error("lz4: a match out of bounds");
    if (back >= end - to) {
      target.copyWithin(to, to - back, end - back);
      to = end;
    } else for (; to < end; to++) target[to] = target[to - back]!;
  }
  if (to !== target.length) throw new Error("lz4: too short");
}

/** Undo bit shuffle: row n holds bit n of all elements, eight elements a byte. */
function unshuffle(data: Uint8Array, target: Uint8Array, width: number): void {
  const n = data.length / width;
  if (n % 8 !== 0) return target.set(data); // c-blosc leaves such blocks as they are
  const row = n / 8;
  for (let byte = 0; byte < width; byte++) {
    const first = byte * 8 * row;
    for (let m = 0; m < row; m++) {
      const at = first + m;
      // An 8 x 8 matrix of bits in two words, transposed (Hacker's Delight, 7-3).
      let x = (data[at + 7 * row]! << 24) | (data[at + 6 * row]! << 16) | (data[at + 5 * row]! << 8) | data[at + 4 * row]!;
      let y = (data[at + 3 * row]! << 24) | (data[at + 2 * row]! << 16) | (data[at + row]! << 8) | data[at]!;
      let t = (x ^ (x >>> 7)) & 0x00aa00aa;
      x = x ^ t ^ (t << 7);
      t = (y ^ (y >>> 7)) & 0x00aa00aa;
      y = y ^ t ^ (t << 7);
      t = (x ^ (x >>> 14)) & 0x0000cccc;
      x = x ^ t ^ (t << 14);
      t = (y ^ (y >>> 14)) & 0x0000cccc;
      y = y ^ t ^ (t << 14);
      t = (x & 0xf0f0f0f0) | ((y >>> 4) & 0x0f0f0f0f);
      y = ((x << 4) & 0xf0f0f0f0) | (y & 0x0f0f0f0f);
      x = t;
      let to = 8 * m * width + byte;
      for (let bit = 0; bit < 32; bit += 8, to += width) target[to] = y >>> bit;
      for (let bit = 0; bit < 32; bit += 8, to += width) target[to] = x >>> bit;
    }
  }
}
