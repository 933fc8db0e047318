/** Values to colours, the same in slices, on surfaces and in the legend. */

export type Scale = { low: number; high: number; signed: boolean; scheme: string };
export type Rgb = readonly [number, number, number];

type Ramp = readonly string[];
type Scheme = { label: string; positive: Ramp; negative: Ramp };

const COLD: Ramp = ["#08306b", "#2171b5", "#6baed6", "#c6dbef"];

/** Schemes whose steps also differ in lightness, so that they are told apart without hue. */
export const SCHEMES: Readonly<Record<string, Scheme>> = {
  inferno: { label: "Inferno", positive: ["#420a68", "#932667", "#dd513a", "#fca50a", "#fcffa4"], negative: COLD },
  viridis: { label: "Viridis", positive: ["#440154", "#3b528b", "#21918c", "#5ec962", "#fde725"], negative: COLD },
  cividis: { label: "Cividis", positive: ["#00224e", "#434e6c", "#7d7c78", "#bcae6c", "#fee838"], negative: COLD },
  orange: { label: "Orange and blue", positive: ["#7f3b08", "#d95f02", "#fdb863", "#fee8c8"], negative: COLD },
};
export const DEFAULT_SCHEME = "inferno";
export const REGION_COLOUR: Rgb = [86, 214, 240];

const MIDDLE = 128;

function rgb(hex: string): Rgb {
  const value = parseInt(hex.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

function along(ramp: Ramp, share: number): Rgb {
  const at = Math.min(Math.max(share, 0), 1) * (ramp.length - 1);
  const first = Math.min(Math.floor(at), ramp.length - 2);
  const [from, to] = [rgb(ramp[first]!), rgb(ramp[first + 1]!)];
  const mix = (n: 0 | 1 | 2) => Math.round(from[n] + (to[n] - from[n]) * (at - first));
  return [mix(0), mix(1), mix(2)];
}

/** Position of a value in the colour table; 0 is not shown: below the threshold, or no value. */
export function indexOf(value: number, { low, high, signed }: Scale): number {
  const size = signed ? Math.abs(value) : value;
  if (!(size >= low)) return 0;
  const share = high > low ? Math.min((size - low) / (high - low), 1) : 1;
  if (!signed) return 1 + Math.round(share * 254);
  return value < 0 ? MIDDLE - 1 - Math.round(share * (MIDDLE - 2)) : MIDDLE + Math.round(share * (255 - MIDDLE));
}

/** Colours of all positions. */
export function colourTable({ signed, scheme }: Scale): Rgb[] {
  const { positive, negative } = SCHEMES[scheme] ?? SCHEMES[DEFAULT_SCHEME]!;
  return Array.from({ length: 256 }, (_, index): Rgb => {
    if (index === 0) return [0, 0, 0];
    if (!signed) return along(positive, (index - 1) / 254);
    if (index < MIDDLE) return along(negative, (MIDDLE - 1 - index) / (MIDDLE - 2));
    return along(positive, (index - MIDDLE) / (255 - MIDDLE));
  });
}

/** CSS gradients of the legend, from small to large. */
export function gradients({ signed, scheme }: Scale): { positive: string; negative: string | undefined } {
  const found = SCHEMES[scheme] ?? SCHEMES[DEFAULT_SCHEME]!;
  const css = (ramp: Ramp, to: string) => `linear-gradient(to ${to}, ${ramp.join(", ")})`;
  return { positive: css(found.positive, "right"), negative: signed ? css(found.negative, "left") : undefined };
}
