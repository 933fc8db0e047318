/** One store: which parts are whole, and their arrays, each byte compared with a checksum. */

import * as zarr from "zarrita";
import { NAMES } from "../names";
import { crc32, crc32c } from "./checksums";
import { register } from "./codecs";
import { type Shape, bytesOf, listed } from "./shards";
import { ByteCache, type Numbers, type Source, type Span, Mismatch, Problem } from "./source";

export type { Numbers } from "./source";
export type Named<T> = { [key: string]: T };
type Metadata = Shape & {
  node_type: string;
  data_type: string;
  fill_value: unknown;
  dimension_names?: string[];
  attributes: Named<unknown>;
  codecs: { name: string; configuration: Named<unknown> }[];
};
type Part = { path: string; files: Named<[number, number]>; sources: Named<Named<unknown>> };

const CACHE_BYTES = 192 << 20;
register();

/** One array of a part. */
export class StoredArray {
  readonly #array: zarr.Array<zarr.DataType>;

  constructor(
    readonly key: string,
    readonly metadata: Metadata,
    readonly store: zarr.AsyncReadable,
    readonly onDamage: () => void,
  ) {
    const bits = { ...metadata, data_type: "uint16", fill_value: 0 };
    const stored = metadata.data_type === "float16" ? bits : metadata;
    this.#array = new zarr.Array(store, `/${key}`, stored as never);
  }

  get shape(): number[] {
    return this.metadata.shape;
  }

  get attributes(): Named<unknown> {
    return this.metadata.attributes;
  }

  /** Rows of one chunk along the first axis. */
  get chunkRows(): number {
    return this.#array.chunks[0] ?? 1;
  }

  /** Bytes of all chunks before they were packed. */
  get nbytes(): number {
    const sizes: Named<number> = { float64: 8, int64: 8, uint64: 8, float32: 4, int32: 4, uint32: 4, float16: 2, int16: 2 };
    return this.shape.reduce((a, b) => a * b, sizes[this.metadata.data_type] ?? 1);
  }

