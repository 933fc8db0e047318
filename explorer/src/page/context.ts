/** What all panels share: the store, the subject, the stimuli, and what is looked at. */

import type { Vertices } from "../brain/overlays";
import type { Stimuli } from "../picture/stimuli";
import type { State } from "../state";
import type { Store } from "../store/store";
import type { Responses } from "../voxel/responses";
import type { Subject } from "../voxel/subject";

/** Values of one's own, by voxel label. */
export type OwnValues = { name: string; units: string; labels: Int32Array; values: Float32Array };

export class Context {
  subject!: Subject;
  /** Responses that are shown: of a voxel or a region. */
  responses: Responses | undefined;
  /** Values that lie over the brain, in storage order. */
  shown: Float32Array | undefined;
  /** Values per vertex of the surfaces, where these are shown instead. */
  vertices: Vertices | undefined;
  own: OwnValues | undefined;
  /** Bytes of single trials of a region that are read for its standard error where averages would do. */
  little = 32e6;
  readonly #pictures = new Map<string, Promise<string | undefined>>();

  constructor(
    readonly store: Store,
    readonly stimuli: Stimuli,
    readonly state: State,
  ) {}

  /** Address of a picture in this page's memory; undefined if the store does not hold it. */
  picture(name: string): Promise<string | undefined> {
    let found = this.#pictures.get(name);
    if (!found) {
      found = this.stimuli.picture(name).then((bytes) => {
        return bytes && URL.createObjectURL(new Blob([bytes as Uint8Array<ArrayBuffer>]));
      });
      found.catch(() => this.#pictures.delete(name));
      this.#pictures.set(name, found);
      this.#forget();
    }
    return found;
  }

  #forget(): void {
    for (const [name, address] of this.#pictures) {
      if (this.#pictures.size <= MOST_PICTURES) break;
      this.#pictures.delete(name);
      void address.then((url) => url && URL.revokeObjectURL(url));
    }
  }
}

const MOST_PICTURES = 300;
