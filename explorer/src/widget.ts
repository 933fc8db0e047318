/** The page as an anywidget: the kernel reads the store, and some of the state is in sync. */

import { mount } from "./page/explorer";
import { nowhere } from "./state";
import { Problem, type Source, type Span } from "./store/source";

/** What the explorer uses of anywidget's model. */
type Model = {
  get(name: string): unknown;
  set(name: string, value: unknown): void;
  save_changes(): void;
  send(content: unknown): void;
  on(event: string, listener: (...values: never[]) => void): void;
};
type Answer = { id: number; error?: string };

/** A store that the kernel reads: works wherever the notebook does. */
class KernelSource implements Source {
  readonly name: string;
  #last = 0;
  readonly #waiting = new Map<number, { done: (data: Uint8Array) => void; failed: (why: Problem) => void }>();

  constructor(readonly model: Model) {
    this.name = String(model.get("_store"));
    model.on("msg:custom", (answer: Answer, buffers: DataView[]) => {
      const waiting = this.#waiting.get(answer.id);
      this.#waiting.delete(answer.id);
      if (answer.error !== undefined) waiting?.failed(new Problem(answer.error));
      else waiting?.done(bytesOf(buffers[0]!));
    });
  }

  read(key: string, span?: Span): Promise<Uint8Array> {
    const id = ++this.#last;
    return new Promise((done, failed) => {
      this.#waiting.set(id, { done, failed });
      this.model.send({ id, key, span: span ?? null });
    });
  }
}

function bytesOf(view: DataView): Uint8Array {
  return new Uint8Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength) as ArrayBuffer);
}

export async function render({ model, el }: { model: Model; el: HTMLElement }): Promise<void> {
  const explorer = await mount(el, new KernelSource(model), nowhere({ subject: String(model.get("subject")) }));
  const { state } = explorer;
  const pull = () => {
    const voxel = model.get("voxel") as number | null;
    const change = { picture: String(model.get("picture") ?? ""), subject: String(model.get("subject") ?? "") };
    state.set({ ...change, voxel: voxel === null ? "" : String(voxel), of: voxel === null ? state.view.of : "voxel" });
  };
  const own = async () => {
    const told = model.get("_overlay") as { name: string; units: string; labels: DataView; values: DataView } | null;
    await explorer.setOwn(told ? {
      name: told.name,
      units: told.units,
      labels: new Int32Array(bytesOf(told.labels).buffer),
      values: new Float32Array(bytesOf(told.values).buffer),
    } : undefined);
  };
  pull();
  if (model.get("_overlay")) await own();
  for (const name of ["voxel", "picture", "subject"]) model.on(`change:${name}`, pull);
  model.on("change:_overlay", () => void own());
  state.subscribe((changed) => {
    const { voxel, picture, subject } = state.view;
    if (changed.has("voxel")) model.set("voxel", voxel === "" ? null : Number(voxel));
    if (changed.has("picture")) model.set("picture", picture);
    if (changed.has("subject")) model.set("subject", subject);
    model.save_changes();
  });
}
