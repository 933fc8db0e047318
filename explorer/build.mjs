// Bundle the page into the package: node build.mjs FOLDER. The same sources give the same bytes.
import { build } from "esbuild";
import { copyFile, mkdir, readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

const folder = process.argv[2];
await mkdir(folder, { recursive: true });
const { metafile } = await build({
  entryPoints: ["src/main.ts"],
  outfile: join(folder, "explorer.js"),
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  charset: "utf8",
  legalComments: "none", // all licences are in one file, below
  metafile: true,
  // The page reads Zarr itself, with codecs of its own: NiiVue's readers of Zarr would bring a
  // second zarrita, and zarrita's default codecs a megabyte of WebAssembly.
  plugins: [{
    name: "left-out",
    setup({ onResolve, onLoad }) {
      onResolve({ filter: /^zarrita$/ }, ({ resolveDir }) => resolveDir.includes("@niivue") ? { path: "none", namespace: "none" } : undefined);
      onResolve({ filter: /^numcodecs\// }, () => ({ path: "none", namespace: "none" }));
      onLoad({ filter: /.*/, namespace: "none" }, () => ({ contents: "module.exports = {};" }));
    },
  }],
});
for (const name of ["index.html", "start.js", "explorer.css"]) await copyFile(name, join(folder, name));

const packages = [...new Set(Object.keys(metafile.inputs)
  .map((path) => /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1])
  .filter((path) => path !== undefined))].sort();
const texts = [];
for (const path of packages) {
  const { name, version, license } = JSON.parse(await readFile(join(path, "package.json"), "utf8"));
  const file = (await readdir(path)).find((one) => /^licen[cs]e/i.test(one));
  const text = file ? await readFile(join(path, file), "utf8") : "";
  texts.push(`${name} ${version} (${license})\n\n${text.replaceAll("\r\n", "\n").trim()}\n`);
}
await writeFile(join(folder, "licenses.txt"), texts.join(`\n${"-".repeat(70)}\n\n`));
