/** The page as a whole: panels around one state. */

import { Stimuli } from "../picture/stimuli";
import type { Address } from "../state";
import { State } from "../state";
import { Problem, type Source } from "../store/source";
import { Store } from "../store/store";
import { Subject } from "../voxel/subject";
import { BrainPanel } from "./brainpanel";
import { Context, type OwnValues } from "./context";
import { count, h, labelled, option, size } from "./dom";
import { PicturePanel } from "./picturepanel";
import { ResponsePanel } from "./responsepanel";

/** What `mount` hands out: the numbers behind the page, and a way to change what it shows. */
export type Explorer = { context: Context; state: State; setOwn(own: OwnValues | undefined): Promise<void> };

/** Show a store within an element; rejects with the reason if it cannot be opened. */
export async function mount(root: HTMLElement, source: Source, address: Address): Promise<Explorer> {
  const status = h("p", { class: "status", role: "status" }, `Opening ${source.name} …`);
  root.classList.add("explorer");
  root.replaceChildren(status);
  try {
    return await build(root, status, source, new State(address));
  } catch (error) {
    status.classList.add("problem");
    status.textContent = error instanceof Error ? error.message : String(error);
    if (!(error instanceof Problem)) console.error(error);
    throw error;
  }
}

async function build(root: HTMLElement, status: HTMLElement, source: Source, state: State): Promise<Explorer> {
  const store = await Store.open(source);
  if (store.subjects.length === 0) throw new Problem(`${source.name} holds no subject: 'laion-zarr convert' adds some.`);
  const context = new Context(store, await Stimuli.open(store), state);
  const choice = h("select", {}, ...store.subjects.map((name) => option(name, name)));
  choice.onchange = () => state.set({ subject: choice.value, voxel: "", of: state.view.region ? "region" : "" });
  const sessions = h("p", { class: "hint" });
  const [brain, responses, picture] = [new BrainPanel(context), new ResponsePanel(context), new PicturePanel(context)];
  const traffic = h("footer", { class: "hint" });
  store.onRead = () => {
    traffic.textContent = `${source.name}: ${count(store.requests, "request")}, ${size(store.bytes)} read`;
    traffic.dataset.requests = String(store.requests);
    traffic.dataset.bytes = String(store.bytes);
  };
  let last: Promise<Subject> | undefined;
  const chosen = () => (store.subjects.includes(state.view.subject) ? state.view.subject : store.subjects[0]!);
  const subjectNamed = async (name: string): Promise<Subject> => {
    const known = await last?.catch(() => undefined);
    if (known?.name !== name) last = Subject.open(store, name);
    return last!;
  };
  const open = async () => {
    const name = chosen();
    if (state.view.subject && name !== state.view.subject) {
      status.textContent = `${state.view.subject} is not in this store; shown is ${name}.`;
    }
    context.subject = await subjectNamed(name);
    choice.value = name;
    sessions.textContent = count(context.subject.sessions.length, "session");
    responses.load();
    await Promise.all([brain.load(), responses.refresh(), picture.refresh()]);
  };
  const header = h("header", {}, h("h1", {}, "LAION-fMRI explorer"), labelled("Subject", choice), sessions);
  root.replaceChildren(header, status, h("main", {}, brain.element, responses.element, picture.element), traffic);
  status.textContent = "";
  responses.onShown = () => picture.showResponse();
  await Promise.all([brain.attach(), subjectNamed(chosen())]); // what the first view needs, meanwhile
  await open();
  state.set({ subject: context.subject.name }, { replace: true });
  listen(state, open, { brain, responses, picture, status });
  root.dataset.ready = "yes";
  const setOwn = async (own: OwnValues | undefined) => {
    context.own = own;
    await brain.load();
    const shown = own ? "own" : state.view.overlay === "own" ? "" : state.view.overlay;
    state.set({ overlay: shown, low: "", high: "" });
    await brain.refresh();
  };
  return { context, state, setOwn };
}

type Panels = { brain: BrainPanel; responses: ResponsePanel; picture: PicturePanel; status: HTMLElement };

function listen(state: State, open: () => Promise<void>, { brain, responses, picture, status }: Panels): void {
  state.subscribe((changed) => {
    const any = (...keys: Parameters<typeof changed.has>[0][]) => keys.some((key) => changed.has(key));
    if (any("subject")) {
      open().catch((error: unknown) => {
        status.classList.add("problem");
        status.textContent = error instanceof Error ? error.message : String(error);
      });
      return;
    }
    const ofPicture = state.view.overlay === "picture" && any("picture");
    if (ofPicture || any("overlay", "view", "low", "high", "colours", "region", "style")) void brain.refresh();
    else if (any("voxel")) brain.cross();
    if (any("voxel", "region", "of")) void responses.refresh();
    if (any("picture")) {
      responses.mark();
      void picture.refresh();
    }
  });
}