  /** Values of one chunk, C order; the last chunk of an axis is padded. */
  async chunk(coordinates: number[]): Promise<Numbers> {
    return plain(await this.#proven(() => this.#array.getChunk(coordinates), coordinates));
  }

  /** All values, C order. */
  async values(): Promise<Numbers> {
    if (this.shape.includes(0)) return new Float32Array(0);
    const whole = this.#array.chunks.every((size, axis) => size === this.shape[axis]);
    if (whole) return this.chunk(this.shape.map(() => 0));
    return plain(await this.#proven(() => zarr.get(this.#array, null)));
  }

  /** Rows `start` to `end` of the first axis. */
  async rows(start: number, end: number): Promise<Numbers> {
    const rest = this.shape.slice(1).map(() => null);
    const selection = [zarr.slice(start, end), ...rest];
    return plain(await this.#proven(() => zarr.get(this.#array, selection), [start]));
  }

  /** Begin to read the first chunk. */
  async prefetch(): Promise<void> {
    await this.store.get(`/${this.key}/c/${this.shape.map(() => 0).join("/")}`);
  }

  /** Bytes `start` to `end` of files that lie one after the other; who asks proves them. */
  async bytes(start: number, end: number): Promise<Uint8Array> {
    return this.#proven(() => bytesOf(this.store, this.key, this.metadata, start, end), [start]);
  }

  async text(): Promise<string[]> {
    if (this.shape.includes(0)) return [];
    const found = await this.#proven(() => zarr.get(this.#array, null));
    return found.data as unknown as string[];
  }

  async #proven<T>(read: () => Promise<T>, where?: number[]): Promise<T> {
    try {
      return await read();
    } catch (error) {
      if (error instanceof Problem) throw error;
      this.onDamage();
      const cause = error instanceof zarr.CodecPipelineError ? error.cause : error;
      const why = cause instanceof Mismatch ? "does not match its checksum" : `cannot be decoded (${String(cause)})`;
      const chunk = where ? `, at ${where.join(", ")},` : "";
      throw new Problem(`${this.key}${chunk} ${why}: it is damaged, or cut. 'laion-zarr verify' lists what is damaged.`);
    }
  }
}

/** JSON in ASCII, as Python writes it. */
function ascii(json: string): string {
  return json.replace(/[\u007f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function plain(chunk: { data: unknown }): Numbers {
  const data = chunk.data;
  if (data instanceof zarr.BoolArray) {
    return new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.length);
  }
  if (data instanceof BigInt64Array || data instanceof BigUint64Array) {
    return Float64Array.from(data as Iterable<unknown> as Iterable<bigint>, Number);
  }
  return data as Numbers;
}

/** Parts of one group that has a manifest: a subject, the stimuli, or the splits. */
export class Group {
  constructor(
    readonly store: Store,
    readonly name: string,
    readonly parts: Named<Part>,
  ) {}

  has(part: string, array?: string): boolean {
    const found = this.parts[part];
    return found !== undefined && (array === undefined || `${array}/zarr.json` in found.files);
  }

  /** Names of the parts that begin with a prefix, without it, sorted. */
  below(prefix: string): string[] {
    const names = Object.keys(this.parts).filter((name) => name.startsWith(prefix));
    return names.map((name) => name.slice(prefix.length)).sort();
  }

  arrays(part: string): string[] {
    const files = Object.keys(this.parts[part]?.files ?? {});
    const nodes = files.filter((key) => key.endsWith("/zarr.json")).map((key) => key.slice(0, -10));
    return nodes.filter((node) => files.some((key) => key.startsWith(`${node}/c/`)));
  }

  /** CRC-32 of the list of a part's objects, by which parts that are made of it name it. */
  fingerprint(part: string): number {
    const files = Object.entries(this.parts[part]?.files ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
    const text = files.map(([key, [size, crc]]) => `${ascii(JSON.stringify(key))}: [${size}, ${crc}]`);
    return crc32(new TextEncoder().encode(`{${text.join(", ")}}`));
  }

  async array(part: string, name: string): Promise<StoredArray> {
    const found = this.parts[part];
    if (!found || !this.has(part, name)) {
      throw new Problem(`${this.name} has no ${part}/${name} in ${this.store.source.name}.`);
    }
    const table = name + NAMES.chunkTable;
    return this.store.array(`${found.path}/${name}`, this.has(part, table) ? () => this.values(part, table) : undefined);
  }

  async attributes(part: string): Promise<Named<unknown>> {
    const path = this.parts[part]?.path ?? "";
    return ((await this.store.node(path)) as Metadata).attributes;
  }

  async values(part: string, name: string): Promise<Numbers> {
    return (await this.array(part, name)).values();
  }

  async text(part: string, name: string): Promise<string[]> {
    return (await this.array(part, name)).text();
  }

  /** Begin to read an array of one chunk, if it is there, which will be asked for soon. */
  prefetch(part: string, name: string): void {
    if (this.has(part, name)) this.array(part, name).then((array) => array.prefetch()).catch(() => undefined);
  }
}

export class Store {
  requests = 0;
  bytes = 0;
  onRead: () => void = () => {};
  readonly #readable: zarr.AsyncReadable;
  readonly #cache = new ByteCache(CACHE_BYTES);
  readonly #sizes = new Map<string, [number, number]>();
  readonly #nodes = new Map<string, Promise<unknown>>();
  #groups: string[] = [];
  readonly #opened = new Map<string, Promise<Group>>();
  readonly #arrays = new Map<string, StoredArray>();
  readonly #reading = new Map<string, Promise<Uint8Array>>();

  private constructor(readonly source: Source) {
    const direct: zarr.AsyncReadable = {
      get: (key) => this.#whole(key.slice(1)),
      getRange: (key, span) => this.#span(key.slice(1), span),
    };
    const joined = zarr.withRangeCoalescing(direct as never, { coalesceSize: 1 << 16 });
    this.#readable = zarr.withByteCaching(joined as never, { cache: this.#cache }) as never;
  }

  /** Read the manifest of the root, which names the groups. */
  static async open(source: Source): Promise<Store> {
    const store = new Store(source);
    const listed = parseManifest(await store.#read(NAMES.manifest), NAMES.manifest) as { groups: string[] };
    store.#groups = listed.groups;
    return store;
  }

  get subjects(): string[] {
    return this.#groups.filter((name) => name.startsWith("sub-")).sort();
  }

  has(group: string): boolean {
    return this.#groups.includes(group);
  }

  /** Parts of a group, as its manifest lists them; read once. */
  group(name: string): Promise<Group> {
    let group = this.#opened.get(name);
    if (!group) {
      group = this.#openGroup(name);
      group.catch(() => this.#opened.delete(name));
      this.#opened.set(name, group);
    }
    return group;
  }

  async #openGroup(name: string): Promise<Group> {
    if (!this.has(name)) return new Group(this, name, {});
    const key = `${name}/${NAMES.manifest}`;
    const { parts } = parseManifest(await this.#read(key), key) as { parts: Named<Part> };
    for (const part of Object.values(parts)) {
      for (const [file, size] of Object.entries(part.files)) this.#sizes.set(`${part.path}/${file}`, size);
    }
    return new Group(this, name, parts);
  }

  /**
   * Metadata of a group or an array. Those of all arrays, which the root has joined, are 1.1 MB of a
   * subject with 30 sessions, and a view needs few of them.
   */
  node(path: string): Promise<unknown> {
    let node = this.#nodes.get(path);
    if (!node) {
      node = this.#whole(`${path}/zarr.json`).then((data) => JSON.parse(new TextDecoder().decode(data)) as unknown);
      node.catch(() => this.#nodes.delete(path));
      this.#nodes.set(path, node);
    }
    return node;
  }

  /** An array; one in shards with its table of chunks. */
  async array(path: string, table?: () => Promise<Numbers>): Promise<StoredArray> {
    const metadata = (await this.node(path)) as Metadata;
    let array = this.#arrays.get(path);
    if (!array) {
      const readable = table ? listed(this.#readable, path, metadata, table) : this.#readable;
      array = new StoredArray(path, metadata, readable, () => this.#cache.clear());
      this.#arrays.set(path, array);
    }
    return array;
  }

  /** A whole object; asked for again before it is there, it is read once. */
  #whole(key: string): Promise<Uint8Array> {
    let reading = this.#reading.get(key);
    if (!reading) {
      reading = this.#readWhole(key).finally(() => this.#reading.delete(key));
      this.#reading.set(key, reading);
    }
    return reading;
  }

  async #readWhole(key: string): Promise<Uint8Array> {
    const expected = this.#sizes.get(key);
    if (!expected) throw new Problem(`${key} is listed by no manifest of ${this.source.name}.`);
    const data = await this.#read(key);
    this.#prove(key, data, expected);
    return data;
  }

  async #span(key: string, span: Span): Promise<Uint8Array> {
    if (!this.#sizes.has(key)) {
      throw new Problem(`${key} is listed by no manifest of ${this.source.name}.`);
    }
    const data = await this.#read(key, span);
    const expected = "length" in span ? span.length : span.suffixLength;
    if (data.length !== expected) {
      throw new Problem(`${key} is cut: ${data.length} bytes came, expected ${expected}.`);
    }
    return data;
  }

  #prove(key: string, data: Uint8Array, expected: [number, number] | undefined): void {
    if (expected && data.length === expected[0] && crc32(data) === expected[1]) return;
    throw new Problem(
      `${key} does not match its checksum: it is damaged, or the store is being written. Load the ` +
        "page again; if that does not help, 'laion-zarr verify' lists what is damaged.",
    );
  }

  async #read(key: string, span?: Span): Promise<Uint8Array> {
    const data = await this.source.read(key, span);
    this.requests += 1;
    this.bytes += data.length;
    this.onRead();
    return data;
  }
}

/** A manifest ends with the CRC-32C of its text before, closed as JSON. */
function parseManifest(data: Uint8Array, key: string): unknown {
  const text = new TextDecoder().decode(data);
  const entry = ',\n "crc32c": ';
  const at = text.lastIndexOf(entry);
  const body = new TextEncoder().encode(`${text.slice(0, at)}\n}`);
  if (at < 0 || text.slice(at + entry.length) !== `${crc32c(body)}\n}\n`) {
    throw new Problem(`${key} does not match its checksum. 'laion-zarr verify' says more.`);
  }
  const manifest = JSON.parse(text) as { schema_version?: number };
  if (manifest.schema_version !== NAMES.schemaVersion) {
    throw new Problem(
      `${key} has schema version ${manifest.schema_version}; this page reads version ` +
        `${NAMES.schemaVersion}. A newer laion_zarr has a newer page.`,
    );
  }
  return manifest;
}
