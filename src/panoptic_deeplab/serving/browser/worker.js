// Where the page predicts: a thread beside it, so that it stays awake. Each message {number, ...} gets an answer
// {number, found} or {number, problem}.
//
//   {model, backend}   load a model of models.json
//   {image}            decode, prepare, run, describe a Blob   ─▶ {base, result, seconds, backend, threads}

import {decode} from "./image.js";
import {unpacked} from "./png.js";
import {drawable, prepare} from "./prepare.js";
import {toResult} from "./result.js";

const BUILDS = { // of onnxruntime-web: its interface, and the program in WebAssembly
  webgpu: {script: "ort.webgpu.min.mjs", program: "ort-wasm-simd-threaded.asyncify", providers: ["webgpu", "wasm"]},
  wasm: {script: "ort.wasm.min.mjs", program: "ort-wasm-simd-threaded", providers: ["wasm"]},
};
const MOST_THREADS = 4;

const builds = {}; // backend -> its interface, once it is loaded
let model = null, session = null, Tensor = null, engine = null;

async function get(path) {
  const response = await fetch(new URL(path, import.meta.url)).catch(() => null);
  if (!response?.ok) throw new Error(`The page lacks its part ${path}. Was its whole folder copied, and is its server still there?`);
  return response.blob();
}

/** The interface of a backend, with its program in place. */
async function build(backend) {
  if (builds[backend]) return builds[backend];
  const {script, program} = BUILDS[backend];
  const packed = await get(`runtime/${program}.wasm.gz`);
  const [first, second] = new Uint8Array(await packed.slice(0, 2).arrayBuffer());
  const isPacked = first === 0x1f && second === 0x8b; // some servers unpack it on the way
  const ort = await import(`./runtime/${script}`);
  ort.env.logLevel = "error";
  ort.env.wasm.wasmBinary = isPacked ? await unpacked(packed, "gzip") : new Uint8Array(await packed.arrayBuffer());
  ort.env.wasm.wasmPaths = {mjs: new URL(`runtime/${program}.mjs`, import.meta.url).href};
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(MOST_THREADS, navigator.hardwareConcurrency || 1) : 1;
  return builds[backend] = ort;
}

/** Make a model ready on the best backend that there is: WebGPU, else WebAssembly. */
async function load(chosen, wanted) {
  const bytes = new Uint8Array(await (await get(chosen.file)).arrayBuffer());
  const hasGpu = wanted !== "wasm" && await navigator.gpu?.requestAdapter().catch(() => null);
  await session?.release().catch(() => null); // of a GPU that is gone
  session = null;
  for (const backend of hasGpu ? ["webgpu", "wasm"] : ["wasm"]) {
    try {
      const ort = await build(backend);
      session = await ort.InferenceSession.create(bytes, {executionProviders: BUILDS[backend].providers, logSeverityLevel: 3});
      [model, Tensor, engine] = [chosen, ort.Tensor, {backend, threads: ort.env.wasm.numThreads}];
      return;
    } catch (error) {
      if (backend === "wasm") throw error;
    }
  }
}

async function predict(blob) {
  const image = await decode(blob), start = performance.now();
  const {width, height, data} = prepare(image, model.input), size = model.input.size;
  if (size && (size[0] !== height || size[1] !== width)) {
    throw new Error(`This model takes images of ${size[0]} x ${size[1]} pixels only (height x width), and this one has ${height} x ${width}.`);
  }
  const outputs = await run(data, [1, height, width, 3]);
  const arrays = Object.fromEntries(Object.entries(outputs).map(([name, output]) => [name, output.data]));
  const result = toResult(arrays, {width, height}, {width: image.width, height: image.height}, model);
  return {base: drawable(image, model.input), result, seconds: (performance.now() - start) / 1000, ...engine};
}

/** The outputs of the model; what a GPU does not run goes to WebAssembly. */
async function run(data, shape) {
  try {
    return await session.run({images: new Tensor("uint8", data, shape)});
  } catch (error) {
    if (engine.backend === "wasm") throw error;
    await load(model, "wasm");
    return session.run({images: new Tensor("uint8", data, shape)});
  }
}

let last = Promise.resolve();

onmessage = ({data: {number, ...message}}) => { // one after the other
  last = last.then(() => message.image ? predict(message.image) : load(message.model, message.backend))
    .then((found) => postMessage({number, found}), (error) => postMessage({number, problem: String(error?.message ?? error)}));
};
