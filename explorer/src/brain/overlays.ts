/** What can be laid over the brain: one value per stored voxel, with a name and units. */

import { NAMES } from "../names";
import type { LocalizerMap, Subject } from "../voxel/subject";

export type Overlay = {
  id: string;
  label: string;
  group: string;
  units: string;
  signed: boolean;
  /** Threshold and end of the colours that are shown first; the end of the data if undefined. */
  low: number;
  high: number | undefined;
};

export const NONE: Overlay = {
  id: "none", label: "None", group: "", units: "", signed: false, low: 0, high: 1,
};
export const PICTURE: Overlay = {
  id: "picture", label: "Response to the picture", group: "Pictures", units: "SD", signed: true, low: 0.5, high: 2,
};
export const OWN: Overlay = {
  id: "own", label: "Own values", group: "Notebook", units: "", signed: true, low: 0, high: undefined,
};

const TITLES: Readonly<Record<string, string>> = {
  session_noise_ceiling: "Noise ceiling",
  r2: "R² of the GLM",
  hrf_index: "HRF of the library",
  fracridge: "Ridge fraction",
};

/** All overlays that the store has of a subject. */
export async function overlaysOf(subject: Subject): Promise<Overlay[]> {
  const found: Overlay[] = [NONE];
  for (const name of subject.ceilings) {
    const label = name.replace(/^Noiseceiling/, "");
    found.push({
      id: `ceiling/${name}`, label: `Noise ceiling, ${label}`, group: "Noise ceiling, all sessions",
      units: "percent", signed: false, low: 15, high: 80,
    });
  }
  for (const map of await subject.localizers()) {
    found.push({
      id: `localizer/${map.task}/${map.session}/${map.contrast}`, label: `${map.task}: ${map.contrast}`, group: "Localizers (z)",
      units: "z", signed: true, low: 2.3, high: 8,
    });
  }
  for (const session of subject.group.below(NAMES.mapsPart)) {
    for (const [name, { units }] of Object.entries(NAMES.maps)) {
      if (!subject.group.has(`${NAMES.mapsPart}${session}`, name)) continue;
      const percent = units === "percent";
      found.push({
        id: `map/${session}/${name}`, label: `${TITLES[name] ?? name}, ${session}`, group: session,
        units, signed: false, low: percent ? 15 : 0, high: percent ? 80 : undefined,
      });
    }
  }
  return found;
}

/** Values of an overlay that the store holds, in storage order. */
export async function valuesOf(subject: Subject, id: string): Promise<Float32Array | undefined> {
  const [kind, ...rest] = id.split("/");
  if (kind === "ceiling") return subject.ceilingOf(rest[0]!);
  if (kind === "map") return subject.map(rest[0]!, rest[1]!);
  if (kind !== "localizer") return undefined;
  const map = same(await subject.localizers(), rest);
  return map && subject.localizer(map.row);
}

export type Vertices = { L: Float32Array; R: Float32Array };

/** Values of an overlay per vertex of the subject's surfaces, where the store has such: of localizers. */
export async function verticesOf(subject: Subject, id: string): Promise<Vertices | undefined> {
  const [kind, ...rest] = id.split("/");
  if (kind !== "localizer") return undefined;
  const values = async (hemi: "L" | "R") => {
    const map = same(await subject.localizersOf(hemi), rest);
    return map && subject.localizer(map.row, hemi);
  };
  const [L, R] = await Promise.all([values("L"), values("R")]);
  return L && R && { L, R };
}

function same(maps: LocalizerMap[], [task, session, contrast]: string[]): LocalizerMap | undefined {
  return maps.find((one) => one.task === task && one.session === session && one.contrast === contrast);
}

/** End of the colours: the value that few are beyond. */
export function highEnd(values: Float32Array): number {
  const sizes = Float32Array.from(values.filter((value) => Number.isFinite(value) && value !== 0), Math.abs).sort();
  return sizes.length ? sizes[Math.floor(0.995 * (sizes.length - 1))]! : 1;
}
