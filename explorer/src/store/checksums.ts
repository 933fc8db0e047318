/** CRC-32 (as gzip has it) and CRC-32C, eight bytes at a time. */

function tables(polynomial: number): Uint32Array[] {
  const first = new Uint32Array(256);
  for (let byte = 0; byte < 256; byte++) {
    let value = byte;
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ polynomial : value >>> 1;
    first[byte] = value;
  }
  const all = [first];
  for (let row = 1; row < 8; row++) {
    const before = all[row - 1]!;
    all.push(before.map((value) => first[value & 255]! ^ (value >>> 8)));
  }
  return all;
}

function checksum(polynomial: number): (data: Uint8Array) => number {
  const [t0, t1, t2, t3, t4, t5, t6, t7] = tables(polynomial) as [
    Uint32Array, Uint32Array, Uint32Array, Uint32Array,
    Uint32Array, Uint32Array, Uint32Array, Uint32Array,
  ];
  return (data) => {
    let crc = -1;
    let at = 0;
    const whole = data.length - (data.length % 8);
    while (at < whole) {
      crc ^= data[at]! | (data[at + 1]! << 8) | (data[at + 2]! << 16) | (data[at + 3]! << 24);
      crc =
        t7[crc & 255]! ^ t6[(crc >>> 8) & 255]! ^ t5[(crc >>> 16) & 255]! ^ t4[crc >>> 24]! ^
        t3[data[at + 4]!]! ^ t2[data[at + 5]!]! ^ t1[data[at + 6]!]! ^ t0[data[at + 7]!]!;
      at += 8;
    }
    while (at < data.length) crc = t0[(crc ^ data[at++]!) & 255]! ^ (crc >>> 8);
    return (crc ^ -1) >>> 0;
  };
}

export const crc32 = checksum(0xedb88320);
export const crc32c = checksum(0x82f63b78);
