/** Arrays in shards: their chunks are those that the table of chunks lists, which a manifest proves. */

import type * as zarr from "zarrita";
import { crc32c } from "./checksums";
import { type Numbers, type Span, Mismatch } from "./source";

export type Shape = {
  shape: number[];
  chunk_grid: { configuration: { chunk_shape: number[] } };
  codecs: { configuration: { [key: string]: unknown } }[];
};
type Read = (key: string, span: Span) => Promise<Uint8Array | undefined>;

const FIELDS = 3; // of the table: offset in the shard, bytes, CRC-32C
const ENTRY = 16; // bytes of an index: offset and size of a chunk
const CRC_BYTES = 4;
const ABSENT = 0xffffffff;

/**
 * Reads of one array by its table of chunks: an index of a shard is made of it, and a chunk must
 * have the size and the checksum that it lists. A whole chunk of another store would pass otherwise.
 */
export function listed(readable: zarr.AsyncReadable, key: string, array: Shape, table: () => Promise<Numbers>): zarr.AsyncReadable {
  const { nChunks, perShard } = layout(array);
  let held: Promise<Numbers> | undefined;
  const rows = () => {
    held ??= table();
    held.catch(() => (held = undefined));
    return held;
  };
  const getRange: Read = async (path, span) => {
    const [shard, block = 0] = path.slice(`/${key}/c/`.length).split("/").map(Number) as [number, number?];
    const first = block * nChunks + shard * perShard;
    const n = Math.min(perShard, nChunks - shard * perShard);
    const own = (await rows()).subarray(FIELDS * first, FIELDS * (first + n));
    if ("suffixLength" in span) return indexOf(own, perShard);
    const data = await (readable.getRange as Read)(path, span);
    const chunk = own.findIndex((offset, at) => at % FIELDS === 0 && offset === span.offset);
    const [, size, crc] = own.subarray(chunk, chunk + FIELDS);
    if (chunk < 0 || !data || data.length !== size || checksumIn(data) !== crc) throw new Mismatch();
    return data;
  };
  return { get: readable.get.bind(readable), getRange } as zarr.AsyncReadable;
}

/** Bytes `start` to `end` of an array of bytes whose chunks are not packed; who asks proves them. */
export async function bytesOf(readable: zarr.AsyncReadable, key: string, array: Shape, start: number, end: number): Promise<Uint8Array> {
  const { rows, perShard } = layout(array);
  const read = readable.getRange as Read;
  const suffixLength = ENTRY * perShard + CRC_BYTES;
  const numbers: number[] = [];
  for (let chunk = Math.floor(start / rows); chunk * rows < end; chunk++) numbers.push(chunk);
  const pieces = await Promise.all(numbers.map(async (chunk) => {
    const path = `/${key}/c/${Math.floor(chunk / perShard)}`;
    const index = (await read(path, { suffixLength }))!;
    if (crc32c(index.subarray(0, -CRC_BYTES)) !== checksumIn(index)) throw new Mismatch();
    const view = new DataView(index.buffer, index.byteOffset);
    const begin = Number(view.getBigUint64(ENTRY * (chunk % perShard), true));
    const from = Math.max(start, chunk * rows) - chunk * rows;
    const to = Math.min(end, (chunk + 1) * rows) - chunk * rows;
    return (await read(path, { offset: begin + from, length: to - from }))!;
  }));
  const found = new Uint8Array(end - start);
  let at = 0;
  for (const piece of pieces) {
    found.set(piece, at);
    at += piece.length;
  }
  return found;
}

function layout({ shape, chunk_grid, codecs }: Shape): { rows: number; perShard: number; nChunks: number } {
  const rows = (codecs[0]!.configuration["chunk_shape"] as number[])[0]!;
  const perShard = chunk_grid.configuration.chunk_shape[0]! / rows;
  return { rows, perShard, nChunks: Math.ceil(shape[0]! / rows) };
}

/** Index at the end of a shard: offset and size of each chunk, and a checksum. */
function indexOf(table: Numbers, perShard: number): Uint8Array {
  const index = new DataView(new ArrayBuffer(ENTRY * perShard + CRC_BYTES));
  for (let at = 0; at < ENTRY * perShard; at += 4) index.setUint32(at, ABSENT);
  for (let chunk = 0; chunk * FIELDS < table.length; chunk++) {
    index.setBigUint64(ENTRY * chunk, BigInt(table[FIELDS * chunk]!), true);
    index.setBigUint64(ENTRY * chunk + ENTRY / 2, BigInt(table[FIELDS * chunk + 1]!), true);
  }
  const bytes = new Uint8Array(index.buffer);
  index.setUint32(ENTRY * perShard, crc32c(bytes.subarray(0, -CRC_BYTES)), true);
  return bytes;
}

function checksumIn(data: Uint8Array): number {
  return new DataView(data.buffer, data.byteOffset, data.length).getUint32(data.length - CRC_BYTES, true);
}
