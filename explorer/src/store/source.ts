/** Where the bytes of a store come from: objects and ranges of them, by key. */

/** A part of an object: bytes from an offset on, or its last bytes. */
export type Span = { offset: number; length: number } | { suffixLength: number };

export interface Source {
  /** What messages call the store. */
  readonly name: string;
  read(key: string, span?: Span): Promise<Uint8Array>;
}

/** Read as they are stored; float16 as its bits, which not every browser has numbers for. */
export type Numbers = Float32Array | Float64Array | Int8Array | Int16Array | Int32Array | Uint8Array | Uint16Array | Uint32Array;

/** Bytes do not match their checksum. */
export class Mismatch extends Error {}

/** Something that a user can read and act on; any other error is a fault of the page. */
export class Problem extends Error {}

const PAUSES = [300, 1000, 3000];
const MAY_PASS = new Set([408, 429, 500, 502, 503, 504]);

/** A store on a web server that answers range requests. */
export class HttpSource implements Source {
  readonly name: string;

  constructor(address: string) {
    this.name = address.replace(/\/+$/, "");
  }

  async read(key: string, span?: Span): Promise<Uint8Array> {
    const url = `${this.name}/${key.split("/").map(encodeURIComponent).join("/")}`;
    const answer = await this.#ask(url, span);
    if (answer.status === 404 || answer.status === 403) {
      await answer.body?.cancel();
      const what = answer.status === 404 ? "is missing" : "may not be read (HTTP 403)";
      throw new Problem(`${url} ${what}.`);
    }
    if (span && answer.status === 200) {
      await answer.body?.cancel();
      throw new Problem(`${this.name}: this web server does not answer range requests.`);
    }
    if (!answer.ok) throw new Problem(`${url} cannot be read (HTTP ${answer.status}).`);
    return new Uint8Array(await answer.arrayBuffer());
  }

  async #ask(url: string, span?: Span): Promise<Response> {
    const headers = span ? { Range: rangeHeader(span) } : undefined;
    for (let attempt = 0; ; attempt++) {
      const pause = PAUSES[attempt];
      try {
        const answer = await fetch(url, { headers });
        if (pause === undefined || !MAY_PASS.has(answer.status)) return answer;
        await answer.body?.cancel();
      } catch (error) {
        if (pause === undefined) {
          const why = error instanceof Error ? error.message : String(error);
          throw new Problem(`${url} cannot be reached (${why}). Is the server still running?`);
        }
      }
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}

function rangeHeader(span: Span): string {
  if ("suffixLength" in span) return `bytes=-${span.suffixLength}`;
  return `bytes=${span.offset}-${span.offset + span.length - 1}`;
}

/** Bytes of answers that were read, the least recently used forgotten first. */
export class ByteCache {
  readonly #held = new Map<string, Uint8Array | undefined>();
  #bytes = 0;

  constructor(readonly most: number) {}

  has(key: string): boolean {
    return this.#held.has(key);
  }

  get(key: string): Uint8Array | undefined {
    const value = this.#held.get(key);
    this.#held.delete(key);
    this.#held.set(key, value);
    return value;
  }

  set(key: string, value: Uint8Array | undefined): void {
    this.#bytes += (value?.byteLength ?? 0) - (this.#held.get(key)?.byteLength ?? 0);
    this.#held.delete(key);
    this.#held.set(key, value);
    for (const [oldest, bytes] of this.#held) {
      if (this.#bytes <= this.most || oldest === key) break;
      this.#held.delete(oldest);
      this.#bytes -= bytes?.byteLength ?? 0;
    }
  }

  clear(): void {
    this.#held.clear();
    this.#bytes = 0;
  }
}
