/**
 * Codecs of the store's chunks, in plain JavaScript: those of numcodecs evaluate strings as code,
 * which the page's security policy forbids.
 */

import { decompress } from "fzstd";
import * as zarr from "zarrita";
import { bloscDecode } from "./blosc";
import { crc32c } from "./checksums";
import { Mismatch } from "./source";

const CRC_BYTES = 4;

abstract class Decoder {
  readonly kind = "bytes_to_bytes";

  abstract decode(data: Uint8Array): Uint8Array;

  encode(): never {
    throw new Error("the explorer writes nothing");
  }
}

class Zstd extends Decoder {
  static fromConfig(): Zstd {
    return new Zstd();
  }

  decode(data: Uint8Array): Uint8Array {
    return decompress(data).slice(); // zarrita reads text from the start of the buffer
  }
}

class Blosc extends Decoder {
  static fromConfig(): Blosc {
    return new Blosc();
  }

  decode(data: Uint8Array): Uint8Array {
    return bloscDecode(data);
  }
}

/** zarrita strips the checksum of a chunk unread; this codec compares it. */
class CheckedCrc32c extends Decoder {
  static fromConfig(): CheckedCrc32c {
    return new CheckedCrc32c();
  }

  decode(data: Uint8Array): Uint8Array {
    const body = data.subarray(0, data.length - CRC_BYTES);
    const view = new DataView(data.buffer, data.byteOffset + body.length, CRC_BYTES);
    if (view.getUint32(0, true) !== crc32c(body)) throw new Mismatch();
    return body;
  }

  computeEncodedSize(size: number): number {
    return size + CRC_BYTES;
  }
}

/** Let zarrita use these codecs. */
export function register(): void {
  for (const [name, codec] of Object.entries({ zstd: Zstd, blosc: Blosc, crc32c: CheckedCrc32c })) {
    zarr.registry.set(name, () => codec as never);
  }
}
